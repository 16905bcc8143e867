//! The name of a CA that people and manifests pass on.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

/// SHA-256 of a server's CA certificates as PEM text with a line feed at its end: what `CATTLE_CA_CHECKSUM` is.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct CaChecksum([u8; 32]);

impl CaChecksum {
    /// The checksum of `pem`; the line feed at its end is added when it is missing.
    #[must_use]
    pub fn of(pem: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(pem.as_bytes());
        if !pem.ends_with('\n') {
            context.update(b"\n");
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

/// Takes 64 hexadecimal digits; colons between them, as many programs print them, are left out.
impl FromStr for CaChecksum {
    type Err = CaChecksumError;

    fn from_str(text: &str) -> Result<Self, CaChecksumError> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        if digits.len() != 64 {
            return Err(CaChecksumError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(0).zip(digit(1)).map(|(high, low)| high << 4 | low).ok_or(CaChecksumError)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for CaChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CaChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaChecksum({self})")
    }
}

/// Not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a CA checksum is 64 hexadecimal digits (SHA-256)")]
pub struct CaChecksumError;

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'abc\n' | sha256sum`
    const ABC: &str = "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb";

    #[test]
    fn it_is_over_the_text_with_one_line_feed_at_its_end() {
        assert_eq!(CaChecksum::of("abc").to_string(), ABC);
        assert_eq!(CaChecksum::of("abc\n"), CaChecksum::of("abc"));
        assert_ne!(CaChecksum::of("abc\n\n"), CaChecksum::of("abc"));
    }

    #[test]
    fn it_is_64_digits_in_any_case_with_colons_or_without() {
        let pairs: Vec<&str> = (0..64).step_by(2).map(|at| &ABC[at..at + 2]).collect();
        for good in [ABC.to_owned(), ABC.to_uppercase(), pairs.join(":")] {
            assert_eq!(good.parse(), Ok(CaChecksum::of("abc")), "{good}");
        }
        let long = format!("{ABC}0");
        for bad in ["", "ab", &ABC[1..], &long, &ABC.replace('e', "g"), &"é".repeat(32), &":".repeat(64)] {
            assert_eq!(bad.parse::<CaChecksum>(), Err(CaChecksumError), "{bad}");
        }
    }
}
