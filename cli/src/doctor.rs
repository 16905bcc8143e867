//! `cattle doctor`: the way of a request, step by step, each with its time, up to the step that fails.
//!
//! | step | what is tried |
//! |---|---|
//! | `dns` | the server's name, or that of the proxy before it |
//! | `tcp` | a connection to it |
//! | `tls` | the server proves itself, over a connection of its own |
//! | `http` | the server answers |
//! | `upgrade` | what is in between lets a WebSocket upgrade through: agents, `exec` and `port-forward` need that |
//! | `authentication` | the session's token |
//! | `session` | the cluster's agents, and the one in use |
//! | `api-server` | a request into the cluster |
//! | `impersonation` | who the cluster takes the user for |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::client::proxy::matcher::Matcher;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::api::{ApiError, Client, segment};
use crate::args::OutputArgs;
use crate::cluster::{condition, find_cluster};
use crate::config::Server;
use crate::console::{Colour, Console};
use crate::error::CliError;
use crate::login;
use crate::output::{self, text};
use crate::trust::client_config;

/// For each of the steps before the first request.
const STEP_TIME: Duration = Duration::from_secs(10);

/// Walks the way to the server and, with a cluster, on into it. The report is shown whatever comes of it.
///
/// # Errors
/// That of the step that failed.
pub async fn run(
    server: &Server,
    client: &Client,
    cluster: Option<&str>,
    args: OutputArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let mut walk = Walk { steps: Vec::new(), at: Instant::now() };
    let walked = walk.through(server, client, cluster).await;
    if let Err((name, error)) = &walked {
        walk.failed(name, error);
    }
    let object = json!({ "steps": walk.steps.iter().map(Step::value).collect::<Vec<_>>() });
    output::one(console, args.output, &object, |console| {
        let rows = walk.steps.iter().map(|step| step.row(console)).collect();
        output::table(console, &["STEP", "RESULT", "TIME", "DETAIL"], rows)
    })?;
    walked.map_err(|(_, error)| error)
}

/// One step that was taken.
struct Step {
    name: &'static str,
    passed: bool,
    time: Duration,
    detail: String,
}

impl Step {
    fn value(&self) -> Value {
        let micros = u64::try_from(self.time.as_micros()).unwrap_or(u64::MAX);
        json!({ "name": self.name, "passed": self.passed, "microseconds": micros, "detail": self.detail })
    }

    fn row(&self, console: &Console) -> Vec<String> {
        let result = match self.passed {
            true => console.paint(Colour::Green, "ok"),
            false => console.paint(Colour::Red, "failed"),
        };
        let time = format!("{:.1} ms", self.time.as_secs_f64() * 1e3);
        vec![self.name.to_owned(), result, time, self.detail.clone()]
    }
}

/// The steps so far, and when the one under way began.
struct Walk {
    steps: Vec<Step>,
    at: Instant,
}

type Failed = (&'static str, CliError);

impl Walk {
    async fn through(&mut self, server: &Server, client: &Client, cluster: Option<&str>) -> Result<(), Failed> {
        self.reach(server).await?;
        let version = client.get("/version").await.map_err(|error| ("http", error.into()))?;
        self.passed("http", format!("cattle-server {}", text(&version, "/gitVersion")));
        self.upgrade(server).await.map_err(|error| ("upgrade", error))?;
        let me = login::who(client).await.map_err(|error| ("authentication", error))?;
        let id = text(&me, "/status/userInfo/username");
        self.passed("authentication", format!("{} ({id})", login::username(&me)));
        match cluster {
            Some(cluster) => self.enter(client, cluster, &id).await,
            None => Ok(()),
        }
    }

    /// Over a connection of its own, which nothing is sent over.
    async fn reach(&mut self, server: &Server) -> Result<(), Failed> {
        let shown = server.url.origin().ascii_serialization();
        let unreachable = |reason: String| ApiError::Unreachable { server: shown.clone(), reason };
        let Some((host, port)) = next_hop(&server.url) else {
            return Err(("dns", unreachable("the address has no host".to_owned()).into()));
        };
        let looked_up = within(lookup_host((host.as_str(), port))).await;
        let addresses: Vec<SocketAddr> = looked_up.map_err(|why| ("dns", unreachable(why).into()))?.collect();
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        self.passed("dns", format!("{host} is {}", list.join(", ")));
        let stream = within(TcpStream::connect(addresses.as_slice())).await;
        let stream = stream.map_err(|why| ("tcp", unreachable(why).into()))?;
        let peer = stream.peer_addr().map_or_else(|_| "connected".to_owned(), |peer| peer.to_string());
        if proxy(&server.url).is_some() {
            self.passed("tcp", format!("{peer}, the proxy; the next steps go through it"));
            return Ok(());
        }
        self.passed("tcp", peer);
        let config = client_config(&server.trust()).map_err(|error| ("tls", error.into()))?;
        let name = ServerName::try_from(server.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|_| ("tls", unreachable("the address has no host".to_owned()).into()))?;
        let stream = within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
        let untrusted = |reason| ApiError::Certificate { server: shown.clone(), reason };
        let stream = stream.map_err(|why| ("tls", untrusted(why).into()))?;
        let version = stream.get_ref().1.protocol_version().map(|version| format!("{version:?}"));
        let trust = if server.ca.is_some() { "the pinned CA" } else { "this machine's roots" };
        self.passed("tls", format!("{}, verified with {trust}", version.unwrap_or_default()));
        Ok(())
    }

    /// No agent speaks this subprotocol: a server that got the upgrade as it was sent says which ones it speaks.
    async fn upgrade(&mut self, server: &Server) -> Result<(), CliError> {
        let mut config = client_config(&server.trust())?;
        // HTTP/2 knows no upgrade.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        match Client::anonymous(server.url.clone(), config)?.offered_subprotocols().await? {
            Some(spoken) => {
                self.passed("upgrade", format!("WebSocket, the server speaks {spoken}"));
                Ok(())
            }
            None => Err(CliError::UpgradeLost),
        }
    }

    async fn enter(&mut self, client: &Client, cluster: &str, id: &str) -> Result<(), Failed> {
        let found = find_cluster(client, cluster).await.map_err(|error| ("session", error))?;
        if let Some((status, reason, message)) =
            condition(&found.object, "Connected").filter(|(status, ..)| status != "True")
        {
            let why = if message.is_empty() { reason } else { message };
            let state = if status == "False" { "is not connected" } else { "may not be connected" };
            return Err(("session", CliError::NotReady(format!("cluster {:?} {state}: {why}", found.name))));
        }
        self.passed("session", in_use(&found.object));
        let base = format!("/k8s/clusters/{}", segment(&found.id));
        let version = client.get(&format!("{base}/version")).await.map_err(|error| ("api-server", error.into()))?;
        self.passed("api-server", format!("Kubernetes {}", text(&version, "/gitVersion")));
        let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        match client.post(&format!("{base}/apis/authentication.k8s.io/v1/selfsubjectreviews"), &review).await {
            Ok(review) if text(&review, "/status/userInfo/username") == id => {
                self.passed("impersonation", format!("the cluster takes you for {id}"));
                Ok(())
            }
            Ok(review) => {
                let other = text(&review, "/status/userInfo/username");
                Err(("impersonation", CliError::NotReady(format!("the cluster takes you for {other:?}, not {id}"))))
            }
            Err(error) if error.is_not_found() => {
                self.passed("impersonation", "Kubernetes before 1.28 does not say who it takes you for".to_owned());
                Ok(())
            }
            Err(error) => Err(("impersonation", error.into())),
        }
    }

    fn passed(&mut self, name: &'static str, detail: String) {
        let time = self.at.elapsed();
        self.steps.push(Step { name, passed: true, time, detail });
        self.at = Instant::now();
    }

    fn failed(&mut self, name: &'static str, error: &CliError) {
        self.steps.push(Step { name, passed: false, time: self.at.elapsed(), detail: error.to_string() });
    }
}

/// The agent that new requests go through, as the server sees it.
fn in_use(cluster: &Value) -> String {
    let agents = cluster["status"]["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
    match agents.iter().find(|agent| agent["state"] == "InUse") {
        Some(agent) => {
            let trip = agent["roundTripMicroseconds"].as_u64();
            let trip = trip.map(|micros| format!(", {:.1} ms away", micros as f64 / 1e3)).unwrap_or_default();
            format!("{} on {}{trip}", text(agent, "/pod"), text(agent, "/node"))
        }
        None => "no cluster agent is in use: node agents carry the traffic".to_owned(),
    }
}

/// Where the first connection goes to.
fn next_hop(server: &Url) -> Option<(String, u16)> {
    let bare = |host: &str| host.trim_matches(['[', ']']).to_owned();
    match proxy(server) {
        Some(proxy) => {
            let usual = if proxy.scheme_str() == Some("https") { 443 } else { 80 };
            let port = proxy.port_u16().unwrap_or(usual);
            Some((bare(proxy.host()?), port))
        }
        None => Some((bare(server.host_str()?), server.port_or_known_default()?)),
    }
}

/// The proxy before the server, as requests take it from the environment.
fn proxy(server: &Url) -> Option<http::Uri> {
    let uri = server.as_str().parse().ok()?;
    Matcher::from_env().intercept(&uri).map(|intercept| intercept.uri().clone())
}

async fn within<T>(step: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    match timeout(STEP_TIME, step).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("nothing came within {} s", STEP_TIME.as_secs())),
    }
}
