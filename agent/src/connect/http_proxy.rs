//! Through an HTTP proxy: `CONNECT` (RFC 9110 §9.3.6), with basic authentication if the proxy's URL has a user.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::connect::reach::Seconds;
use crate::proxy::ProxyUrl;

/// Longest head of a proxy's answer.
const HEAD_LIMIT: usize = 16 * 1024;

/// Asks the proxy at the other end of `io` for a connection to `authority`.
///
/// # Cancel safety
/// Not cancel safe: the connection is spent.
pub(crate) async fn connect<S>(
    io: &mut S,
    proxy: &ProxyUrl,
    authority: &str,
    within: Duration,
) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        io.write_all(request(proxy, authority).as_bytes()).await.map_err(ProxyCause::Io)?;
        io.flush().await.map_err(ProxyCause::Io)?;
        let head = read_head(io).await?;
        match status(&head).ok_or(ProxyCause::NotHttp)? {
            200..=299 => Ok(()),
            status => Err(ProxyCause::Status(status)),
        }
    };
    let result = timeout(within, exchange).await.unwrap_or(Err(ProxyCause::Timeout(within)));
    result.map_err(|cause| ProxyError {
        proxy: proxy.to_string(),
        authenticated: proxy.authorization().is_some(),
        cause,
    })
}

fn request(proxy: &ProxyUrl, authority: &str) -> zeroize::Zeroizing<String> {
    let authorization = proxy
        .authorization()
        .map(|value| zeroize::Zeroizing::new(format!("Proxy-Authorization: {}\r\n", value.expose())))
        .unwrap_or_default();
    let text = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n", *authorization);
    zeroize::Zeroizing::new(text)
}

/// The head of the answer, to the empty line and not a byte further: what follows is the server's.
async fn read_head<S: AsyncRead + Unpin>(io: &mut S) -> Result<Vec<u8>, ProxyCause> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_LIMIT {
            return Err(ProxyCause::NotHttp);
        }
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ProxyCause::Closed),
            Err(error) => return Err(ProxyCause::Io(error)),
        }
    }
    Ok(head)
}

/// The status of `HTTP/1.x NNN …`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let code = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (code, rest) = code.split_at_checked(3)?;
    if !rest.is_empty() && rest[0] != b' ' {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok().filter(|code| (100..1000).contains(code))
}

/// The proxy does not connect the agent to the server.
#[derive(Debug, thiserror::Error)]
#[error("no connection through the proxy {proxy}")]
pub struct ProxyError {
    proxy: String,
    authenticated: bool,
    #[source]
    cause: ProxyCause,
}

/// Why it does not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyCause {
    /// It says no.
    #[error("it answered {0} to CONNECT")]
    Status(u16),
    /// It is no HTTP proxy.
    #[error("its answer is not HTTP/1.1")]
    NotHttp,
    /// It hung up.
    #[error("it closed the connection without an answer")]
    Closed,
    /// It says nothing.
    #[error("no answer to CONNECT within {}", Seconds(*.0))]
    Timeout(Duration),
    /// The connection to it failed.
    #[error("the connection to it failed")]
    Io(#[source] io::Error),
}

impl ProxyError {
    /// Why.
    pub fn cause(&self) -> &ProxyCause {
        &self.cause
    }

    /// The error's name for metrics and scripts.
    pub fn code(&self) -> &'static str {
        match self.cause {
            ProxyCause::Status(407) => "proxy_authentication",
            ProxyCause::Status(403) => "proxy_forbidden",
            ProxyCause::Status(_) => "proxy_status",
            ProxyCause::NotHttp => "proxy_not_http",
            ProxyCause::Closed => "proxy_closed",
            ProxyCause::Timeout(_) => "proxy_timeout",
            ProxyCause::Io(_) => "proxy_failed",
        }
    }

    /// What an operator should do.
    pub fn next_step(&self) -> &'static str {
        match self.cause {
            ProxyCause::Status(407) if self.authenticated => "The proxy refuses the user and password in HTTPS_PROXY.",
            ProxyCause::Status(407) => "The proxy wants a user: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT.",
            ProxyCause::Status(403) => "Allow CONNECT to the server's name and port in the proxy's rules.",
            ProxyCause::Status(_) | ProxyCause::Timeout(_) => {
                "Check that the proxy itself resolves and reaches the server."
            }
            ProxyCause::NotHttp | ProxyCause::Closed | ProxyCause::Io(_) => {
                "Check that HTTPS_PROXY names an HTTP proxy that allows CONNECT, or add the server to NO_PROXY."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_three_digits_of_an_http_1_answer() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        for head in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 2000 x\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 +20 x\r\n",
            b"HTTP/1.1 20",
        ] {
            assert_eq!(status(head), None, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn the_request_has_the_user_only_if_there_is_one() {
        let proxy = "http://proxy:3128".parse().unwrap();
        let plain = "CONNECT cattle.example:443 HTTP/1.1\r\nHost: cattle.example:443\r\n\r\n";
        assert_eq!(*request(&proxy, "cattle.example:443"), plain);
        let proxy = "http://u:p@proxy:3128".parse().unwrap();
        assert!(request(&proxy, "cattle.example:443").contains("\r\nProxy-Authorization: Basic dTpw\r\n\r\n"));
    }

    #[test]
    fn any_answer_of_a_proxy_is_a_status_or_none() {
        let samples =
            ["HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.0 407\r\nProxy-Authenticate: Basic\r\n\r\n"];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        cattle_matrix::Decoder::new("proxy's answer", samples).memory(4 * HEAD_LIMIT).hammer(|bytes| {
            let mut rest = bytes;
            let head = runtime.block_on(read_head(&mut rest)).ok()?;
            assert!(head.len() <= HEAD_LIMIT && bytes.starts_with(&head), "a byte of the server was read");
            status(&head)
        });
    }
}
