//! Where an API server listens, as an agent is told it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use url::Host;

/// `HOST:PORT` of the cluster's API server; an IPv6 address stands in brackets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    host: Host<String>,
    port: u16,
}

impl Address {
    /// From a host as `KUBERNETES_SERVICE_HOST` has it (an IPv6 address without brackets) and a port.
    pub fn new(host: &str, port: u16) -> Result<Self, InvalidAddress> {
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => Host::Ipv4(address),
            Ok(IpAddr::V6(address)) => Host::Ipv6(address),
            Err(_) => Host::parse(host).map_err(|_| InvalidAddress)?,
        };
        Ok(Self { host, port })
    }

    /// The addresses behind it, for a dial.
    pub fn dial_target(&self) -> (String, u16) {
        let host = match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        (host, self.port)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::new(&address.ip().to_string(), address.port());
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress)?;
        Self::new(host, port.parse().map_err(|_| InvalidAddress)?)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Not a host and a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not HOST:PORT; an IPv6 address stands in brackets")]
pub struct InvalidAddress;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_and_ports() {
        for (text, shown) in [
            ("127.0.0.1:6443", "127.0.0.1:6443"),
            ("[fd00::1]:443", "[fd00::1]:443"),
            ("api.example.com:443", "api.example.com:443"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for text in ["", "127.0.0.1", ":443", "fd00::1:443x", "a b:443", "a:65536", "a/b:443"] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress), "{text}");
        }
        assert_eq!(Address::new("fd00::1", 443).unwrap().dial_target(), ("fd00::1".to_owned(), 443));
    }
}
