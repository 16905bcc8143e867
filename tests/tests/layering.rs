//! The layers of the workspace: an edge that the architecture forbids fails here, with its reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// `(from, to, why)`: `from` may not reach `to`, directly or through other packages of the workspace.
/// A trailing `*` stands for any rest of a name.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (
        "cattle-proto",
        "tokio",
        "the wire is bytes and types: no I/O, so that every rule of it is tested without a runtime",
    ),
    ("cattle-proto", "kube*", "the wire knows no Kubernetes"),
    ("cattle-proto", "tracing", "the wire has nothing to report: its errors say it"),
    ("cattle-tunnel", "kube*", "a session knows no Kubernetes"),
    ("cattle-tunnel", "cattle-agent", "layers point one way: proto <- tunnel <- agent"),
    ("cattle-runtime", "cattle-*", "what every process needs knows no part of the product"),
    ("cattle-trust", "cattle-*", "agents and the command line share how a CA is compared, and nothing else with it"),
    ("cattle-trust", "tokio", "it judges what others were shown: it opens no connection and reads no file"),
    ("cattle-cli", "cattle-agent", "the command line is no agent: what both need of a first contact is cattle-trust"),
    ("cattle-agent", "kube*", "being connected knows no Kubernetes: the node agent must not carry a client"),
    ("cattle-agent", "cattle-server", "an agent never links server code"),
    ("cattle-cluster-agent", "cattle-server", "an agent never links server code"),
    ("cattle-cluster-agent", "cattle-api", "an agent never links server code"),
    ("cattle-cluster-agent", "cattle-auth", "an agent never links server code"),
    ("cattle-cluster-agent", "cattle-store", "an agent never links server code"),
    ("cattle-cluster-agent", "rusqlite", "an agent stores nothing"),
    ("cattle-node-agent", "cattle-server", "an agent never links server code"),
    ("cattle-node-agent", "cattle-api", "an agent never links server code"),
    ("cattle-node-agent", "kube*", "a node agent has no Kubernetes right, and so no client"),
    ("cattle-node-agent", "k8s-openapi", "a node agent has no Kubernetes right, and so no client"),
    ("cattle-gateway", "kube*", "the end of the sessions knows no Kubernetes: registration is a controller's"),
    ("cattle-gateway", "cattle-store", "the gateway asks through its own trait; it holds no state that must survive"),
    ("cattle-gateway", "cattle-proxy", "the gateway carries bytes for whoever dials"),
    ("cattle-proxy", "cattle-gateway", "the proxy dials through its own trait, so that it is tested without sessions"),
    ("cattle-proxy", "cattle-controllers", "the proxy asks for impersonators through its own trait"),
    ("cattle-controllers", "cattle-gateway", "controllers see clusters, not sessions"),
    ("cattle-controllers", "cattle-tunnel", "controllers see clusters, not sessions"),
    ("cattle-controllers", "cattle-proxy", "controllers use their own credential, never the users' path"),
    ("cattle-auth", "cattle-proxy", "who somebody is does not depend on where they go"),
    ("cattle-api", "cattle-store", "kinds do not know where they are kept"),
    ("cattle-api", "kube-client", "kinds have no client"),
    ("cattle-store", "cattle-auth", "the store does not decide who may read"),
    ("cattle-cli", "cattle-server", "the command line uses the public API like any other client"),
    ("cattle-cli", "cattle-api", "the command line uses the public API like any other client"),
    ("*", "cattle-tests", "nothing depends on tests but what measures with their fixtures"),
    ("*", "cattle-matrix", "it counts allocations: for tests (dev-dependencies) only"),
];

/// Edges that a rule with a `*` would forbid and should not.
const ALLOWED: &[(&str, &str)] = &[("cattle-bench", "cattle-tests"), ("cattle-test", "cattle-matrix")];

/// The same, for a package's own `Cargo.toml` alone: what it reaches through others is theirs to use.
const FORBIDDEN_DIRECTLY: &[(&str, &str, &str)] = &[
    (
        "cattle-proxy",
        "kube*",
        "the proxy carries bytes of every API version; a typed client would drop what it does not know",
    ),
    ("cattle-proxy", "cattle-store", "the proxy asks through its own traits"),
    ("cattle-api", "rusqlite", "kinds do not know where they are kept"),
];

#[test]
fn no_forbidden_direct_edge() {
    let graph = graph();
    for (from, to, why) in FORBIDDEN_DIRECTLY {
        let dependencies = graph.get(*from).unwrap_or_else(|| panic!("no package {from}"));
        let found = dependencies.iter().find(|name| matches(to, name));
        assert_eq!(found, None, "{from} may not depend on it: {why}");
    }
}

#[test]
fn no_forbidden_edge() {
    let graph = graph();
    let mut found = Vec::new();
    for (from, to, why) in FORBIDDEN {
        for package in graph.keys().filter(|package| package.starts_with("cattle-") && matches(from, package)) {
            let allowed = ALLOWED.contains(&(package.as_str(), to));
            if let Some(path) = path_to(&graph, package, to).filter(|_| !allowed) {
                found.push(format!("{}\n    forbidden because {why}", path.join(" -> ")));
            }
        }
    }
    assert!(found.is_empty(), "forbidden dependency edges:\n  {}", found.join("\n  "));
}

#[test]
fn every_rule_names_a_package_that_exists() {
    let graph = graph();
    for (from, _, _) in FORBIDDEN {
        assert!(graph.keys().any(|package| matches(from, package)), "no package {from}: the rule guards nothing");
    }
}

#[test]
fn a_forbidden_edge_would_be_found() {
    let graph = BTreeMap::from([
        ("cattle-proxy".to_owned(), BTreeSet::from(["cattle-auth".to_owned()])),
        ("cattle-auth".to_owned(), BTreeSet::from(["kube-client".to_owned()])),
        ("kube-client".to_owned(), BTreeSet::new()),
    ]);
    assert_eq!(path_to(&graph, "cattle-proxy", "kube*").unwrap(), ["cattle-proxy", "cattle-auth", "kube-client"]);
    assert_eq!(path_to(&graph, "cattle-proxy", "cattle-gateway"), None);
}

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Normal dependencies of the workspace's packages; packages from elsewhere are leaves.
fn graph() -> Graph {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let mut graph = Graph::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        let names = normal.map(|dependency| dependency["name"].as_str().expect("name").to_owned()).collect();
        graph.insert(package["name"].as_str().expect("name").to_owned(), names);
    }
    graph
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// The shortest way from `from` to anything that `to` names.
fn path_to(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut paths = std::collections::VecDeque::from([vec![from.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop_front() {
        let last = path.last()?;
        for next in graph.get(last).into_iter().flatten().filter(|next| seen.insert((*next).clone())) {
            let mut longer = path.clone();
            longer.push(next.clone());
            if matches(to, next) {
                return Some(longer);
            }
            paths.push_back(longer);
        }
    }
    None
}
