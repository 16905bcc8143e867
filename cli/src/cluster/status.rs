//! `cattle cluster status`: where a request gets, and through whom.

use jiff::Timestamp;
use serde_json::Value;

use super::{Found, condition, find_cluster, node};
use crate::api::Client;
use crate::args::OutputArgs;
use crate::console::{Colour, Console, clean};
use crate::error::CliError;
use crate::output::{self, since, text};

/// Node agents that are shown: a cluster may have thousands.
const NODE_AGENTS: usize = 20;

pub(super) async fn run(
    client: &Client,
    name: &str,
    output: OutputArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let found = find_cluster(client, name).await?;
    let nodes = node::visible(client, &found.id).await?;
    output::one(console, output.output, &found.object, |console| show(&found, &nodes, console))
}

fn show(found: &Found, nodes: &[Value], console: &mut Console) -> Result<(), CliError> {
    let cluster = &found.object;
    console.line(&format!("cluster:  {} ({})", clean(&found.name), clean(&found.id)))?;
    let version = text(cluster, "/status/version/gitVersion");
    console.line(&format!("version:  {}", if version.is_empty() { "not known yet" } else { &version }))?;
    let uid = text(cluster, "/status/identity/kubeSystemUid");
    console.line(&format!("identity: {}", if uid.is_empty() { "not registered yet" } else { &uid }))?;
    console.line(&format!("hops:     {}", hops(cluster, console)))?;
    console.line("")?;
    let conditions = cluster["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let rows = conditions
        .iter()
        .map(|condition| ["/type", "/status", "/reason", "/message"].map(|pointer| text(condition, pointer)).to_vec());
    output::table(console, &["CONDITION", "STATUS", "REASON", "MESSAGE"], rows.collect())?;
    show_agents(found, nodes, Timestamp::now(), console)?;
    let refusal = &cluster["status"]["registration"]["lastRefusal"];
    if refusal.is_object() {
        console.line("")?;
        let (reason, message, at) = (text(refusal, "/reason"), text(refusal, "/message"), text(refusal, "/at"));
        console.line(&format!("last registration refused: {reason} at {at}"))?;
        console.line(&format!("  {message}"))?;
    }
    Ok(())
}

/// The sessions in the order in which new requests try them.
fn show_agents(found: &Found, nodes: &[Value], now: Timestamp, console: &mut Console) -> Result<(), CliError> {
    let mut agents = found.object["status"]["agents"].as_array().cloned().unwrap_or_default();
    let of_nodes = nodes.iter().map(|node| node["status"]["agent"].clone()).filter(Value::is_object);
    let mut of_nodes: Vec<Value> = of_nodes.collect();
    let rank = |agent: &Value| agent["rank"].as_i64().unwrap_or(i64::MAX);
    of_nodes.sort_by_key(rank);
    let more = of_nodes.len().saturating_sub(NODE_AGENTS);
    agents.extend(of_nodes.into_iter().take(NODE_AGENTS));
    agents.sort_by_key(rank);
    if agents.is_empty() {
        return Ok(());
    }
    console.line("")?;
    let titles = ["RANK", "AGENT", "NODE", "STATE", "RTT", "STREAMS", "SINCE", "LAST PROBE", "WHY"];
    output::table(console, &titles, agents.iter().map(|agent| row(agent, now)).collect())?;
    if more > 0 {
        let word = crate::kubeconfig::quoted(&found.name);
        console.line(&format!("… and {more} more node agents: cattle cluster nodes {word}"))?;
    }
    Ok(())
}

fn row(agent: &Value, now: Timestamp) -> Vec<String> {
    let round_trip = agent["roundTripMicroseconds"].as_u64().map(milliseconds).unwrap_or_default();
    let probe = match agent["lastProbe"]["passed"].as_bool() {
        Some(passed) => {
            let ago = since(&text(agent, "/lastProbe/at"), now);
            format!("{} {ago} ago", if passed { "passed" } else { "failed" })
        }
        None => String::new(),
    };
    vec![
        text(agent, "/rank"),
        text(agent, "/pod"),
        text(agent, "/node"),
        text(agent, "/state"),
        round_trip,
        text(agent, "/streams"),
        since(&text(agent, "/since"), now),
        probe,
        text(agent, "/message"),
    ]
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

/// The way of a request, with the first hop that fails: this very request has shown that the server answers.
fn hops(cluster: &Value, console: &Console) -> String {
    let hop = |kind: &str, before: bool| match condition(cluster, kind) {
        _ if !before => (false, console.paint(Colour::Yellow, "?")),
        Some((status, ..)) if status == "True" => (true, console.paint(Colour::Green, "ok")),
        Some((status, reason, _)) if status == "False" => (false, console.paint(Colour::Red, &reason)),
        _ => (false, console.paint(Colour::Yellow, "?")),
    };
    let (connected, to_agent) = hop("Connected", true);
    let (_, to_api) = hop("Ready", connected);
    let ok = console.paint(Colour::Green, "ok");
    format!("you -[{ok}]- server -[{to_agent}]- agent -[{to_api}]- API server")
}

#[cfg(test)]
mod tests {
    use std::io;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_hop_that_fails_is_named() {
        let console = Console::new(Box::new(io::empty()), Box::new(io::sink()), Box::new(io::sink()));
        let with = |conditions: Value| hops(&json!({ "status": { "conditions": conditions } }), &console);
        let is = |kind: &str, status: &str, reason: &str| json!({ "type": kind, "status": status, "reason": reason });
        assert_eq!(with(json!([])), "you -[ok]- server -[?]- agent -[?]- API server");
        assert_eq!(
            with(json!([is("Connected", "False", "Disconnected"), is("Ready", "False", "Disconnected")])),
            "you -[ok]- server -[Disconnected]- agent -[?]- API server"
        );
        assert_eq!(
            with(json!([is("Connected", "True", "AgentConnected"), is("Ready", "False", "ApiServerUnreachable")])),
            "you -[ok]- server -[ok]- agent -[ApiServerUnreachable]- API server"
        );
        assert_eq!(
            with(json!([is("Connected", "True", "x"), is("Ready", "True", "x")])),
            "you -[ok]- server -[ok]- agent -[ok]- API server"
        );
    }

    #[test]
    fn a_session_is_a_row() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let agent = json!({
            "pod": "cattle-node-agent-x", "node": "n1", "state": "Standby", "message": "takes over", "rank": 2,
            "streams": 3, "roundTripMicroseconds": 12_345, "since": "2026-01-01T00:00:00Z",
            "lastProbe": { "at": "2026-01-01T00:59:50Z", "passed": true },
        });
        let wanted =
            ["2", "cattle-node-agent-x", "n1", "Standby", "12.3 ms", "3", "60m", "passed 10s ago", "takes over"];
        assert_eq!(row(&agent, now), wanted);
        let bare = row(&json!({ "pod": "p", "state": "Draining" }), now);
        assert_eq!(bare, ["", "p", "", "Draining", "", "", "", "", ""]);
    }
}
