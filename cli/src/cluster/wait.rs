//! Waiting for a cluster, with progress.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{condition, find_cluster, path};
use crate::api::{ApiError, Client};
use crate::args::{OutputArgs, WaitFor};
use crate::console::{Console, clean};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{self, text};

/// Between two looks: conditions are computed when they are read.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a look at a cluster showed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Look {
    /// It is as it should be.
    Reached,
    /// Not yet; what to tell.
    Waiting(String),
}

pub(super) async fn run(
    client: &Client,
    cluster: &str,
    condition: WaitFor,
    timeout: Duration,
    output: OutputArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let found = match find_cluster(client, cluster).await {
        Err(CliError::NotFound { .. }) if condition == WaitFor::Deleted => {
            console.say(&format!("there is no cluster {:?}", clean(cluster)));
            return show(console, output, &gone(cluster));
        }
        found => found?,
    };
    let reached = until(client, &found.id, condition, timeout, console).await?;
    console.say(&format!("cluster {:?} is {}", clean(&found.name), name(condition)));
    show(console, output, &reached.unwrap_or_else(|| gone(&found.id)))
}

/// For people the words on standard error are the result.
fn show(console: &mut Console, output: OutputArgs, object: &Value) -> Result<(), CliError> {
    output::one(console, output.output, object, |_| Ok(()))
}

/// What stands for an object that is not there any more, as in Kubernetes' answer to a delete.
fn gone(cluster: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": { "name": cluster }, "status": "Success",
        "details": { "group": "management.cattle.io", "kind": "clusters", "name": cluster },
    })
}

/// Looks until the cluster is as it should be, which is answered; `None` when it is gone. Tells each change. A server that
/// is away for a while is waited for as well.
pub(super) async fn until(
    client: &Client,
    id: &str,
    wanted: WaitFor,
    timeout: Duration,
    console: &mut Console,
) -> Result<Option<Value>, CliError> {
    let deadline = Instant::now() + timeout;
    let mut told = String::new();
    loop {
        let state = match client.get(&path(id)).await {
            Ok(cluster) => match look(&cluster, wanted) {
                Look::Reached => return Ok(Some(cluster)),
                Look::Waiting(state) => state,
            },
            Err(error) if wanted == WaitFor::Deleted && is_gone(&error) => return Ok(None),
            Err(error) if may_pass(&error) => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if state != told {
            console.say(&state);
            told = state;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CliError::NotReady(format!("not {} in time: {told}", name(wanted))));
        }
        sleep(INTERVAL.min(left)).await;
    }
}

fn look(cluster: &Value, wanted: WaitFor) -> Look {
    let kind = match wanted {
        WaitFor::Registered => "Registered",
        WaitFor::Connected => "Connected",
        WaitFor::Ready => "Ready",
        WaitFor::Deleted => "Removed",
    };
    let Some((status, reason, message)) = condition(cluster, kind) else {
        return Look::Waiting(format!("{kind}: not known yet"));
    };
    if status == "True" && wanted != WaitFor::Deleted {
        return Look::Reached;
    }
    let refused = text(cluster, "/status/registration/lastRefusal/message");
    let refused = if refused.is_empty() { refused } else { format!(" (last registration refused: {refused})") };
    Look::Waiting(format!("{kind}: {reason}: {message}{refused}"))
}

/// An owner's right to see the cluster goes with the record: from then on the server says 403, as it does to strangers.
fn is_gone(error: &ApiError) -> bool {
    error.is_not_found() || error.is_forbidden()
}

fn may_pass(error: &ApiError) -> bool {
    matches!(error, ApiError::Unreachable { .. }) || error.exit() == Exit::NotReady
}

fn name(wanted: WaitFor) -> &'static str {
    match wanted {
        WaitFor::Registered => "registered",
        WaitFor::Connected => "connected",
        WaitFor::Ready => "ready",
        WaitFor::Deleted => "deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_tells_why_it_is_not_yet() {
        let cluster = |status: &str| {
            json!({ "status": { "conditions": [
                { "type": "Ready", "status": status, "reason": "Disconnected", "message": "No agent is connected." },
            ], "registration": { "lastRefusal": { "message": "another cluster" } } } })
        };
        assert_eq!(look(&cluster("True"), WaitFor::Ready), Look::Reached);
        assert_eq!(
            look(&cluster("False"), WaitFor::Ready),
            Look::Waiting(
                "Ready: Disconnected: No agent is connected. (last registration refused: another cluster)".into()
            )
        );
        assert_eq!(look(&json!({}), WaitFor::Ready), Look::Waiting("Ready: not known yet".into()));
        assert_eq!(look(&json!({}), WaitFor::Deleted), Look::Waiting("Removed: not known yet".into()));
    }
}
