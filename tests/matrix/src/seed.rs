//! Where the random numbers of a run begin.

use std::fmt;
use std::process::Command;
use std::str::FromStr;
use std::sync::OnceLock;

/// Where the random numbers of a run begin: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

/// The text is no seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSeed;

impl Seed {
    /// The variable that sets it.
    pub const VARIABLE: &'static str = "CATTLE_SEED";

    /// `CATTLE_SEED`, else the checked-out commit's; a tree without a commit has a fixed one.
    ///
    /// # Panics
    /// When `CATTLE_SEED` is no seed: another one would not repeat the failure that it was set for.
    #[must_use]
    pub fn of_this_run() -> Self {
        static SEED: OnceLock<Seed> = OnceLock::new();
        *SEED.get_or_init(|| match std::env::var_os(Self::VARIABLE).filter(|value| !value.is_empty()) {
            Some(given) => given
                .to_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("{}={}: {InvalidSeed}", Self::VARIABLE, given.display())),
            None => commit().map_or(Self(0), |commit| Self::of_commit(&commit)),
        })
    }

    /// The seed of a commit: the first 16 digits of its hash.
    #[must_use]
    pub fn of_commit(hash: &str) -> Self {
        hash.get(..16).and_then(|start| start.parse().ok()).unwrap_or(Self(0))
    }

    /// The start for one point of one matrix: no two of them have the same numbers.
    pub(crate) fn of(self, name: &str, point: u64) -> u64 {
        // FNV-1a: stable, and spread enough for the generator behind it, which mixes its seed.
        let bytes = self.0.to_le_bytes().into_iter().chain(point.to_le_bytes()).chain(name.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

impl FromStr for Seed {
    type Err = InvalidSeed;

    fn from_str(text: &str) -> Result<Self, InvalidSeed> {
        let digits = text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits { u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidSeed) } else { Err(InvalidSeed) }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for InvalidSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a seed is at most 16 hexadecimal digits, as a test prints it")
    }
}

impl std::error::Error for InvalidSeed {}

/// The commit that is checked out; `None` outside a repository.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"]).output().ok()?;
    let hash = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    Some(hash.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let seed = Seed::of_commit("fa27154c0ffee0123456789abcdef0123456789a");
        assert_eq!(seed.to_string(), "fa27154c0ffee012");
        assert_eq!(seed.to_string().parse(), Ok(seed));
        assert_eq!("7".parse(), Ok(Seed(7)));
        for bad in ["", "g", "+7", "-1", " 7", "0x7", "00000000000000000"] {
            assert_eq!(bad.parse::<Seed>(), Err(InvalidSeed), "{bad:?}");
        }
    }

    #[test]
    fn another_commit_name_or_point_is_another_start() {
        let (one, two) = (Seed(1), Seed(2));
        let starts = [one.of("a", 0), one.of("a", 1), one.of("b", 0), two.of("a", 0)];
        for (at, start) in starts.iter().enumerate() {
            assert!(!starts[..at].contains(start), "{starts:?}");
        }
        assert_eq!(one.of("a", 0), Seed(1).of("a", 0));
    }
}
