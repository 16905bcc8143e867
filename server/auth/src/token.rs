//! Bearer tokens: how a secret is made, and what is kept of it.
//!
//! A token is `name:secret`. The name is the Token object's and is public. The secret is 54 characters of Rancher's
//! alphabet of 27, about 256 bits from the operating system. What is kept is
//! `HMAC-SHA-256(salt, "cattle token v1\0" ‖ len‖scope ‖ len‖name ‖ secret)`, sealed beside the object. The scope (the
//! one cluster a token is good for) and the name stand inside, so a hash that is copied to another token, or a token
//! whose scope somebody edits, verifies no more. A slow hash would add nothing at this entropy but a way to keep the
//! server busy.

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cattle_api::{Secret, names};
use zeroize::Zeroizing;

use crate::credential::Credential;
use crate::user::TokenName;

/// Marks our hash format among others'.
const SCHEME: &str = "$c1";
const SALT_LENGTH: usize = 32;

/// A secret that was just made. It is shown to its owner once, and wiped when dropped.
pub struct TokenSecret(Secret);

impl TokenSecret {
    /// A new one from the cryptographic generator.
    #[must_use]
    pub fn generate() -> Self {
        Self(names::secret())
    }

    /// What the owner presents: `name:secret`.
    #[must_use]
    pub fn bearer(&self, name: &TokenName) -> Secret {
        let mut bearer = Vec::with_capacity(name.as_str().len() + 1 + self.0.len());
        bearer.extend_from_slice(name.as_str().as_bytes());
        bearer.push(b':');
        bearer.extend_from_slice(self.0.expose());
        Secret::new(bearer)
    }

    /// What to seal as [`TOKEN_HASH`](cattle_api::sealed::TOKEN_HASH) beside the Token of this name; `scope` is its
    /// `spec.clusterName` when that is not empty.
    #[must_use]
    pub fn hash(&self, name: &TokenName, scope: Option<&str>) -> Secret {
        let mut salt = [0_u8; SALT_LENGTH];
        rand::fill(&mut salt).expect("the random generator is seeded when the process starts");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salt);
        let tag = hmac::sign(&key, &message(name, scope, self.0.expose()));
        Secret::from(format!("{SCHEME}:{}:{}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(tag.as_ref())))
    }
}

/// What is kept of a secret, ready to compare with.
pub(crate) struct TokenHash {
    key: hmac::Key,
    tag: Vec<u8>,
}

impl TokenHash {
    /// Reads what [`TokenSecret::hash`] made.
    pub(crate) fn parse(stored: &str) -> Option<Self> {
        let mut parts = stored.split(':');
        let (scheme, salt, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let salt = STANDARD_NO_PAD.decode(salt).ok()?;
        let tag = STANDARD_NO_PAD.decode(tag).ok()?;
        let whole = scheme == SCHEME && parts.next().is_none() && salt.len() == SALT_LENGTH && tag.len() == 32;
        whole.then(|| Self { key: hmac::Key::new(hmac::HMAC_SHA256, &salt), tag })
    }

    /// A hash that no secret has. Comparing with it costs the same as with a real one: that is its use.
    pub(crate) fn nobody() -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &[0; SALT_LENGTH]), tag: vec![0; 32] }
    }

    /// Constant time in the secret.
    pub(crate) fn verify(&self, credential: &Credential, scope: Option<&str>) -> bool {
        let message = message(credential.name(), scope, credential.secret().as_bytes());
        hmac::verify(&self.key, &message, &self.tag).is_ok()
    }
}

/// Whether a presented secret has the shape of one we made. The shape is public.
pub(crate) fn is_well_formed(secret: &str) -> bool {
    secret.len() == names::SECRET_LENGTH && secret.bytes().all(|byte| names::ALPHABET.contains(&byte))
}

fn message(name: &TokenName, scope: Option<&str>, secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let scope = scope.unwrap_or_default();
    let mut message = Zeroizing::new(Vec::with_capacity(64 + scope.len() + name.as_str().len() + secret.len()));
    message.extend_from_slice(b"cattle token v1\0");
    for part in [scope, name.as_str()] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part.as_bytes());
    }
    message.extend_from_slice(secret);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TokenName {
        TokenName::parse(text).unwrap()
    }

    fn present(name: &str, secret: &TokenSecret) -> Credential {
        Credential::parse(&format!("{name}:{}", secret.0.expose_str().unwrap())).unwrap()
    }

    fn parse(stored: &Secret) -> TokenHash {
        TokenHash::parse(stored.expose_str().unwrap()).unwrap()
    }

    #[test]
    fn a_hash_verifies_its_own_secret_name_and_scope_only() {
        let secret = TokenSecret::generate();
        let hash = parse(&secret.hash(&name("token-aaaaa"), Some("c-aaaaa")));
        assert!(hash.verify(&present("token-aaaaa", &secret), Some("c-aaaaa")));
        assert!(!hash.verify(&present("token-aaaaa", &secret), Some("c-bbbbb")), "another scope");
        assert!(!hash.verify(&present("token-aaaaa", &secret), None), "the scope taken away");
        assert!(!hash.verify(&present("token-bbbbb", &secret), Some("c-aaaaa")), "another token's row");
        assert!(!hash.verify(&present("token-aaaaa", &TokenSecret::generate()), Some("c-aaaaa")));
        assert!(!TokenHash::nobody().verify(&present("token-aaaaa", &secret), None));
    }

    #[test]
    fn parts_cannot_move_between_scope_and_name() {
        let secret = TokenSecret::generate();
        let hash = parse(&secret.hash(&name("a-b"), Some("c")));
        assert!(!hash.verify(&present("b", &secret), Some("ca-")));
        assert!(!hash.verify(&present("ca-b", &secret), None));
    }

    #[test]
    fn one_secret_hashes_differently_each_time() {
        let secret = TokenSecret::generate();
        let (one, two) = (secret.hash(&name("token-aaaaa"), None), secret.hash(&name("token-aaaaa"), None));
        assert!(one.expose() != two.expose());
    }

    #[test]
    fn the_bearer_reads_back_as_a_credential() {
        let secret = TokenSecret::generate();
        let bearer = secret.bearer(&name("token-aaaaa"));
        let credential = Credential::parse(bearer.expose_str().unwrap()).unwrap();
        assert!(parse(&secret.hash(&name("token-aaaaa"), None)).verify(&credential, None));
    }

    #[test]
    fn a_damaged_hash_is_no_hash() {
        let stored = TokenSecret::generate().hash(&name("token-aaaaa"), None);
        let good = stored.expose_str().unwrap();
        let cut = &good[..good.len() - 4];
        let longer = format!("{good}:x");
        for bad in ["", "$c1", "$c1::", "$c2:AAAA:AAAA", cut, &longer, "$c1:AAAA:AAAA"] {
            assert!(TokenHash::parse(bad).is_none(), "{bad}");
        }
    }
}
