//! The manifest as text: golden, and unchanged in shape by whatever stands in its parameters.

#![allow(clippy::unwrap_used, reason = "a failed test is the point")]

use cattle_manifest::{CaChecksum, EnvVar, Image, ImportManifest, Label, RegistrationToken, Registry, ServerUrl};
use proptest::prelude::*;
use serde_json::Value;

const TOKEN: &str = "bcdfghjklmnpqrstvwxz2456789bcdfghjklmnpqrstvwxz2456789";

fn input() -> ImportManifest {
    ImportManifest {
        server_url: "https://cattle.example.com".parse().unwrap(),
        ca_checksum: Some("0123456789abcdef".repeat(4).parse().unwrap()),
        cluster_id: "c-abc12".parse().unwrap(),
        server_id: "7e57ab1e-0000-4000-8000-000000000001".parse().unwrap(),
        registration_token: TOKEN.parse().unwrap_or_else(|_| panic!("a token")),
        image: "cattle/cluster-agent:v0.1.0".parse().unwrap(),
        node_image: "cattle/node-agent:v0.1.0".parse().unwrap(),
        registry: None,
        agent_env: vec![],
    }
}

fn yaml(input: &ImportManifest) -> String {
    input.build().unwrap().to_yaml().unwrap()
}

fn parse(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// Kinds and names: what a parameter must never change.
fn shape(documents: &[Value]) -> Vec<String> {
    let key = |document: &Value| {
        let metadata = &document["metadata"];
        let name = metadata["name"].as_str().unwrap();
        let name = if name.starts_with("cattle-credentials-") { "cattle-credentials-" } else { name };
        format!("{} {} {} {name}", document["apiVersion"], document["kind"], metadata["namespace"])
    };
    documents.iter().map(key).collect()
}

#[test]
fn golden() {
    let mut full = input();
    full.registry = Some("registry.example.com:5000".parse().unwrap());
    full.agent_env = vec![
        EnvVar::new("HTTPS_PROXY", "http://proxy.example.com:3128").unwrap(),
        EnvVar::new("NO_PROXY", "127.0.0.0/8,10.0.0.0/8,.svc").unwrap(),
    ];
    for (name, input) in [("minimal.yaml", input()), ("full.yaml", full)] {
        let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        let actual = yaml(&input);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &actual).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), actual, "{path}; UPDATE_GOLDEN=1 rewrites it");
    }
}

#[test]
fn the_text_is_the_objects() {
    let manifest = input().build().unwrap();
    let objects: Vec<Value> = manifest.objects().iter().map(|object| object.as_json().clone()).collect();
    assert_eq!(parse(&manifest.to_yaml().unwrap()), objects);
}

#[test]
fn a_new_token_makes_a_new_secret_and_rolls_the_deployment() {
    let old = input();
    let mut new = input();
    new.registration_token = TOKEN.replace("bcd", "dcb").parse().unwrap_or_else(|_| panic!("a token"));
    let secret = |input: &ImportManifest| {
        let manifest = input.build().unwrap();
        manifest.objects().iter().find(|object| object.kind() == "Secret").unwrap().name().to_owned()
    };
    let template = |input: &ImportManifest| {
        let manifest = input.build().unwrap();
        let deployment = manifest.objects().iter().find(|object| object.kind() == "Deployment").unwrap();
        deployment.as_json()["spec"]["template"].clone()
    };
    assert_ne!(secret(&old), secret(&new));
    assert_ne!(template(&old), template(&new));
}

/// The objects that differ between two manifests, as `kind name`.
fn differing(old: &ImportManifest, new: &ImportManifest) -> Vec<String> {
    let (old, new) = (old.build().unwrap(), new.build().unwrap());
    let changed =
        new.objects().iter().filter(|object| !old.objects().iter().any(|other| other.as_json() == object.as_json()));
    changed.map(|object| format!("{} {}", object.kind(), object.name())).collect()
}

#[test]
fn the_same_settings_make_the_same_manifest() {
    assert_eq!(yaml(&input()), yaml(&input()));
    assert!(differing(&input(), &input()).is_empty());
}

#[test]
fn an_upgrade_changes_the_deployment_only_and_rolls_it_without_a_gap() {
    let changes: [fn(&mut ImportManifest); 4] = [
        |new| new.image = "cattle/cluster-agent:v0.2.0".parse().unwrap(),
        |new| new.registry = Some("registry.example.com:5000".parse().unwrap()),
        |new| new.ca_checksum = None,
        |new| new.agent_env = vec![EnvVar::new("HTTPS_PROXY", "http://proxy.example.com:3128").unwrap()],
    ];
    let deployment = |input: &ImportManifest| {
        let manifest = input.build().unwrap();
        manifest.objects().iter().find(|object| object.kind() == "Deployment").unwrap().as_json()["spec"].clone()
    };
    for change in changes {
        let mut new = input();
        change(&mut new);
        let differing = differing(&input(), &new);
        let rolled = differing.iter().filter(|object| *object != "DaemonSet cattle-node-agent");
        assert_eq!(rolled.collect::<Vec<_>>(), ["Deployment cattle-cluster-agent"]);
        let (mut before, mut after) = (deployment(&input()), deployment(&new));
        assert_ne!(before["template"], after["template"], "pods roll when their template changes");
        assert_eq!(after["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
        // What the API server refuses to change.
        assert_eq!(before["selector"], after["selector"]);
        before["template"] = Value::Null;
        after["template"] = Value::Null;
        assert_eq!(before, after, "and nothing else does");
    }
}

#[test]
fn a_manifest_for_a_bound_cluster_brings_a_token_and_leaves_all_else() {
    let mut new = input();
    new.registration_token = TOKEN.replace("bcd", "dcb").parse().unwrap_or_else(|_| panic!("a token"));
    let differing = differing(&input(), &new);
    assert_eq!(differing.len(), 2, "{differing:?}");
    assert!(differing[0].starts_with("Secret cattle-credentials-"), "{differing:?}");
    assert_eq!(differing[1], "Deployment cattle-cluster-agent");
}

#[test]
fn every_object_is_labelled_ours_and_none_runs_as_the_server() {
    let manifest = input().build().unwrap();
    for object in manifest.objects() {
        let labels = &object.as_json()["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/managed-by"], "cattle-server", "{} {}", object.kind(), object.name());
        let pod = &object.as_json()["spec"]["template"]["spec"];
        if pod.is_object() {
            assert_eq!(pod["serviceAccountName"], object.name());
            match object.kind() {
                "DaemonSet" => of_a_node(pod),
                _ => restricted(pod),
            }
        }
    }
}

/// The `restricted` pod security standard, and our own rules on top.
fn restricted(pod: &Value) {
    let contexts = ["hostNetwork", "hostPID", "hostIPC"];
    assert!(contexts.iter().all(|field| pod[*field].is_null()));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    confined(pod);
    for volume in pod["volumes"].as_array().unwrap() {
        assert!(volume["hostPath"].is_null());
    }
}

/// A node agent is on its host's network; else it can do and see what the cluster agent can, and its init container reads two
/// folders and a file more.
fn of_a_node(pod: &Value) {
    assert_eq!(pod["hostNetwork"], true);
    assert!(["hostPID", "hostIPC"].iter().all(|field| pod[*field].is_null()));
    assert_eq!(pod["automountServiceAccountToken"], false, "it has no right that it could use");
    assert_eq!(pod["tolerations"], serde_json::json!([{ "operator": "Exists" }]));
    confined(pod);
    let folders: Vec<&Value> =
        pod["volumes"].as_array().unwrap().iter().filter(|v| v["hostPath"].is_object()).collect();
    let path = |volume: &&Value| volume["hostPath"]["path"].as_str().unwrap().to_owned();
    assert_eq!(
        folders.iter().map(path).collect::<Vec<_>>(),
        ["/etc/kubernetes", "/var/lib/rancher", "/etc/os-release"]
    );
    let mounts = |container: &Value| container["volumeMounts"].as_array().unwrap().clone();
    for folder in folders {
        let of_folder = |mount: &Value| mount["name"] == folder["name"];
        assert!(!mounts(&pod["containers"][0]).iter().any(of_folder), "only the init container sees the host");
        let seen = mounts(&pod["initContainers"][0]).into_iter().find(of_folder).unwrap();
        assert_eq!(seen["readOnly"], true);
    }
    assert_eq!(pod["containers"][0]["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["initContainers"][0]["securityContext"]["runAsUser"], 0, "a kubeconfig of the kubelet is root's");
}

/// What holds for every container of ours.
fn confined(pod: &Value) {
    for containers in ["containers", "initContainers"] {
        for container in pod[containers].as_array().into_iter().flatten() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
            assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
            assert!(container["resources"]["limits"]["memory"].is_string());
            let probed = container["livenessProbe"].is_object() && container["readinessProbe"].is_object();
            assert!(probed || containers == "initContainers");
        }
    }
}

/// Pieces that break templates and YAML, mixed with plain ones.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n---\nkind: Secret\n"),
        Just("'"),
        Just("\""),
        Just(": "),
        Just(" #"),
        Just("{{x}}"),
        Just("\r"),
        Just("\u{85}"),
        Just("\u{2028}"),
        Just("\u{feff}"),
        Just("yes"),
        Just("0x1f"),
        Just("1_000"),
        Just("12:30:45"),
        Just("null"),
        Just("~"),
        Just("&a"),
        Just("*a"),
        Just("!!str"),
        Just("%YAML"),
        Just("\\"),
        Just("\t"),
        Just("é"),
        Just("a"),
        Just("-"),
        Just("."),
        Just("/"),
        Just(":1"),
        Just("@sha256:"),
        Just("https://"),
        Just("$(X)"),
        Just("😀"),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Replaces the parameter if its type takes the text.
fn set<T: std::str::FromStr>(field: &mut T, text: &str) {
    if let Ok(value) = text.parse() {
        *field = value;
    }
}

proptest! {
    #![proptest_config(cattle_matrix::proptest_config(1_000))]

    #[test]
    fn no_parameter_changes_documents_kinds_or_names(
        texts in prop::collection::vec(hostile(), 8), env in prop::collection::vec((hostile(), hostile()), 0..6),
    ) {
        let mut fuzzed = input();
        set(&mut fuzzed.server_url, &texts[0]);
        set(&mut fuzzed.server_url, &format!("https://{}", texts[0]));
        set(&mut fuzzed.cluster_id, &texts[1]);
        set(&mut fuzzed.server_id, &texts[2]);
        set(&mut fuzzed.image, &texts[3]);
        set(&mut fuzzed.registration_token, &texts[4]);
        fuzzed.ca_checksum = texts[5].parse::<CaChecksum>().ok().or(fuzzed.ca_checksum);
        fuzzed.registry = texts[6].parse::<Registry>().ok();
        fuzzed.agent_env = env.iter().filter_map(|(name, value)| EnvVar::new(name, value).ok()).collect();
        fuzzed.agent_env.extend(env.iter().filter_map(|(_, value)| EnvVar::new("EXTRA", value).ok()));

        let documents = parse(&yaml(&fuzzed));
        prop_assert_eq!(shape(&documents), shape(&parse(&yaml(&input()))));
        let objects: Vec<Value> = fuzzed.build().unwrap().objects().iter().map(|object| object.as_json().clone()).collect();
        prop_assert_eq!(documents, objects);
    }

    #[test]
    fn parsers_never_panic(text in ".*") {
        let _ = (text.parse::<ServerUrl>(), text.parse::<Label>(), text.parse::<Image>(), text.parse::<Registry>());
        let _ = (text.parse::<RegistrationToken>().is_ok(), text.parse::<CaChecksum>(), EnvVar::new(&text, &text));
    }
}
