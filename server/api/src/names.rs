//! Generated names and secrets, in the alphabet that Rancher uses for both.
//!
//! The alphabet has no vowels (no words by accident) and no characters that look alike. All of it comes from the
//! cryptographic generator, which the operating system seeds.

use crate::secret::Secret;

/// The 27 characters of generated names and secrets.
pub const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Characters that are appended to `metadata.generateName`.
pub const SUFFIX_LENGTH: usize = 5;

/// Characters of a token's secret: 54 × log2(27) ≈ 257 bits.
pub const SECRET_LENGTH: usize = 54;

/// `generateName` of clusters.
pub const CLUSTER_PREFIX: &str = "c-";
/// `generateName` of users.
pub const USER_PREFIX: &str = "u-";
/// `generateName` of role templates.
pub const ROLE_TEMPLATE_PREFIX: &str = "rt-";
/// `generateName` of login and API tokens.
pub const TOKEN_PREFIX: &str = "token-";
/// `generateName` of tokens in kubeconfigs; the user's name follows.
pub const KUBECONFIG_TOKEN_PREFIX: &str = "kubeconfig-";

/// The longest name of an object, in bytes (RFC 1123 subdomain, as Kubernetes has it).
pub const MAX_NAME_LENGTH: usize = 253;

/// A name made of `prefix` and [`SUFFIX_LENGTH`] random characters.
///
/// A prefix that would make the name longer than 63 bytes is cut, as Kubernetes does.
#[must_use]
pub fn generate(prefix: &str) -> String {
    const MAX_GENERATED: usize = 63;
    let mut end = prefix.len().min(MAX_GENERATED - SUFFIX_LENGTH);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    name.extend(random(SUFFIX_LENGTH).into_iter().map(char::from));
    name
}

/// A new secret of [`SECRET_LENGTH`] characters: registration tokens and the secret half of API tokens.
#[must_use]
pub fn secret() -> Secret {
    Secret::new(random(SECRET_LENGTH))
}

/// Whether `name` may name an object: an RFC 1123 subdomain (lower-case letters, digits, `-` and `.`, 253 bytes).
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_NAME_LENGTH && name.split('.').all(is_label_of_any_length)
}

/// Whether `name` is an RFC 1123 label (lower-case letters, digits and `-`, 63 bytes).
#[must_use]
pub fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_label_of_any_length(name)
}

/// Whether `name` may be the name of a cluster, which stands in URLs and is a namespace's name: `c-` and 5 to 40 of
/// `[a-z0-9-]`, not ending in `-`.
#[must_use]
pub fn is_cluster_name(name: &str) -> bool {
    match name.strip_prefix(CLUSTER_PREFIX) {
        Some(rest) => (5..=40).contains(&rest.len()) && is_label(name),
        None => false,
    }
}

/// An environment variable's name: a C identifier of at most 128 characters.
#[must_use]
pub fn is_env_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&name.len()) && name.bytes().all(inner) && !name.as_bytes()[0].is_ascii_digit()
}

fn is_label_of_any_length(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

/// Uniform over the alphabet: bytes from 243 (= 9 × 27) up are thrown away, or the first letters would come more often.
fn random(length: usize) -> Vec<u8> {
    let bound = 256 / ALPHABET.len() * ALPHABET.len();
    let mut out = Vec::with_capacity(length);
    let mut pool = zeroize::Zeroizing::new([0_u8; 64]);
    while out.len() < length {
        aws_lc_rs::rand::fill(&mut pool[..]).expect("the random generator is seeded when the process starts");
        let letters = pool.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < bound);
        out.extend(letters.map(|byte| ALPHABET[byte % ALPHABET.len()]).take(length - out.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_have_the_prefix_and_five_letters_of_the_alphabet() {
        let name = generate("c-");
        assert_eq!(name.len(), 7);
        assert!(name.bytes().skip(2).all(|byte| ALPHABET.contains(&byte)), "{name}");
        assert!(is_cluster_name(&name));
    }

    #[test]
    fn a_long_prefix_is_cut_at_a_character() {
        let name = generate(&"ä".repeat(60));
        assert!(name.len() <= 63 && name.len() > 60, "{} bytes", name.len());
    }

    #[test]
    fn secrets_have_54_letters_and_never_repeat() {
        let (one, two) = (secret(), secret());
        assert_eq!(one.len(), 54);
        assert!(one.expose().iter().all(|byte| ALPHABET.contains(byte)));
        assert!(one.expose() != two.expose());
    }

    /// A modulo without rejection would give 13 letters 10/256 and 14 letters 9/256: 11 % apart, far outside of 5 %.
    #[test]
    fn every_letter_is_as_likely() {
        let mut counts = BTreeMap::new();
        let total = 540_000;
        for letter in random(total) {
            *counts.entry(letter).or_insert(0_usize) += 1;
        }
        let expected = total / ALPHABET.len();
        for (letter, count) in counts {
            assert!(count.abs_diff(expected) < expected / 20, "{}: {count} of {expected}", char::from(letter));
        }
    }

    #[test]
    fn cluster_names_are_closed() {
        for good in ["c-abcde", "c-m-abcdefgh", "c-12345"] {
            assert!(is_cluster_name(good), "{good}");
        }
        for bad in ["", "c-", "c-abcd", "c-abcde-", "c-ABCDE", "c-abc/de", "c-..%2f", "d-abcde", "c-äbcde", "c-abc.de"]
        {
            assert!(!is_cluster_name(bad), "{bad}");
        }
        assert!(!is_cluster_name(&format!("c-{}", "a".repeat(41))));
    }

    #[test]
    fn subdomains() {
        for good in ["a", "a.b", "kubeconfig-u-abcde.c-abcde12345", "server-url"] {
            assert!(is_subdomain(good), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a-", "A", "a_b", "a/b", "a.-b"] {
            assert!(!is_subdomain(bad), "{bad}");
        }
        assert!(!is_subdomain(&"a".repeat(254)));
    }
}
