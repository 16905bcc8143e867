//! The keys that sealed values are encrypted with.
//!
//! AES-256-GCM-SIV with random nonces: a repeated nonce, should it ever happen, tells only that two values are equal. The
//! associated data binds a value to the object's UID, the field and the key's version, so that a value which is moved on the
//! disk to another row, or back from an old copy under a retired key, does not open.
//!
//! The file has one key per line, `<version> <base64>`, after a line that names the format. The newest version seals, all of
//! them open. So a key is replaced without a moment in which a value cannot be read: add, seal again, remove the old one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::data_dir::write_private;
use super::open_error::{KeyProblem, OpenError};
use crate::Secret;

const HEADER: &str = "cattle-seal-keys 1";
const KEY_LENGTH: usize = 32;

/// Where a sealed value belongs.
pub(super) struct Place<'a> {
    pub(super) table: &'static str,
    pub(super) uid: &'a str,
    pub(super) field: &'a str,
}

/// A sealed value, as it is stored.
pub(super) struct Sealed {
    pub(super) key_version: u32,
    pub(super) nonce: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
}

/// All keys that open values, and the one that seals.
pub(super) struct Keyring {
    keys: BTreeMap<u32, (RandomizedNonceKey, Zeroizing<Vec<u8>>)>,
    active: u32,
}

impl Keyring {
    /// A keyring with one new key.
    pub(super) fn generate() -> Result<Self, KeyProblem> {
        let mut keyring = Self { keys: BTreeMap::new(), active: 0 };
        keyring.add()?;
        Ok(keyring)
    }

    /// Adds a key and seals with it from now on.
    pub(super) fn add(&mut self) -> Result<u32, KeyProblem> {
        let mut bytes = Zeroizing::new(vec![0; KEY_LENGTH]);
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyProblem::Crypto)?;
        self.insert(self.active + 1, bytes)?;
        Ok(self.active)
    }

    /// Forgets every key but the one that seals.
    pub(super) fn retire(&mut self) {
        let active = self.active;
        self.keys.retain(|version, _| *version == active);
    }

    /// The version that seals.
    #[cfg(test)]
    pub(super) fn active(&self) -> u32 {
        self.active
    }

    /// Reads the file; `None` when there is none.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, OpenError> {
        let keys = |problem| OpenError::Keys { path: path.to_owned(), problem };
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let text = match fs::read(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        if fs::metadata(path).map_err(io)?.permissions().mode() & 0o077 != 0 {
            return Err(keys(KeyProblem::Readable));
        }
        Self::parse(&text).map(Some).map_err(keys)
    }

    /// Writes the file, whole or not at all.
    pub(super) fn store(&self, path: &Path) -> Result<(), OpenError> {
        write_private(path, self.to_text().expose()).map_err(|source| OpenError::Io { path: path.to_owned(), source })
    }

    /// Reads the file's text.
    pub(super) fn parse(text: &[u8]) -> Result<Self, KeyProblem> {
        let text = str::from_utf8(text).map_err(|_| KeyProblem::Malformed)?;
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(KeyProblem::Malformed);
        }
        let mut keyring = Self { keys: BTreeMap::new(), active: 0 };
        for line in lines {
            let (version, key) = line.split_once(' ').ok_or(KeyProblem::Malformed)?;
            let version = version.parse().map_err(|_| KeyProblem::Malformed)?;
            let key = Zeroizing::new(STANDARD.decode(key).map_err(|_| KeyProblem::Malformed)?);
            if key.len() != KEY_LENGTH || version <= keyring.active {
                return Err(KeyProblem::Malformed);
            }
            keyring.insert(version, key)?;
        }
        if keyring.keys.is_empty() { Err(KeyProblem::Malformed) } else { Ok(keyring) }
    }

    /// The file's text.
    pub(super) fn to_text(&self) -> Secret {
        let mut text = format!("{HEADER}\n");
        for (version, (_, bytes)) in &self.keys {
            let encoded = Zeroizing::new(STANDARD.encode(bytes));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{version} {}", encoded.as_str());
        }
        Secret::from(text)
    }

    /// Seals a value with the newest key.
    pub(super) fn seal(&self, place: &Place<'_>, value: &[u8]) -> Result<Sealed, KeyProblem> {
        let (key, _) = self.keys.get(&self.active).ok_or(KeyProblem::Crypto)?;
        let mut ciphertext = Vec::with_capacity(value.len() + 16);
        ciphertext.extend_from_slice(value);
        let nonce = key
            .seal_in_place_append_tag(Aad::from(place.associated_data(self.active)), &mut ciphertext)
            .map_err(|_| KeyProblem::Crypto)?;
        Ok(Sealed { key_version: self.active, nonce: nonce.as_ref().to_vec(), ciphertext })
    }

    /// Opens a value; `None` when it is not what was sealed for this place, or the key is gone.
    pub(super) fn open(&self, place: &Place<'_>, sealed: Sealed) -> Option<Secret> {
        let (key, _) = self.keys.get(&sealed.key_version)?;
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).ok()?;
        let mut bytes = Zeroizing::new(sealed.ciphertext);
        let plain = key.open_in_place(nonce, Aad::from(place.associated_data(sealed.key_version)), &mut bytes).ok()?;
        Some(Secret::new(plain.to_vec()))
    }

    fn insert(&mut self, version: u32, bytes: Zeroizing<Vec<u8>>) -> Result<(), KeyProblem> {
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, &bytes).map_err(|_| KeyProblem::Crypto)?;
        self.keys.insert(version, (key, bytes));
        self.active = version;
        Ok(())
    }
}

impl Place<'_> {
    /// Every part with its length before it: no two places have the same bytes.
    fn associated_data(&self, key_version: u32) -> Vec<u8> {
        let mut data = b"cattle sealed value 1".to_vec();
        for part in [self.table, self.uid, self.field] {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part.as_bytes());
        }
        data.extend_from_slice(&key_version.to_be_bytes());
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { table: "sealed", uid: "uid-1", field: "token-hash" };

    fn again(sealed: &Sealed) -> Sealed {
        Sealed { key_version: sealed.key_version, nonce: sealed.nonce.clone(), ciphertext: sealed.ciphertext.clone() }
    }

    #[test]
    fn a_value_opens_in_its_own_place_only() {
        let mut keyring = Keyring::generate().expect("a key");
        let sealed = keyring.seal(&PLACE, b"secret").expect("sealed");
        assert!(!sealed.ciphertext.windows(6).any(|window| window == b"secret"));
        let opened = keyring.open(&PLACE, again(&sealed)).expect("opens");
        assert_eq!(opened.expose(), b"secret");

        let others = [
            Place { uid: "uid-2", ..PLACE },
            Place { field: "password-hash", ..PLACE },
            Place { table: "meta", ..PLACE },
            Place { uid: "uid-1t", field: "oken-hash", ..PLACE },
        ];
        for other in others {
            assert!(keyring.open(&other, again(&sealed)).is_none(), "{} {}", other.uid, other.field);
        }
        keyring.add().expect("a key");
        let moved = Sealed { key_version: keyring.active(), ..again(&sealed) };
        assert!(keyring.open(&PLACE, moved).is_none(), "another key's version");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let keyring = Keyring::generate().expect("a key");
        let sealed = keyring.seal(&PLACE, b"secret").expect("sealed");
        for bit in 0..sealed.ciphertext.len() * 8 {
            let mut changed = again(&sealed);
            changed.ciphertext[bit / 8] ^= 1 << (bit % 8);
            assert!(keyring.open(&PLACE, changed).is_none(), "bit {bit}");
        }
        for bit in 0..sealed.nonce.len() * 8 {
            let mut changed = again(&sealed);
            changed.nonce[bit / 8] ^= 1 << (bit % 8);
            assert!(keyring.open(&PLACE, changed).is_none(), "nonce bit {bit}");
        }
        for length in 0..sealed.ciphertext.len() {
            let cut = Sealed { ciphertext: sealed.ciphertext[..length].to_vec(), ..again(&sealed) };
            assert!(keyring.open(&PLACE, cut).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn old_keys_open_until_they_are_retired() {
        let mut keyring = Keyring::generate().expect("a key");
        let old = keyring.seal(&PLACE, b"secret").expect("sealed");
        assert_eq!(keyring.add().expect("a key"), 2);
        let mut keyring = Keyring::parse(keyring.to_text().expose()).expect("its own text");
        assert_eq!(keyring.active(), 2);
        assert!(keyring.open(&PLACE, again(&old)).is_some());
        keyring.retire();
        assert!(keyring.open(&PLACE, old).is_none());
    }

    #[test]
    fn malformed_files_are_refused() {
        let good = Keyring::generate().expect("a key").to_text();
        let good = good.expose_str().expect("text");
        let second = good.lines().nth(1).expect("a key");
        let header = HEADER;
        for bad in [
            String::new(),
            header.to_owned(),
            format!("{header}\n1 AAAA\n"),
            format!("{header}\n{second}\n{second}\n"),
            format!("{header}\n0 {}\n", &second[2..]),
            format!("{header}\nx {}\n", &second[2..]),
            format!("other\n{second}\n"),
        ] {
            assert!(matches!(Keyring::parse(bad.as_bytes()), Err(KeyProblem::Malformed)), "{bad}");
        }
        assert!(matches!(Keyring::parse(&[0xff, 0xfe]), Err(KeyProblem::Malformed)));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("seal.key");
        assert!(Keyring::load(&path).expect("no file").is_none());
        Keyring::generate().expect("a key").store(&path).expect("written");
        assert!(Keyring::load(&path).expect("ours").is_some());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        let refused = Keyring::load(&path).err().expect("refused");
        assert!(matches!(refused, OpenError::Keys { problem: KeyProblem::Readable, .. }), "{refused}");
    }
}
