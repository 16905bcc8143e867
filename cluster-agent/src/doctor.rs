//! `cattle-cluster-agent doctor`: the connection to the server stage by stage, then what the agent needs of its own
//! API server.

use std::time::Duration;

use cattle_agent::doctor::{self, Line, Report};
use cattle_proto::control::CredentialFailureCode;
use cattle_runtime::ErrorChain as _;
use cattle_tunnel::SessionConfig;
use tokio::time::timeout;

use crate::app::{self, BuildError};
use crate::args::Config;
use crate::kubernetes::ApiServer;

/// Time for each question to the API server.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Examines everything that `config` names. Changes nothing: the cluster is not registered, and the token that shows the
/// agent's right to request one is thrown away.
pub async fn examine(config: Config) -> Result<Report, BuildError> {
    let mut report = Report::default();
    let api_server = ApiServer::new(config.kubernetes);
    let identity = app::identity(&config.connect, api_server.clone())?;
    let dialer = app::dialer(config.connect, SessionConfig::default());
    doctor::examine(&dialer, &identity, &mut report).await;
    report.push(examine_identity(&api_server).await);
    report.push(examine_right(&api_server).await);
    Ok(report)
}

async fn examine_identity(api_server: &ApiServer) -> Line {
    const STAGE: &str = "cluster";
    const NEXT: &str = "Check KUBERNETES_SERVICE_HOST, the cluster's CA, and that the import manifest's ClusterRole for the agent is there.";
    match timeout(ANSWER_TIME, api_server.identify()).await {
        Ok(Ok(claim)) => Line::ok(STAGE, format!("kube-system has the UID {}", claim.kube_system_uid)),
        Ok(Err(error)) => Line::failed(STAGE, error.chain().to_string(), "no_claim", NEXT),
        Err(_) => Line::failed(STAGE, format!("no answer within {ANSWER_TIME:?}"), "claim_timeout", NEXT),
    }
}

async fn examine_right(api_server: &ApiServer) -> Line {
    const STAGE: &str = "credential";
    const NEXT: &str = "Apply the import manifest again: it holds ServiceAccount cattle and the agent's Role.";
    match timeout(ANSWER_TIME, api_server.request_server_token()).await {
        Ok(Ok(_)) => Line::ok(STAGE, "the agent may request tokens for cattle-system/cattle"),
        Ok(Err(error)) => Line::failed(STAGE, error.chain().to_string(), error.code().name(), NEXT),
        Err(_) => {
            let code = CredentialFailureCode::Unreachable.name();
            Line::failed(STAGE, format!("no answer within {ANSWER_TIME:?}"), code, NEXT)
        }
    }
}
