//! Keys under a passphrase: argon2id (RFC 9106), then AES-256-GCM-SIV. The file is one line of JSON.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Secret;
use crate::sqlite::open_error::KeyProblem;

const FORMAT: &str = "cattle-exported-keys 1";
/// The shortest passphrase, in bytes.
const MIN_PASSPHRASE: usize = 12;
/// Cost of one guess: 64 MiB, three passes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// What a file may demand at most, in KiB and passes: it comes from outside.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 16;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    memory_kib: u32,
    passes: u32,
    salt: String,
    nonce: String,
    ciphertext: String,
}

/// Encrypts keys.
pub(super) fn encrypt(keys: &Secret, passphrase: &Secret) -> Result<String, KeyProblem> {
    if passphrase.len() < MIN_PASSPHRASE {
        return Err(KeyProblem::PassphraseTooShort);
    }
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| KeyProblem::Crypto)?;
    let key = derive(passphrase, &salt, MEMORY_KIB, PASSES)?;
    let mut ciphertext = keys.expose().to_vec();
    let data = associated_data(MEMORY_KIB, PASSES, &salt);
    let nonce = key.seal_in_place_append_tag(Aad::from(data), &mut ciphertext).map_err(|_| KeyProblem::Crypto)?;
    let file = File {
        format: FORMAT.to_owned(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        salt: STANDARD.encode(salt),
        nonce: STANDARD.encode(nonce.as_ref()),
        ciphertext: STANDARD.encode(ciphertext),
    };
    serde_json::to_string(&file).map(|text| text + "\n").map_err(|_| KeyProblem::Crypto)
}

/// Decrypts what [`encrypt`] wrote.
pub(super) fn decrypt(text: &str, passphrase: &Secret) -> Result<Secret, KeyProblem> {
    let file: File = serde_json::from_str(text).map_err(|_| KeyProblem::Malformed)?;
    if file.format != FORMAT || file.memory_kib > MAX_MEMORY_KIB || file.passes > MAX_PASSES {
        return Err(KeyProblem::Malformed);
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| KeyProblem::Malformed);
    let (salt, nonce) = (decode(&file.salt)?, decode(&file.nonce)?);
    let mut bytes = Zeroizing::new(decode(&file.ciphertext)?);
    let key = derive(passphrase, &salt, file.memory_kib, file.passes)?;
    let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| KeyProblem::Malformed)?;
    let data = associated_data(file.memory_kib, file.passes, &salt);
    let plain = key.open_in_place(nonce, Aad::from(data), &mut bytes).map_err(|_| KeyProblem::Passphrase)?;
    Ok(Secret::new(plain.to_vec()))
}

fn derive(passphrase: &Secret, salt: &[u8], memory_kib: u32, passes: u32) -> Result<RandomizedNonceKey, KeyProblem> {
    let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(|_| KeyProblem::Malformed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose(), salt, &mut *key)
        .map_err(|_| KeyProblem::Malformed)?;
    RandomizedNonceKey::new(&AES_256_GCM_SIV, &*key).map_err(|_| KeyProblem::Crypto)
}

fn associated_data(memory_kib: u32, passes: u32, salt: &[u8]) -> Vec<u8> {
    [FORMAT.as_bytes(), &memory_kib.to_be_bytes(), &passes.to_be_bytes(), salt].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[test]
    fn only_the_passphrase_opens_it() {
        let text = encrypt(&passphrase("the keys"), &passphrase("correct horse")).expect("encrypted");
        assert!(!text.contains("the keys"));
        let opened = decrypt(&text, &passphrase("correct horse")).unwrap_or_else(|problem| panic!("{problem}"));
        assert_eq!(opened.expose(), b"the keys");
        assert!(matches!(decrypt(&text, &passphrase("correct horsf")), Err(KeyProblem::Passphrase)));
        let cheaper = text.replace("65536", "65528");
        assert!(matches!(decrypt(&cheaper, &passphrase("correct horse")), Err(KeyProblem::Passphrase)));
    }

    #[test]
    fn a_file_cannot_demand_all_memory_and_a_short_passphrase_is_refused() {
        let text = encrypt(&passphrase("the keys"), &passphrase("correct horse")).expect("encrypted");
        let greedy = text.replace("65536", "4294967295");
        for bad in [greedy.as_str(), "", "{}", &text[..text.len() / 2]] {
            assert!(matches!(decrypt(bad, &passphrase("correct horse")), Err(KeyProblem::Malformed)), "{bad}");
        }
        let short = encrypt(&passphrase("the keys"), &passphrase("short"));
        assert!(matches!(short, Err(KeyProblem::PassphraseTooShort)));
    }
}
