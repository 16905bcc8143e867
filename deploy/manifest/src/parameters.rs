//! The parameters of the manifest, each a type that only holds what may stand in one.

use std::fmt;
use std::str::FromStr;

/// Why a parameter was refused. Never repeats the refused text: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// Not an `https://host[:port]` URL.
    #[error("the server's URL must be https://HOST or https://HOST:PORT")]
    ServerUrl,
    /// Not 64 lower-case hexadecimal digits.
    #[error("a CA checksum is 64 lower-case hexadecimal digits")]
    CaChecksum,
    /// Not an RFC 1123 label of at most 63 characters.
    #[error("an identifier is a DNS label: at most 63 of a-z, 0-9 and '-'")]
    Label,
    /// Not a registration token.
    #[error("a registration token is 32 to 128 of a-z, A-Z, 0-9")]
    RegistrationToken,
    /// Not an image reference.
    #[error("not an image reference ([registry/]name[:tag][@digest])")]
    Image,
    /// Not a registry prefix.
    #[error("not a registry prefix (host[:port][/path])")]
    Registry,
    /// Not a name that an environment variable of the agent may have.
    #[error("an environment variable's name is a C identifier and does not begin with CATTLE_")]
    EnvName,
    /// Too long, or holds control characters.
    #[error("an environment variable's value is at most 4096 characters without control characters")]
    EnvValue,
    /// More variables than a manifest carries.
    #[error("at most {MAX_ENV} environment variables")]
    TooManyEnv,
}

/// Most variables in [`crate::ImportManifest::agent_env`].
pub const MAX_ENV: usize = 64;

/// `https://HOST[:PORT]` of the server, as agents reach it; no path, query or user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// The URL without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerUrl {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let authority = text.strip_prefix("https://").ok_or(ParameterError::ServerUrl)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let valid = !authority.is_empty() && authority.len() <= 261 && is_authority(authority);
        if valid { Ok(Self(format!("https://{authority}"))) } else { Err(ParameterError::ServerUrl) }
    }
}

/// SHA-256 of the server's CA (`/v3/settings/cacerts`), lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaChecksum(String);

impl CaChecksum {
    /// The 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CaChecksum {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let valid = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid { Ok(Self(text.into())) } else { Err(ParameterError::CaChecksum) }
    }
}

/// An RFC 1123 label: a cluster's id, the server's install id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let edges = !text.starts_with('-') && !text.ends_with('-');
        let valid = (1..=63).contains(&text.len()) && edges && text.bytes().all(inner);
        if valid { Ok(Self(text.into())) } else { Err(ParameterError::Label) }
    }
}

/// A registration token in clear. It stands in the manifest's Secret and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistrationToken(String);

impl RegistrationToken {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for RegistrationToken {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let valid = (32..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if valid { Ok(Self(text.into())) } else { Err(ParameterError::RegistrationToken) }
    }
}

/// One variable for the agent's container, for example `HTTPS_PROXY`.
///
/// `CATTLE_*` is the manifest's own: a cluster's settings cannot replace what pins the server.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    name: String,
    value: String,
}

impl EnvVar {
    /// Checks name and value.
    ///
    /// # Errors
    /// [`ParameterError::EnvName`], [`ParameterError::EnvValue`].
    pub fn new(name: &str, value: &str) -> Result<Self, ParameterError> {
        let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let tail = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let ours = name.len() >= 7 && name.as_bytes()[..7].eq_ignore_ascii_case(b"CATTLE_");
        if !head || !tail || ours || name.len() > 128 {
            return Err(ParameterError::EnvName);
        }
        // `$(NAME)` would be expanded by the kubelet: a value is literal.
        if value.len() > 4096 || value.chars().any(char::is_control) || value.contains("$(") {
            return Err(ParameterError::EnvValue);
        }
        Ok(Self { name: name.into(), value: value.into() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn value(&self) -> &str {
        &self.value
    }
}

// A value may carry a proxy's password.
impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvVar").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
pub(crate) fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, "")) => (Host::V6(v6), None),
            Some((v6, rest)) if rest.starts_with(':') => (Host::V6(v6), Some(&rest[1..])),
            Some(_) | None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (Host::Name(host), Some(port)),
            None => (Host::Name(text), None),
        },
    };
    let port = port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0));
    port && match host {
        Host::V6(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        Host::Name(name) => name.len() <= 253 && name.split('.').all(is_host_label),
    }
}

enum Host<'a> {
    V6(&'a str),
    Name(&'a str),
}

fn is_host_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_urls() {
        for good in ["https://cattle.example.com", "https://10.0.0.1:8443", "https://[::1]:443", "https://a/"] {
            let url: ServerUrl = good.parse().unwrap_or_else(|_| panic!("{good}"));
            assert_eq!(url.as_str(), good.trim_end_matches('/'));
        }
        for bad in [
            "http://a",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a?b",
            "https://a#b",
            "https://a:0",
            "https://a:99999",
            "https://a:+1",
            "https://-a",
            "https://a..b",
            "https://[::1",
            "https://a\nb",
            "https://[::1]x",
        ] {
            assert_eq!(bad.parse::<ServerUrl>(), Err(ParameterError::ServerUrl), "{bad:?}");
        }
    }

    #[test]
    fn labels_and_checksums() {
        assert!("c-abc12".parse::<Label>().is_ok());
        for bad in ["", "-a", "a-", "A", "a.b", "a/../b", "a\n", &"a".repeat(64)] {
            assert_eq!(bad.parse::<Label>(), Err(ParameterError::Label), "{bad:?}");
        }
        assert!("0123456789abcdef".repeat(4).parse::<CaChecksum>().is_ok());
        for bad in [String::new(), "0".repeat(63), "A".repeat(64), "g".repeat(64)] {
            assert_eq!(bad.parse::<CaChecksum>(), Err(ParameterError::CaChecksum), "{bad:?}");
        }
    }

    #[test]
    fn env_cannot_replace_what_pins_the_server() {
        assert!(EnvVar::new("HTTPS_PROXY", "http://proxy:3128").is_ok());
        for bad in ["", "1A", "A B", "A=B", "CATTLE_SERVER", "cattle_ca_checksum", "A\n"] {
            assert_eq!(EnvVar::new(bad, "x"), Err(ParameterError::EnvName), "{bad:?}");
        }
        for bad in ["a\nb", "\u{0}", "$(CATTLE_SERVER)", &"x".repeat(4097)] {
            assert_eq!(EnvVar::new("A", bad), Err(ParameterError::EnvValue), "{bad:?}");
        }
    }
}
