//! The admin listener: `/healthz`, `/readyz` and `/metrics` over plain HTTP/1.1 on an address of its own.
//!
//! It holds no secret and changes nothing, but what it tells is not for everybody: it listens on loopback unless told
//! otherwise, and answers only requests whose `Host` is an IP address or `localhost`, as probes and scrapers send it.
//! A web page that makes a browser resolve its own name to this address (DNS rebinding) gets 421.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::log::ErrorChain;
use crate::ready::{Liveness, Readiness, Report};

/// Connections served at once; a scraper and a kubelet need two.
const MAX_CONNECTIONS: usize = 32;
/// A connection that sends no request for so long is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection lives at most so long: with [`MAX_CONNECTIONS`] nobody can keep the probes out for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// Pause after a failed `accept` (out of descriptors): trying again at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound admin listener, not serving yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    pages: Arc<Pages>,
}

impl Admin {
    /// Binds, so that the address is known before anything is served.
    pub async fn bind(
        listen: SocketAddr,
        registry: Registry,
        readiness: Readiness,
        liveness: Liveness,
    ) -> Result<Self, BindError> {
        let fail = |source| BindError { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address, pages: Arc::new(Pages { registry, readiness, liveness }) })
    }

    /// Where it listens; with port 0 the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped: it has to answer probes during the whole of a drain.
    pub async fn run(self) -> Result<(), Infallible> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(stream, Arc::clone(&self.pages)));
                    }
                    Err(error) => {
                        tracing::debug!(error = %error.chain(), "admin accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// The admin address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (--admin-listen)")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

async fn serve(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(move |request| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(&request)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Errors are the peer's: it went away or spoke something else.
    let _ = tokio::time::timeout(CONNECTION_LIFE, connection).await;
}

#[derive(Debug)]
struct Pages {
    registry: Registry,
    readiness: Readiness,
    liveness: Liveness,
}

impl Pages {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !names_this_machine(request) {
            return text(StatusCode::MISDIRECTED_REQUEST, "Host must be an IP address or localhost\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        let verbose = request.uri().query().is_some_and(|query| query.split('&').any(is_verbose));
        match request.uri().path() {
            "/healthz" | "/livez" => probe(&self.liveness.report(), verbose),
            "/readyz" => probe(&self.readiness.report(), verbose),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut body = String::new();
        if prometheus_client::encoding::text::encode(&mut body, &self.registry).is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "a metric cannot be encoded\n");
        }
        respond(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body)
    }
}

fn is_verbose(parameter: &str) -> bool {
    parameter == "verbose" || parameter.starts_with("verbose=")
}

/// `ok` alone for machines; the list for people, and for everybody when something is wrong.
fn probe(report: &Report, verbose: bool) -> Response<Full<Bytes>> {
    match (report.is_ok(), verbose) {
        (true, false) => text(StatusCode::OK, "ok\n"),
        (true, true) => text(StatusCode::OK, report.to_string()),
        (false, _) => text(StatusCode::SERVICE_UNAVAILABLE, report.to_string()),
    }
}

/// HTTP/1.1 demands exactly one `Host` (RFC 9112 §3.2); an absolute URI would take its place, and is judged alike.
fn names_this_machine<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let host_is_fine = host.to_str().is_ok_and(is_address_or_localhost);
    host_is_fine && request.uri().authority().is_none_or(|authority| is_address_or_localhost(authority.as_str()))
}

fn is_address_or_localhost(authority: &str) -> bool {
    if authority.parse::<SocketAddr>().is_ok() || authority.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = authority.rsplit_once(':').map_or(authority, |(name, _port)| name);
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bracketed.eq_ignore_ascii_case("localhost") || bracketed.parse::<IpAddr>().is_ok()
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::metrics;
    use crate::shutdown::Shutdown;

    struct Server {
        address: SocketAddr,
        readiness: Readiness,
        liveness: Liveness,
        _task: JoinSet<Result<(), Infallible>>,
    }

    impl Server {
        async fn start() -> Self {
            let (readiness, liveness) = (Readiness::new(Shutdown::new()), Liveness::default());
            let registry = metrics::registry("cattle-test", "1.0.0");
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let admin = Admin::bind(listen, registry, readiness.clone(), liveness.clone()).await.unwrap();
            let address = admin.address();
            let mut task = JoinSet::new();
            task.spawn(admin.run());
            Self { address, readiness, liveness, _task: task }
        }

        async fn exchange(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            response
        }

        async fn get(&self, path: &str) -> String {
            let host = self.address;
            self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
        }
    }

    #[tokio::test]
    async fn probes_follow_the_checks_and_name_what_fails() {
        let server = Server::start().await;
        let tunnel = server.readiness.component("tunnel");
        let response = server.get("/readyz").await;
        assert!(response.starts_with("HTTP/1.1 503 ") && response.contains("[-] tunnel: starting"), "{response}");
        tunnel.release();
        assert!(server.get("/readyz").await.ends_with("\r\n\r\nok\n"));
        assert!(server.get("/readyz?verbose").await.contains("[+] tunnel: ok\nok\n"));
        assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 "));
        server.liveness.check("loop", || Err("no attempt for 301s".into()));
        let response = server.get("/healthz").await;
        assert!(
            response.starts_with("HTTP/1.1 503 ") && response.contains("[-] loop: no attempt for 301s"),
            "{response}"
        );
    }

    #[tokio::test]
    async fn metrics_are_openmetrics() {
        let server = Server::start().await;
        let response = server.get("/metrics").await;
        assert!(response.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0"));
        assert!(response.contains("cattle_build_info{") && response.ends_with("# EOF\n"), "{response}");
    }

    #[tokio::test]
    async fn foreign_names_other_methods_and_other_paths_are_refused() {
        let server = Server::start().await;
        for (request, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "421"),
            ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "421"),
            ("GET http://evil.example/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", "421"),
            ("GET /metrics HTTP/1.0\r\n\r\n", "421"),
            ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "405"),
            ("GET /log HTTP/1.1\r\nHost: LOCALHOST:1\r\nConnection: close\r\n\r\n", "404"),
            ("GET /healthz HTTP/1.1\r\nHost: [::1]:9\r\nConnection: close\r\n\r\n", "200"),
        ] {
            let response = server.exchange(request).await;
            assert_eq!(response.get(9..12), Some(status), "{request:?} -> {response:?}");
        }
    }
}
