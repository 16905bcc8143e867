//! The address that agents and users reach.

use std::{fmt, net::IpAddr, str::FromStr};

use rustls_pki_types::ServerName;
use url::{Host, Url};

/// The server's public address: `https://HOST[:PORT]`, nothing else.
///
/// Everything that leaves the server names it: certificates, the import manifest, kubeconfigs. A path, a query or
/// user information would be lost on the way (kubectl and agents append their own paths), so they are refused here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// The host as a certificate names it: without brackets and port.
    #[must_use]
    pub fn host(&self) -> String {
        match self.0.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        }
    }

    /// The port, 443 where the address names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// The name that a client verifies in the server's certificate.
    #[must_use]
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host()).ok()
    }

    /// Whether only this machine can reach the address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
            None => false,
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Why a text is no server address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ServerUrlError {
    /// Not a URL at all.
    #[error("not a URL; write it as https://cattle.example.org")]
    Unparsable,
    /// Another scheme than https.
    #[error("the address must start with https://; agents and users send credentials to it")]
    NotHttps,
    /// No host, or one that a certificate cannot name.
    #[error("the host is missing or is no DNS name or IP address")]
    NoHost,
    /// More than scheme, host and port.
    #[error("only https://HOST[:PORT] is possible: no user, path, query or fragment")]
    NotAnOrigin,
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text.trim()).map_err(|_| ServerUrlError::Unparsable)?;
        if url.scheme() != "https" {
            return Err(ServerUrlError::NotHttps);
        }
        let origin_only = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        if !origin_only {
            return Err(ServerUrlError::NotAnOrigin);
        }
        let url = Self(url);
        if url.server_name().is_none() {
            return Err(ServerUrlError::NoHost);
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_accepted_and_printed_without_a_trailing_slash() {
        for (text, printed, host, port) in [
            ("https://cattle.example.org", "https://cattle.example.org", "cattle.example.org", 443),
            ("https://cattle.example.org/", "https://cattle.example.org", "cattle.example.org", 443),
            ("https://10.0.0.1:8443", "https://10.0.0.1:8443", "10.0.0.1", 8443),
            ("https://[fd00::1]:8443", "https://[fd00::1]:8443", "fd00::1", 8443),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host().as_str(), url.port()), (printed, host, port));
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (text, error) in [
            ("cattle.example.org", ServerUrlError::Unparsable),
            ("http://cattle.example.org", ServerUrlError::NotHttps),
            ("https://", ServerUrlError::Unparsable),
            ("https://user@cattle.example.org", ServerUrlError::NotAnOrigin),
            ("https://cattle.example.org/base", ServerUrlError::NotAnOrigin),
            ("https://cattle.example.org/?q", ServerUrlError::NotAnOrigin),
            ("https://cattle.example.org/#f", ServerUrlError::NotAnOrigin),
        ] {
            assert_eq!(text.parse::<ServerUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_apart() {
        for (text, loopback) in [
            ("https://127.0.0.1:8443", true),
            ("https://[::1]:8443", true),
            ("https://localhost", true),
            ("https://10.0.0.1", false),
            ("https://localhost.example.org", false),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
