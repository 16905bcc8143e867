//! Which HTTP proxy, if any, stands between the agent and the server: `HTTPS_PROXY` and `NO_PROXY` as operators know
//! them from other tools.
//!
//! `NO_PROXY` is a comma-separated list. `*` switches the proxy off; `10.0.0.0/8` and `fd00::/8` cover addresses;
//! `example.com` covers the name and everything below it, `.example.com` and `*.example.com` only what is below it;
//! `example.com:8443` only that port. `localhost` and loopback addresses never go through a proxy.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cattle_proto::secret::Secret;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::server_url::ServerUrl;

/// The proxy and the exceptions to it.
#[derive(Clone, Debug, Default)]
pub struct ProxySettings {
    /// The proxy for `https` URLs.
    pub https_proxy: Option<ProxyUrl>,
    /// Servers that are reached without it.
    pub no_proxy: NoProxy,
}

impl ProxySettings {
    /// The proxy for `server`, or `None` for a direct connection.
    pub fn proxy_for(&self, server: &ServerUrl) -> Option<&ProxyUrl> {
        self.https_proxy.as_ref().filter(|_| !is_local(server.host()) && !self.no_proxy.covers(server))
    }
}

/// An HTTP proxy, `http://[USER:PASSWORD@]HOST[:PORT]`. Neither form of output shows the user or the password.
#[derive(Clone)]
pub struct ProxyUrl {
    host: Host<String>,
    port: u16,
    authorization: Option<Secret>,
}

impl ProxyUrl {
    /// The proxy's name or address.
    pub fn host(&self) -> &Host<String> {
        &self.host
    }

    /// The proxy's port; 80 unless the URL names one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Value of `Proxy-Authorization` (RFC 7617), if the URL holds a user.
    pub(crate) fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `proxy.example.com:3128` without a scheme is common, and `Url` would take the name for a scheme.
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&text).map_err(ProxyUrlError::Syntax)?;
        if url.scheme() != "http" {
            return Err(ProxyUrlError::NotHttp);
        }
        let host = url.host().ok_or(ProxyUrlError::Host)?.to_owned();
        let port = url.port_or_known_default().ok_or(ProxyUrlError::Host)?;
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let mut pair: Vec<u8> = percent_decode_str(user).collect();
                // RFC 7617 §2: the first colon ends the user.
                if pair.contains(&b':') {
                    return Err(ProxyUrlError::User);
                }
                pair.push(b':');
                pair.extend(percent_decode_str(password.unwrap_or_default()));
                Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
            }
        };
        Ok(Self { host, port, authorization })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}

/// Why a text is no proxy URL. The text itself may hold a password and is not repeated.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyUrlError {
    /// Not a URL.
    #[error("not a proxy URL (http://[USER:PASSWORD@]HOST:PORT)")]
    Syntax(#[source] url::ParseError),
    /// A scheme that is not supported.
    #[error("the proxy URL must begin with http://")]
    NotHttp,
    /// No host.
    #[error("the proxy URL names no host")]
    Host,
    /// A user name that basic authentication cannot carry.
    #[error("the user name in the proxy URL holds a colon")]
    User,
}

/// The exceptions to the proxy. Every text is one: what is no rule matches nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NoProxy(Vec<Rule>);

impl NoProxy {
    fn covers(&self, server: &ServerUrl) -> bool {
        self.0.iter().any(|rule| rule.covers(server.host(), server.port()))
    }
}

impl FromStr for NoProxy {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Rule::parse).collect()))
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Rule {
    Everything,
    Network { address: IpAddr, prefix: u8 },
    Address { address: IpAddr, port: Option<u16> },
    Name { suffix: String, itself: bool, port: Option<u16> },
}

impl Rule {
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::Everything;
        }
        if let Some(network) = parse_network(entry) {
            return network;
        }
        if let Ok(address) = unbracketed(entry).parse() {
            return Self::Address { address, port: None };
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (entry, None),
            },
            None => (entry, None),
        };
        if let Ok(address) = unbracketed(host).parse() {
            return Self::Address { address, port };
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        match name.strip_prefix('*').unwrap_or(&name).strip_prefix('.') {
            Some(suffix) => Self::Name { suffix: suffix.to_owned(), itself: false, port },
            None => Self::Name { suffix: name, itself: true, port },
        }
    }

    fn covers(&self, host: &Host<String>, port: u16) -> bool {
        match (self, host) {
            (Self::Everything, _) => true,
            (Self::Network { address, prefix }, host) => {
                ip(host).is_some_and(|host| in_network(host, *address, *prefix))
            }
            (Self::Address { address, port: wanted }, host) => {
                ip(host) == Some(*address) && wanted.is_none_or(|wanted| wanted == port)
            }
            (Self::Name { suffix, itself, port: wanted }, Host::Domain(name)) => {
                let below = name.strip_suffix(suffix.as_str());
                let matches = match below {
                    Some("") => *itself,
                    Some(below) => below.ends_with('.'),
                    None => false,
                };
                matches && !suffix.is_empty() && wanted.is_none_or(|wanted| wanted == port)
            }
            (Self::Name { .. }, Host::Ipv4(_) | Host::Ipv6(_)) => false,
        }
    }
}

fn parse_network(entry: &str) -> Option<Rule> {
    let (address, prefix) = entry.split_once('/')?;
    let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= longest).then_some(Rule::Network { address, prefix })
}

fn in_network(host: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let differing = match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) => (host.to_bits() ^ network.to_bits()).leading_zeros(),
        (IpAddr::V6(host), IpAddr::V6(network)) => (host.to_bits() ^ network.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    differing >= u32::from(prefix)
}

fn ip(host: &Host<String>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some((*address).into()),
        Host::Ipv6(address) => Some((*address).into()),
    }
}

fn is_local(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name.trim_end_matches('.') == "localhost",
        Host::Ipv4(_) | Host::Ipv6(_) => ip(host).is_some_and(|address| address.is_loopback()),
    }
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(no_proxy: &str, server: &str) -> bool {
        no_proxy.parse::<NoProxy>().unwrap().covers(&server.parse().unwrap())
    }

    #[test]
    fn no_proxy_covers_names_networks_and_ports() {
        for (no_proxy, server) in [
            ("*", "https://anything.example"),
            ("example.com", "https://example.com"),
            ("example.com", "https://a.b.example.com"),
            ("EXAMPLE.com.", "https://a.example.com"),
            (".example.com", "https://a.example.com"),
            ("*.example.com", "https://a.example.com"),
            ("example.com:8443", "https://example.com:8443"),
            ("foo, 10.0.0.0/8 ,bar", "https://10.255.1.2"),
            ("10.1.2.3", "https://10.1.2.3:8443"),
            ("10.1.2.3:8443", "https://10.1.2.3:8443"),
            ("0.0.0.0/0", "https://192.0.2.1"),
            ("fd00::/8", "https://[fd12::1]"),
            ("[fd12::1]:443", "https://[fd12::1]"),
            ("fd12::1", "https://[fd12::1]"),
        ] {
            assert!(covers(no_proxy, server), "{no_proxy} must cover {server}");
        }
    }

    #[test]
    fn no_proxy_covers_nothing_more() {
        for (no_proxy, server) in [
            ("", "https://example.com"),
            (",", "https://example.com"),
            (".", "https://example.com"),
            ("*.", "https://example.com"),
            ("example.com", "https://notexample.com"),
            ("example.com", "https://example.com.evil.test"),
            (".example.com", "https://example.com"),
            ("*.example.com", "https://example.com"),
            ("example.com:8443", "https://example.com"),
            ("10.0.0.0/8", "https://11.0.0.1"),
            ("10.0.0.0/33", "https://10.0.0.1"),
            ("10.0.0.0/8", "https://[::ffff:10.0.0.1]"),
            ("fd00::/8", "https://10.0.0.1"),
            ("0.1", "https://10.0.0.1"),
        ] {
            assert!(!covers(no_proxy, server), "{no_proxy} must not cover {server}");
        }
    }

    #[test]
    fn local_servers_never_go_through_a_proxy() {
        let settings = ProxySettings { https_proxy: Some("proxy:3128".parse().unwrap()), no_proxy: NoProxy::default() };
        for server in ["https://localhost:8443", "https://127.0.0.1", "https://[::1]"] {
            assert!(settings.proxy_for(&server.parse().unwrap()).is_none(), "{server}");
        }
        assert!(settings.proxy_for(&"https://cattle.example".parse().unwrap()).is_some());
    }

    #[test]
    fn a_password_is_decoded_for_the_proxy_and_shown_nowhere() {
        let proxy: ProxyUrl = "http://us%40er:p%3Ass%20word@proxy.example:3128".parse().unwrap();
        let expected = format!("Basic {}", STANDARD.encode("us@er:p:ss word"));
        assert!(proxy.authorization().is_some_and(|value| value.expose() == expected));
        assert_eq!(proxy.to_string(), "http://proxy.example:3128");
        assert!(!format!("{proxy:?}").contains("word"));
        assert!("proxy.example:3128".parse::<ProxyUrl>().unwrap().authorization().is_none());
    }

    #[test]
    fn other_proxies_are_refused_without_repeating_the_text() {
        for text in
            ["https://u:secret@proxy:1", "socks5://u:secret@proxy:1", "http://a%3Ab:secret@proxy", "http://u:secret@"]
        {
            let error = text.parse::<ProxyUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}
