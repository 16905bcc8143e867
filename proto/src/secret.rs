//! A text that must not be seen: it has no `Debug`, no `Display` and no `Serialize`, is overwritten when dropped and
//! compares in constant time.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text: a token, a password, a key in text form.
///
/// It goes on the wire only as a field that a wire type marks with `#[serde(with = "crate::secret::wire")]`, and is read
/// only through [`Secret::expose`], so that every place that shows it can be found by that name.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`. The buffer is overwritten when the secret is dropped.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Never for logs, errors, URLs, metrics or arguments of a process.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Length in bytes; it is no secret.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no text at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// Compares in a time that depends on the lengths only.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// Serde adapter for the wire types of this crate: a text of at most [`limits::TOKEN`](crate::limits::TOKEN) bytes.
pub(crate) mod wire {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use zeroize::Zeroize;

    use super::Secret;
    use crate::limits;

    pub(crate) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        let token = !text.is_empty() && text.len() <= limits::TOKEN && text.bytes().all(|b| b.is_ascii_graphic());
        if !token {
            text.zeroize();
            return Err(de::Error::custom("not a token"));
        }
        Ok(Secret::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn equal_only_to_the_same_text() {
        assert!(Secret::new("abc".into()) == Secret::new("abc".into()));
        assert!(Secret::new("abc".into()) != Secret::new("abd".into()));
        assert!(Secret::new("abc".into()) != Secret::new("abcd".into()));
        assert!(Secret::new(String::new()).is_empty());
    }
}
