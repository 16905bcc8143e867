//! The demo itself: a cluster is registered by its manifest and used through the server, and nothing is left afterwards.
//! Needs root and packages.

use std::path::Path;
use std::process::{Command, Output};

use cattle_harness::{Client, Nodes, binary};

fn demo(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cattle-demo"));
    command.arg("--directory").arg(directory).args(arguments).env_remove("KUBECONFIG");
    command.output().expect("the demo can be started")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Stops the demo when a test fails in its middle.
struct Stop<'a>(&'a Path);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        demo(self.0, &["stop"]);
    }
}

#[tokio::test]
async fn it_starts_is_usable_and_stops() {
    if let Some(reason) = Nodes::unavailable() {
        println!("skipped: {reason}");
        return;
    }
    for program in ["cattle", "cattle-server", "cattle-cluster-agent"] {
        binary(program).unwrap();
    }
    let name = format!("demo{:x}", std::process::id());
    let directory = Path::new("/var/tmp").join(&name);
    let stop = Stop(&directory);

    let output = demo(&directory, &["start"]);
    let shown = text(&output);
    assert!(output.status.success(), "{shown}");
    for line in [
        "$ cattle cluster manifest demo | kubectl apply -f -",
        "demo-2   Ready",
        "a pod says hello",
        "this is cattle-demo",
        "make demo-stop",
    ] {
        assert!(shown.contains(line), "no {line:?} in\n{shown}");
    }
    // It goes on without the program that has started it, and the downstream API server is not what is asked.
    let kubeconfig = directory.join("kubeconfig");
    let kubectl = Client::new(directory.join("bin/kubectl"), &kubeconfig);
    let server =
        kubectl.clone().args(["config", "view", "--output=jsonpath={.clusters[0].cluster.server}"]).ok().await.unwrap();
    assert!(server.contains(":8443/k8s/clusters/c-"), "{server}");
    let echoed = kubectl.args(["exec", "-i", "cattle-demo", "--", "cat"]).stdin("still there").ok().await.unwrap();
    assert_eq!(echoed, "still there");

    let output = demo(&directory, &["stop"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!directory.exists());
    let namespaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left: Vec<_> = namespaces.filter(|entry| entry.file_name().to_string_lossy().contains(&name)).collect();
    assert!(left.is_empty(), "{left:?}");
    drop(stop);
}

#[test]
fn a_cluster_of_ones_own_needs_a_registry_and_an_address() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("demo");
    let config = directory.path().join("kubeconfig");
    let start = |extra: &[&str]| {
        let mut arguments = vec!["start", "--kubeconfig", config.to_str().unwrap()];
        arguments.extend(extra);
        let output = demo(&place, &arguments);
        assert!(!output.status.success());
        text(&output)
    };
    assert!(start(&[]).contains("CATTLE_IMAGE_PREFIX=REGISTRY/PATH"));
    assert!(start(&["--image-prefix", "registry.test/team"]).contains("CATTLE_URL=https://NAME:PORT"));
    let reach = ["--image-prefix", "registry.test/team", "--url", "http://name:1"];
    assert!(start(&reach).contains("CATTLE_URL must be https"));
    let reach = ["--image-prefix", "registry.test/team", "--url", "https://name:1"];
    assert!(start(&reach).contains("must name one file"));
}
