//! What `whoami`, `cluster status` and `cluster wait` show, in every form.

use serde_json::{Value, json};

use super::golden::golden;
use super::support::{Answer, Done, Machine, Server};
use super::{SELF, server, signed_in};

const CLUSTERS: &str = "/apis/management.cattle.io/v3/clusters";

/// Runs a command in every form and compares; answers what stood on standard error in the last.
async fn in_every_form(server: &Server, machine: &Machine, args: &[&str], name: &str) {
    for (form, ending) in [("table", "txt"), ("json", "json"), ("yaml", "yaml")] {
        let done = machine.run(&[args, &["-o", form]].concat(), "").await;
        assert_eq!(done.code, 0, "{}", done.err);
        golden(&format!("{name}.{ending}"), &done.out.replace(server.url(), "https://cattle.example"));
        let parsed = match form {
            "json" => serde_json::from_str::<Value>(&done.out).ok(),
            "yaml" => serde_saphyr::from_str::<Value>(&done.out).ok(),
            _ => continue,
        };
        assert!(parsed.is_some_and(|value| value["kind"].is_string()), "{}", done.out);
    }
}

fn cluster(status: &str, reason: &str, message: &str) -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!({
        "apiVersion": "management.cattle.io/v3", "kind": "Cluster",
        "metadata": { "name": "c-abcde", "uid": "6f3b6b0e-0000-4000-8000-000000000001", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "displayName": "日本 prod", "description": "the shop" },
        "status": {
            "conditions": [
                condition("Registered", "True", "Registered", "The cluster is bound."),
                condition("Connected", "True", "AgentConnected", "Two agents are connected."),
                condition("Ready", status, reason, message),
            ],
            "agents": [session("cattle-cluster-agent-6d9f-x", 1, "InUse", "")],
            "identity": { "kubeSystemUid": "6f3b6b0e-0000-4000-8000-000000000002" },
            "registration": { "lastRefusal": {
                "reason": "AnotherCluster", "message": "another cluster is bound to this record", "at": "2026-01-01T00:00:00Z",
            } },
            "version": { "gitVersion": "v1.34.1" },
        },
    })
}

fn session(pod: &str, rank: u32, state: &str, message: &str) -> Value {
    // Times of long ago would change what is shown with each year: none is given.
    json!({
        "pod": pod, "node": "node-1", "software": "cattle 0.1.0", "rank": rank, "state": state, "message": message,
        "streams": 2, "roundTripMicroseconds": 12_345, "since": "",
    })
}

fn node() -> Value {
    json!({
        "apiVersion": "management.cattle.io/v3", "kind": "Node", "metadata": { "name": "m-1", "namespace": "c-abcde" },
        "spec": { "requestedHostname": "node-1", "controlPlane": true },
        "status": {
            "nodeName": "node-1",
            "agent": session("cattle-node-agent-k2x", 2, "Standby", "takes over when no better one is well"),
            "host": { "operatingSystem": "Debian GNU/Linux 13 (trixie)", "kernel": "6.12", "cpus": 4, "memoryBytes": 8_589_934_592_u64 },
            "internalNodeStatus": { "nodeInfo": { "kubeletVersion": "v1.34.1" } },
        },
    })
}

fn show(server: &Server, cluster: &Value) {
    let nodes = "/apis/management.cattle.io/v3/namespaces/c-abcde/nodes";
    server.on("GET", nodes, Answer::json(200, json!({ "kind": "NodeList", "items": [node()] })));
    server.on("GET", CLUSTERS, Answer::json(200, json!({ "items": [cluster] })));
    server.on("GET", &format!("{CLUSTERS}/c-abcde"), Answer::json(200, cluster.clone()));
}

#[tokio::test]
async fn who_somebody_is() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
        "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z" },
        "status": { "userInfo": {
            "username": "u-annaa", "groups": ["system:authenticated", "system:cattle:authenticated"],
            "extra": { "principalid": ["local://u-annaa"], "username": ["ann"] },
        } },
    });
    server.on("POST", SELF, Answer::json(201, review));
    let version = concat!("v1.33.0+cattle", env!("CARGO_PKG_VERSION"));
    server.on("GET", "/version", Answer::json(200, json!({ "gitVersion": version })));
    in_every_form(&server, &machine, &["whoami"], "whoami").await;
}

#[tokio::test]
async fn how_a_cluster_is() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    show(
        &server,
        &cluster("False", "ApiServerUnreachable", "The agent cannot reach the API server: connection refused."),
    );
    in_every_form(&server, &machine, &["cluster", "status", "日本 prod"], "status").await;
    in_every_form(&server, &machine, &["cluster", "nodes", "c-abcde"], "nodes").await;
}

#[tokio::test]
async fn what_was_waited_for() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    let waits = || {
        let away = cluster("False", "Disconnected", "No agent is connected.");
        let (path, ready) = (format!("{CLUSTERS}/c-abcde"), cluster("True", "Ready", "Requests are answered."));
        show(&server, &away);
        let busy = Answer::json(503, json!({ "message": "the server is starting", "reason": "ServiceUnavailable" }));
        let answers = [busy, Answer::json(200, away.clone()), Answer::json(200, away), Answer::json(200, ready)];
        server.in_turn("GET", &path, answers);
    };
    for (form, ending) in [("table", "txt"), ("json", "json"), ("yaml", "yaml")] {
        waits();
        let Done { code, out, err } = machine.run(&["cluster", "wait", "c-abcde", "-o", form], "").await;
        assert_eq!(code, 0, "{err}");
        golden(&format!("wait.{ending}"), &out);
        golden("wait.err", &err);
    }
    show(&server, &cluster("False", "Disconnected", "No agent is connected."));
    let late = machine.run(&["cluster", "wait", "c-abcde", "--timeout", "1", "-o", "json"], "").await;
    assert_eq!((late.code, late.out.as_str()), (5, ""), "{}", late.err);
    assert!(late.err.contains("not ready in time: Ready: Disconnected: No agent is connected."), "{}", late.err);
}

#[tokio::test]
async fn what_was_waited_for_to_go() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    show(&server, &cluster("True", "Ready", ""));
    server.on(
        "GET",
        &format!("{CLUSTERS}/c-abcde"),
        Answer::json(404, json!({ "reason": "NotFound", "message": "gone" })),
    );
    in_every_form(&server, &machine, &["cluster", "wait", "c-abcde", "--for", "deleted"], "gone").await;
    let never = machine.run(&["cluster", "wait", "nobody", "--for", "deleted", "-o", "json"], "").await;
    assert_eq!(never.code, 0, "{}", never.err);
    assert_eq!(serde_json::from_str::<Value>(&never.out).unwrap()["kind"], "Status");
}

/// A server that this program may not understand is named, with both versions.
#[tokio::test]
async fn other_versions_are_named_where_they_may_be_the_reason() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    server.on("GET", "/version", Answer::json(200, json!({ "gitVersion": "v1.33.0+cattle99.1.0" })));
    let note = "the server is 99.1.0";
    let me = machine.run(&["whoami"], "").await;
    assert!(me.code == 0 && me.err.contains(note) && me.out.contains("99.1.0"), "{}{}", me.out, me.err);
    for (answer, named) in [
        (Answer::text(200, "<html>"), true),
        (Answer::json(400, json!({ "reason": "BadRequest", "message": "unknown field" })), true),
        (Answer::text(404, "page not found"), true),
        (Answer::json(404, json!({ "reason": "NotFound", "message": "not found" })), false),
        (Answer::json(403, json!({ "reason": "Forbidden", "message": "no" })), false),
    ] {
        server.on("GET", CLUSTERS, answer);
        let done = machine.run(&["cluster", "list"], "").await;
        assert!(done.code != 0 && done.err.contains(note) == named, "{}", done.err);
    }
    server.on(
        "GET",
        "/version",
        Answer::json(200, json!({ "gitVersion": concat!("v1.33.0+cattle", env!("CARGO_PKG_VERSION")) })),
    );
    server.on("GET", CLUSTERS, Answer::text(200, "<html>"));
    let done = machine.run(&["cluster", "list"], "").await;
    assert!(!done.err.contains("note:"), "{}", done.err);
}
