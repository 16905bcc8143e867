//! The demo itself: a cluster is registered by its manifest and used through the server, and nothing is left afterwards.
//! Needs root and packages.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use cattle_harness::{Assets, Client, Nodes, NodesOptions, Program, binary, wait_for};

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

#[tokio::test]
async fn somebodys_cluster_is_probed_registered_and_left_as_it_was() {
    if let Some(reason) = Nodes::unavailable() {
        println!("skipped: {reason}");
        return;
    }
    let options = NodesOptions { name: "theirs".to_owned(), workers: 0, ..NodesOptions::default() };
    let cluster = Nodes::start(options).await.unwrap();
    let port = || std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let (registry_port, server_port) = (port(), port());
    let (registry, host) = (format!("127.0.0.1:{registry_port}"), cluster.host_address());
    cluster.nodes()[0].set_registry(&registry, &format!("http://{host}:{registry_port}")).unwrap();
    let crane = Assets::ready().await.unwrap().program("crane");
    let serve =
        Program::new("registry", crane).args(["registry", "serve", "--address", &format!("0.0.0.0:{registry_port}")]);
    let mut serve = serve.start(cluster.scope()).unwrap();
    let listening = async || Ok(tokio::net::TcpStream::connect(("127.0.0.1", registry_port)).await.map(drop)?);
    serve.wait_until("the registry", Duration::from_secs(30), listening).await.unwrap();
    let before = cluster.kubectl(["get", "namespaces,clusterroles", "--output=name"]).ok().await.unwrap();

    let directory = Path::new("/var/tmp").join(format!("demo{:x}-theirs", std::process::id()));
    let stop = Stop(&directory);
    let (kubeconfig, prefix) = (cluster.kubeconfig(), format!("{registry}/team"));
    let start_from = |prefix: &str, url: &str| {
        demo(
            &directory,
            &["start", "--kubeconfig", kubeconfig.to_str().unwrap(), "--image-prefix", prefix, "--url", url],
        )
    };
    let start = |url: String| start_from(&prefix, &url);
    // This machine reaches the registry by another name, the nodes do not: the step and what to do are named.
    let elsewhere = format!("localhost:{registry_port}/team");
    let unpullable = start_from(&elsewhere, &format!("https://{host}:{server_port}"));
    let shown = text(&unpullable);
    assert!(!unpullable.status.success());
    assert!(shown.contains(&format!("cannot pull from CATTLE_IMAGE_PREFIX={elsewhere}")), "{shown}");
    assert!(shown.contains("Next: "), "{shown}");
    let pushed_nowhere = start_from("127.0.0.1:1/team", &format!("https://{host}:{server_port}"));
    let shown = text(&pushed_nowhere);
    assert!(!pushed_nowhere.status.success() && shown.contains("docker login"), "{shown}");
    assert_eq!(cluster.kubectl(["get", "namespaces,clusterroles", "--output=name"]).ok().await.unwrap(), before);
    // An address that is not this machine: the probe says so, and nothing was changed.
    let unreachable = start(format!("https://198.18.255.1:{server_port}"));
    assert!(!unreachable.status.success());
    assert!(
        text(&unreachable).contains("a pod cannot reach this machine at https://198.18.255.1"),
        "{}",
        text(&unreachable)
    );
    assert_eq!(cluster.kubectl(["get", "namespaces,clusterroles", "--output=name"]).ok().await.unwrap(), before);

    let output = start(format!("https://{host}:{server_port}"));
    let shown = text(&output);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("theirs-1   Ready"), "{shown}");
    let images = ["get", "pods", "--namespace=cattle-system", "--output=jsonpath={.items[*].spec.containers[*].image}"];
    let images = cluster.kubectl(images).ok().await.unwrap();
    let ours = ["cluster-agent", "node-agent"].map(|agent| format!("{prefix}/cattle/{agent}:"));
    assert!(images.split(' ').all(|image| ours.iter().any(|ours| image.starts_with(ours))), "{images}");
    assert!(ours.iter().all(|ours| images.contains(ours)), "{images}");

    let output = demo(&directory, &["stop"]);
    assert!(output.status.success(), "{}", text(&output));
    let gone = wait_for("the cluster to be as it was", Duration::from_secs(60), async || {
        let now = cluster.kubectl(["get", "namespaces,clusterroles", "--output=name"]).ok().await?;
        anyhow::ensure!(now == before, "{now}");
        Ok(())
    });
    gone.await.unwrap();

    // The second time the server is gone before it can clean up.
    let output = start(format!("https://{host}:{server_port}"));
    assert!(output.status.success(), "{}", text(&output));
    let pattern = format!("cattle-server.*{}", directory.display());
    assert!(Command::new("pkill").args(["-KILL", "-f", &pattern]).status().unwrap().success());
    let output = demo(&directory, &["stop"]);
    assert!(output.status.success() && text(&output).contains("without the server"), "{}", text(&output));
    assert_eq!(cluster.kubectl(["get", "namespaces,clusterroles", "--output=name"]).ok().await.unwrap(), before);
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
