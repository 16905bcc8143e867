//! `cattle cluster nodes`: the machines of a cluster.

use jiff::Timestamp;
use serde_json::Value;

use super::{condition, find_cluster};
use crate::api::{ApiError, Client, segment};
use crate::args::OutputArgs;
use crate::console::Console;
use crate::error::CliError;
use crate::output::{self, age, text};

/// The nodes of a cluster.
pub(super) async fn all(client: &Client, cluster: &str) -> Result<Vec<Value>, ApiError> {
    let path = format!("/apis/management.cattle.io/v3/namespaces/{}/nodes", segment(cluster));
    let nodes = client.get(&path).await?;
    Ok(nodes["items"].as_array().cloned().unwrap_or_default())
}

/// The same for whom the nodes are a side matter: who may not see them, or asks an older server, sees none.
pub(super) async fn visible(client: &Client, cluster: &str) -> Result<Vec<Value>, ApiError> {
    match all(client, cluster).await {
        Err(ApiError::Status { status: 403 | 404, .. }) => Ok(Vec::new()),
        other => other,
    }
}

pub(super) async fn list(
    client: &Client,
    cluster: &str,
    output: OutputArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let found = find_cluster(client, cluster).await?;
    let mut nodes = all(client, &found.id).await?;
    nodes.sort_by_key(|node| text(node, "/status/nodeName"));
    let now = Timestamp::now();
    let status =
        |kind: &'static str| move |node: &Value| condition(node, kind).map(|(status, ..)| status).unwrap_or_default();
    let at = |pointer: &'static str| move |node: &Value| text(node, pointer);
    let (name, ready, agent) = (at("/status/nodeName"), status("Ready"), status("Connected"));
    let version = at("/status/internalNodeStatus/nodeInfo/kubeletVersion");
    let (system, kernel) = (at("/status/host/operatingSystem"), at("/status/host/kernel"));
    let old = move |node: &Value| age(node, now);
    output::list(
        console,
        output.output,
        &nodes,
        &[
            ("NODE", &name),
            ("READY", &ready),
            ("AGENT", &agent),
            ("ROLES", &roles),
            ("VERSION", &version),
            ("OS", &system),
            ("KERNEL", &kernel),
            ("CPU", &processors),
            ("MEMORY", &memory),
            ("AGE", &old),
        ],
    )
}

fn roles(node: &Value) -> String {
    let roles = [("controlPlane", "control-plane"), ("etcd", "etcd"), ("worker", "worker")];
    let plays = roles.iter().filter(|(field, _)| node["spec"][field] == true);
    plays.map(|(_, role)| *role).collect::<Vec<_>>().join(",")
}

fn processors(node: &Value) -> String {
    node["status"]["host"]["cpus"].as_u64().filter(|cpus| *cpus > 0).map(|cpus| cpus.to_string()).unwrap_or_default()
}

fn memory(node: &Value) -> String {
    let bytes = node["status"]["host"]["memoryBytes"].as_u64().filter(|bytes| *bytes > 0);
    bytes.map(|bytes| format!("{} MiB", bytes >> 20)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_shown_by_what_is_known_of_it() {
        let node = json!({
            "spec": { "controlPlane": true, "etcd": true, "worker": false },
            "status": { "host": { "cpus": 4, "memoryBytes": 8_589_934_592_u64 } },
        });
        assert_eq!(
            (roles(&node), processors(&node), memory(&node)),
            ("control-plane,etcd".into(), "4".into(), "8192 MiB".into())
        );
        let bare = json!({});
        assert_eq!((roles(&bare), processors(&bare), memory(&bare)), (String::new(), String::new(), String::new()));
    }
}
