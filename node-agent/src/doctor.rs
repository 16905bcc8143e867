//! `cattle-node-agent doctor`: the way to the server, and to the API server, step by step.

use cattle_agent::doctor::{self, Line, Report};
use cattle_agent::{Address, Relay};
use cattle_proto::control::Facts;
use cattle_runtime::ErrorChain as _;
use cattle_tunnel::SessionConfig;
use tokio::sync::watch;

use crate::app::{self, BuildError};
use crate::args::Config;

/// Examines everything that `config` names. Changes nothing.
pub async fn examine(config: Config) -> Result<Report, BuildError> {
    let mut report = Report::default();
    // A doctor tells nothing: it ends its session as soon as there is one.
    let (_, facts) = watch::channel(Facts::default());
    let identity = app::identity(&config.connect, facts)?;
    let dialer = app::dialer(config.connect, SessionConfig::default());
    doctor::examine(&dialer, &identity, &mut report).await;
    report.push(examine_api_server(config.api_servers).await);
    Ok(report)
}

async fn examine_api_server(addresses: Vec<Address>) -> Line {
    const STAGE: &str = "API server";
    const NEXT: &str =
        "Check that this node reaches its API server, as its kubelet does (server in the kubelet's kubeconfig).";
    match Relay::new(addresses).examine().await {
        Ok(address) => Line::ok(STAGE, format!("{address} takes connections")),
        Err(error) => Line::failed(STAGE, error.chain().to_string(), "unreachable", NEXT),
    }
}
