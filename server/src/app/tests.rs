use std::collections::BTreeSet;

use prometheus_client::registry::Registry;

use super::*;
use crate::{args::ServeArgs, config::ConfigFile};

/// Names of everything in a registry, without the endings that OpenMetrics adds by type. Families that have no value yet are
/// left out of the text that is served, so the registry is asked for its own description.
fn registered(registry: &Registry) -> BTreeSet<String> {
    let mut served = String::new();
    prometheus_client::encoding::text::encode(&mut served, registry).unwrap();
    let types = served.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut names: BTreeSet<String> = types.map(str::to_owned).collect();
    let described = format!("{registry:?}");
    let mut prefix = "";
    for part in described.split("Registry { prefix: ").skip(1) {
        if let Some(rest) = part.strip_prefix("Some(Prefix(\"") {
            prefix = rest.split('"').next().unwrap_or_default();
        } else {
            prefix = if part.starts_with("None") { "" } else { prefix };
        }
        for descriptor in part.split("Descriptor { name: \"").skip(1) {
            let name = descriptor.split('"').next().unwrap_or_default();
            let unit = if descriptor.contains("unit: Some(Seconds)") { "_seconds" } else { "" };
            names.insert(if prefix.is_empty() { format!("{name}{unit}") } else { format!("{prefix}_{name}{unit}") });
        }
    }
    names
}

#[tokio::test]
async fn metrics_are_documented_and_what_is_documented_and_watched_exists() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    let args = ServeArgs {
        data_dir: Some(directory.path().join("data")),
        listen: "127.0.0.1:0".parse().ok(),
        ..ServeArgs::default()
    };
    let mut runtime = Runtime::new("cattle-server", "0").unwrap();
    let config = Config::resolve(&args, ConfigFile::default()).unwrap();
    let app = Box::pin(App::build(&config, 1024, &mut runtime)).await.unwrap();
    let registry = runtime.registry();
    let registered = registered(registry);
    drop(app);

    let page = include_str!("../../../docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let metrics = rows.filter(|name| name.starts_with("cattle_") || name.starts_with("process_"));
    let documented: BTreeSet<String> = metrics
        .map(|name| name.split('{').next().unwrap_or_default())
        .map(|name| {
            ["_total", "_info"].iter().fold(name, |name, end| name.strip_suffix(end).unwrap_or(name)).to_owned()
        })
        .collect();
    let missing: Vec<_> = registered.difference(&documented).collect();
    assert!(missing.is_empty(), "not in the table of docs/operations.md: {missing:?}");
    let gone: Vec<_> = documented.difference(&registered).collect();
    assert!(gone.is_empty(), "in the table of docs/operations.md, but not registered: {gone:?}");

    let alerts = include_str!("../../../deploy/monitoring/alerts.yaml");
    let dashboard = include_str!("../../../deploy/monitoring/dashboard.json");
    for (file, text) in [("alerts.yaml", alerts), ("dashboard.json", dashboard)] {
        let watched: BTreeSet<String> = named(text);
        assert!(watched.len() > 5, "{file} names {watched:?}");
        let gone: Vec<_> = watched.difference(&registered).collect();
        assert!(gone.is_empty(), "in {file}, but not registered: {gone:?}");
    }
    let _: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let rules: serde_json::Value = serde_saphyr::from_str(alerts).unwrap();
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        let says = |field: &str| rule["annotations"][field].as_str().is_some_and(|text| !text.is_empty());
        assert!(says("summary") && says("description") && rule["expr"].is_string(), "{rule}");
    }
}

/// The metrics that a text names, without what the format appends to them.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let parts =
        ["cattle_gateway_", "cattle_proxy_", "cattle_audit_", "cattle_server_", "cattle_listener_", "cattle_build_"];
    let ours = words.filter(|word| parts.iter().any(|part| word.starts_with(part)));
    ours.map(|word| {
        ["_total", "_info", "_bucket"].iter().fold(word, |word, end| word.strip_suffix(end).unwrap_or(word)).to_owned()
    })
    .collect()
}

#[test]
fn a_clock_without_a_battery_is_noticed() {
    let refused = check_clock("1970-01-01T00:03:00Z".parse().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("1970-01-01"), "{refused}");
    assert!(check_clock("2026-02-01T00:00:00Z".parse().unwrap()).is_ok());
}
