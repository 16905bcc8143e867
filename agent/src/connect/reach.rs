//! The first stages: a name to addresses, addresses to a TCP connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cattle_runtime::socket::be_prompt;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use url::Host;

/// Head start of one address before the next one is tried beside it (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses that are tried; more than that is a misconfigured name.
const MAX_ADDRESSES: usize = 16;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// The management server.
    Server,
    /// The HTTP proxy before it.
    Proxy,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Proxy => "proxy",
        })
    }
}

/// The addresses of `host`.
///
/// # Cancel safety
/// Cancel safe: nothing is begun that lasts.
pub(crate) async fn resolve(
    peer: Peer,
    host: &Host<String>,
    port: u16,
    within: Duration,
) -> Result<Vec<SocketAddr>, DnsError> {
    let name = match host {
        Host::Domain(name) => name.as_str(),
        Host::Ipv4(address) => return Ok(vec![SocketAddr::from((*address, port))]),
        Host::Ipv6(address) => return Ok(vec![SocketAddr::from((*address, port))]),
    };
    let fail = |cause| DnsError { peer, name: name.to_owned(), cause };
    let addresses: Vec<_> = match timeout(within, lookup_host((name, port))).await {
        Err(_) => return Err(fail(DnsCause::Timeout(within))),
        Ok(Err(error)) => return Err(fail(DnsCause::Lookup(error))),
        Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect(),
    };
    if addresses.is_empty() { Err(fail(DnsCause::NoAddress)) } else { Ok(addresses) }
}

/// A connection to the first of `addresses` that answers. Each address gets a short head start, then the next one is
/// tried beside it, so that a dead first address costs a quarter of a second only.
///
/// # Cancel safety
/// Cancel safe: dropping it drops every connection under way.
pub(crate) async fn connect(peer: Peer, addresses: &[SocketAddr], within: Duration) -> Result<TcpStream, TcpError> {
    let mut rest = addresses.iter().copied();
    let mut attempts = JoinSet::new();
    let mut last = TcpCause::NoAddress;
    let deadline = Instant::now() + within;
    loop {
        if let Some(address) = rest.next() {
            attempts.spawn(async move { (address, TcpStream::connect(address).await) });
        } else if attempts.is_empty() {
            return Err(TcpError { peer, addresses: addresses.to_vec(), cause: last });
        }
        let more = rest.len() > 0;
        tokio::select! {
            Some(Ok((address, result))) = attempts.join_next() => match result {
                Ok(stream) => {
                    if let Err(error) = be_prompt(&stream) {
                        tracing::debug!(%error, %address, "options of a connection");
                    }
                    return Ok(stream);
                }
                Err(error) => last = TcpCause::Io(error),
            },
            () = sleep(STAGGER), if more => {}
            () = sleep_until(deadline) => {
                return Err(TcpError { peer, addresses: addresses.to_vec(), cause: TcpCause::Timeout(within) });
            }
        }
    }
}

/// A name has no addresses.
#[derive(Debug, thiserror::Error)]
#[error("the name {name} of the {peer} cannot be resolved")]
pub struct DnsError {
    peer: Peer,
    name: String,
    #[source]
    cause: DnsCause,
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsCause {
    /// The resolver says so.
    #[error("the lookup failed")]
    Lookup(#[source] io::Error),
    /// The resolver says nothing.
    #[error("no answer within {}", Seconds(*.0))]
    Timeout(Duration),
    /// The name exists without addresses.
    #[error("the name has no addresses")]
    NoAddress,
}

impl DnsError {
    /// The error's name for metrics and scripts.
    pub fn code(&self) -> &'static str {
        match self.cause {
            DnsCause::Lookup(_) => "dns_lookup",
            DnsCause::Timeout(_) => "dns_timeout",
            DnsCause::NoAddress => "dns_no_address",
        }
    }

    /// What an operator should do.
    pub fn next_step(&self) -> &'static str {
        match self.peer {
            Peer::Server => {
                "Make the name in CATTLE_SERVER resolvable from pods (cluster DNS, its upstream, or hostAliases of the \
                 Deployment cattle-cluster-agent)."
            }
            Peer::Proxy => "Make the proxy's name in HTTPS_PROXY resolvable from pods, or use its address.",
        }
    }
}

/// No TCP connection.
#[derive(Debug, thiserror::Error)]
#[error("no TCP connection to the {peer} at {}", Addresses(addresses))]
pub struct TcpError {
    peer: Peer,
    addresses: Vec<SocketAddr>,
    #[source]
    cause: TcpCause,
}

/// Why there is no TCP connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TcpCause {
    /// The last address that failed said this.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// No address answered.
    #[error("no answer within {}", Seconds(*.0))]
    Timeout(Duration),
    /// There was no address to try.
    #[error("no address")]
    NoAddress,
}

impl TcpError {
    /// The error's name for metrics and scripts.
    pub fn code(&self) -> &'static str {
        match &self.cause {
            TcpCause::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => "tcp_refused",
            TcpCause::Io(error)
                if matches!(error.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) =>
            {
                "tcp_unreachable"
            }
            TcpCause::Io(_) => "tcp_failed",
            TcpCause::Timeout(_) => "tcp_timeout",
            TcpCause::NoAddress => "tcp_no_address",
        }
    }

    /// What an operator should do.
    pub fn next_step(&self) -> &'static str {
        match (&self.cause, self.peer) {
            (TcpCause::Timeout(_), Peer::Server) => {
                "A firewall or route drops the packets: allow outgoing TCP from the cluster's nodes to the server, or \
                 set HTTPS_PROXY."
            }
            (TcpCause::Timeout(_), Peer::Proxy) => "A firewall or route drops the packets to the proxy: allow them.",
            (_, Peer::Server) => "Check that the server or its load balancer listens on this address and port.",
            (_, Peer::Proxy) => "Check that the proxy in HTTPS_PROXY listens on this address and port.",
        }
    }
}

/// A time for people: `10s`, `0.2s`.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}

/// Addresses for people.
pub(crate) struct Addresses<'a>(pub(crate) &'a [SocketAddr]);

impl fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_dead_address_does_not_hide_a_live_one() {
        let (dead, live) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let addresses = [dead.local_addr().unwrap(), live.local_addr().unwrap()];
        drop(dead);
        let stream = connect(Peer::Server, &addresses, LONG).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
    }

    #[tokio::test]
    async fn errors_name_the_peer_and_every_address() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = dead.local_addr().unwrap();
        drop(dead);
        let error = connect(Peer::Proxy, &[address, address], LONG).await.unwrap_err();
        assert_eq!(error.to_string(), format!("no TCP connection to the proxy at {address}, {address}"));
        assert_eq!(error.code(), "tcp_refused");
        assert_eq!(connect(Peer::Server, &[], LONG).await.unwrap_err().code(), "tcp_no_address");
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        let host = Host::Ipv6(std::net::Ipv6Addr::LOCALHOST);
        let addresses = resolve(Peer::Server, &host, 443, Duration::ZERO).await.unwrap();
        assert_eq!(addresses, ["[::1]:443".parse().unwrap()]);
    }
}
