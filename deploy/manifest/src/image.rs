//! Image references: the grammar of the distribution project, and a registry in front.

use std::fmt;
use std::str::FromStr;

use crate::parameters::{ParameterError, is_authority};

/// `[registry/]path[:tag][@sha256:digest]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image(String);

impl Image {
    /// The reference.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The reference behind a registry prefix, as the setting `system-default-registry` asks for. One that already
    /// begins with the prefix stays as it is.
    #[must_use]
    pub fn behind(&self, registry: &Registry) -> Self {
        let prefix = format!("{}/", registry.0);
        if self.0.starts_with(&prefix) { self.clone() } else { Self(prefix + &self.0) }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Image {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to a registry's port.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[slash..].find(':') {
            Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
            None => (rest, None),
        };
        let valid = text.len() <= 512
            && is_repository(name)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(|d| d.strip_prefix("sha256:").is_some_and(is_hex_digest));
        if valid { Ok(Self(text.into())) } else { Err(ParameterError::Image) }
    }
}

/// `host[:port][/path…]`, put in front of every image of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry(String);

impl FromStr for Registry {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let mut parts = text.split('/');
        let host = parts.next().is_some_and(is_authority);
        if text.len() <= 255 && host && parts.all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(ParameterError::Registry)
        }
    }
}

fn is_repository(name: &str) -> bool {
    match name.split_once('/') {
        // The first part is a host if it looks like one, as docker decides it.
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            is_authority(host) && path.split('/').all(is_component)
        }
        Some(_) | None => name.split('/').all(is_component),
    }
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = part.bytes().next().is_some_and(plain) && part.bytes().next_back().is_some_and(plain);
    let inner = part.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'));
    let runs = !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|run| part.contains(run));
    edges && inner && runs
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_hex_digest(digest: &str) -> bool {
    digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("cattle/agent@sha256:{}", "a".repeat(64));
        for good in
            ["agent", "cattle/agent:v0.1.0", "localhost/a", "10.0.0.1:5000/x/y:1", "reg.example.com/a_b/c--d", &digest]
        {
            assert!(good.parse::<Image>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "a:",
            "a:b:c",
            "A",
            "a b",
            "a\n- b",
            "a@sha256:00",
            "a@md5:00",
            "-a",
            "a..b",
            "reg.example.com:x/a",
            "a/B",
            "a:-t",
            "a'\"",
            "a/../b",
            "{{a}}",
        ] {
            assert_eq!(bad.parse::<Image>(), Err(ParameterError::Image), "{bad:?}");
        }
    }

    #[test]
    fn a_registry_stands_in_front_once() {
        let registry: Registry = "reg.example.com:5000/mirror".parse().unwrap();
        let image: Image = "cattle/agent:v1".parse().unwrap();
        assert_eq!(image.behind(&registry).as_str(), "reg.example.com:5000/mirror/cattle/agent:v1");
        assert_eq!(image.behind(&registry).behind(&registry), image.behind(&registry));
        assert!(image.behind(&registry).as_str().parse::<Image>().is_ok());
        for bad in ["", "a b", "https://x", "a/", "a//b", "a:b", "../x"] {
            assert_eq!(bad.parse::<Registry>(), Err(ParameterError::Registry), "{bad:?}");
        }
    }
}
