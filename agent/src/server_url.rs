//! Where the server is.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::{DnsName, ServerName};
use url::{Host, Url};

/// The server's URL: `https://HOST[:PORT]`, nothing else in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerUrl {
    host: Host<String>,
    port: u16,
    tls_name: ServerName<'static>,
}

impl ServerUrl {
    /// The host: a name in lower case (punycode) or an address.
    pub fn host(&self) -> &Host<String> {
        &self.host
    }

    /// The port; 443 unless the URL names one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT`, IPv6 in brackets: what `Host`, `CONNECT` and people take.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The name that the server's certificate has to bear.
    pub fn tls_name(&self) -> ServerName<'static> {
        self.tls_name.clone()
    }

    /// The WebSocket's URI: `wss://HOST:PORT` and `path`.
    pub(crate) fn websocket(&self, path: &str) -> String {
        format!("wss://{}{path}", self.authority())
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(ServerUrlError::Syntax)?;
        if url.scheme() != "https" {
            return Err(ServerUrlError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ServerUrlError::Credentials);
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(ServerUrlError::Path);
        }
        let host = url.host().ok_or(ServerUrlError::Host)?.to_owned();
        let tls_name = match &host {
            Host::Domain(name) => {
                ServerName::DnsName(DnsName::try_from(name.clone()).map_err(|_| ServerUrlError::Host)?)
            }
            Host::Ipv4(address) => ServerName::IpAddress((*address).into()),
            Host::Ipv6(address) => ServerName::IpAddress((*address).into()),
        };
        let port = url.port_or_known_default().ok_or(ServerUrlError::Host)?;
        Ok(Self { host, port, tls_name })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            443 => write!(f, "https://{}", self.host),
            port => write!(f, "https://{}:{port}", self.host),
        }
    }
}

/// Why a text is no server URL.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerUrlError {
    /// Not a URL.
    #[error("not a URL (https://NAME or https://NAME:PORT)")]
    Syntax(#[source] url::ParseError),
    /// Plain HTTP or something else: agents speak only TLS.
    #[error("the server URL must begin with https://")]
    NotHttps,
    /// A user name or password, which would end up in logs.
    #[error("the server URL must hold no user name or password")]
    Credentials,
    /// More than a host and a port.
    #[error("the server URL must end after the host and the port")]
    Path,
    /// No host, or one that no certificate could bear.
    #[error("the server URL names no valid host")]
    Host,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_parsed_and_shown() {
        for (text, shown, authority) in [
            ("https://Cattle.Example.com", "https://cattle.example.com", "cattle.example.com:443"),
            ("https://cattle.example.com:8443/", "https://cattle.example.com:8443", "cattle.example.com:8443"),
            ("https://10.0.0.1:443", "https://10.0.0.1", "10.0.0.1:443"),
            ("https://[2001:db8::1]:444", "https://[2001:db8::1]:444", "[2001:db8::1]:444"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.authority().as_str()), (shown, authority));
        }
        let url: ServerUrl = "https://[2001:db8::1]".parse().unwrap();
        assert_eq!(url.websocket("/v3/connect"), "wss://[2001:db8::1]:443/v3/connect");
        assert_eq!(url.tls_name().to_str(), "2001:db8::1");
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        use ServerUrlError::{Credentials, Host, NotHttps, Path};
        for (text, error) in [
            ("http://cattle.example.com", NotHttps),
            ("wss://cattle.example.com", NotHttps),
            ("https://user@cattle.example.com", Credentials),
            ("https://user:word@cattle.example.com", Credentials),
            ("https://cattle.example.com/base", Path),
            ("https://cattle.example.com/?a=b", Path),
            ("https://cattle.example.com/#f", Path),
            ("https://a..b", Host),
        ] {
            assert_eq!(text.parse::<ServerUrl>(), Err(error), "{text}");
        }
        assert!(matches!("cattle.example.com".parse::<ServerUrl>(), Err(ServerUrlError::Syntax(_))));
        assert!(matches!("https://".parse::<ServerUrl>(), Err(ServerUrlError::Syntax(_))));
    }
}
