//! A whole cluster comes up, runs pods, takes faults, and leaves nothing. Needs root and packages.

#![expect(clippy::unwrap_used, reason = "helpers of a test panic like the test itself")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use cattle_harness::{Nodes, NodesOptions, TOOLBOX_IMAGE, wait_for};

const DEADLINE: Duration = Duration::from_secs(120);

/// A pod that serves its host name over HTTP, on a node.
fn pod(name: &str, node: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "web", "image": TOOLBOX_IMAGE, "imagePullPolicy": "Never",
                "args": ["netexec", "--http-port=8080"],
                "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 },
            }],
        },
    })
    .to_string()
}

fn leftovers(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, pattern) in [("/run/netns", format!("cattle-{id}")), ("/sys/fs/cgroup", format!("cattle-{id}"))] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&pattern) {
                found.push(entry.path().display().to_string());
            }
            let nested = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
            let nested = nested.filter(|entry| entry.file_name().to_string_lossy().starts_with(&pattern));
            found.extend(nested.map(|entry| entry.path().display().to_string()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&format!("cattle-{id}"))).map(str::to_owned));
    found
}

#[tokio::test]
async fn a_cluster_runs_pods_and_takes_faults() {
    if let Some(reason) = Nodes::unavailable() {
        println!("skipped: {reason}");
        return;
    }
    let mut cluster = Nodes::start(NodesOptions::default()).await.unwrap();
    pods_logs_exec_and_services(&cluster).await;
    pods_reach_this_machine(&cluster).await;
    partition_and_heal(&cluster).await;
    power_cut(&mut cluster).await;

    let (id, directory) = (cluster.scope().id().to_owned(), cluster.directory().to_owned());
    assert!(!leftovers(&id).is_empty(), "the check below would see nothing");
    drop(cluster);
    assert_eq!(leftovers(&id), Vec::<String>::new());
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_node_with_a_disk_of_its_own_can_be_full() {
    if let Some(reason) = Nodes::unavailable() {
        println!("skipped: {reason}");
        return;
    }
    let options =
        NodesOptions { name: "disk".to_owned(), workers: 0, disk_bytes: Some(2 << 30), ..NodesOptions::default() };
    let cluster = Nodes::start(options).await.unwrap();
    let node = &cluster.nodes()[0];
    let write = ["dd", "if=/dev/zero", "of=/var/lib/another", "bs=1M", "count=1"];
    node.full_disk().unwrap();
    let full = node.output(write).await.unwrap();
    assert!(full.error().contains("No space left on device"), "{}", full.error());
    node.free_disk().unwrap();
    node.run(write).await.unwrap();
    cluster.wait_ready().await.unwrap();
    let directory = cluster.directory().to_owned();
    drop(cluster);
    assert!(!directory.exists());
}

async fn pods_logs_exec_and_services(cluster: &Nodes) {
    for (name, node) in [("one", "node-1"), ("two", "node-2")] {
        cluster.kubectl(["apply", "-f", "-"]).stdin(pod(name, node)).ok().await.unwrap();
        cluster.kubectl(["expose", "pod", name, "--port=80", "--target-port=8080"]).ok().await.unwrap();
    }
    cluster.kubectl(["wait", "--for=condition=Ready", "pod/one", "pod/two", "--timeout=100s"]).ok().await.unwrap();
    for (pod, other) in [("one", "two"), ("two", "one")] {
        let name = cluster.kubectl(["exec", pod, "--", "wget", "-qO-", &format!("http://{other}/hostname")]);
        assert_eq!(wait_for("the Service", DEADLINE, async || name.ok().await).await.unwrap(), other);
        let logs = cluster.kubectl(["logs", pod]).ok().await.unwrap();
        assert!(logs.contains("Started HTTP server on port 8080"), "{logs}");
    }
    let piped = cluster.kubectl(["exec", "-i", "two", "--", "sh", "-c", "wc -c; exit 7"]).stdin("12345");
    let piped = piped.output().await.unwrap();
    assert_eq!((piped.text().trim(), piped.status.code()), ("5", Some(7)), "{}", piped.error());
}

async fn pods_reach_this_machine(cluster: &Nodes) {
    let listener = TcpListener::bind((cluster.host_address(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nthis machine").unwrap();
        }
    });
    let url = format!("http://{}:{port}/", cluster.host_address());
    for pod in ["one", "two"] {
        let answer = cluster.kubectl(["exec", pod, "--", "wget", "-qO-", &url]).ok().await.unwrap();
        assert_eq!(answer, "this machine");
    }
    answer.join().unwrap();
}

/// A TCP connection from pod one to the Service of pod two: the kind of failure in capitals, nothing when it works.
async fn connect(cluster: &Nodes) -> anyhow::Result<String> {
    let call = cluster.kubectl(["exec", "one", "--", "agnhost", "connect", "--timeout=3s", "two:80"]).output().await?;
    Ok(call.text().trim().to_owned() + call.error().lines().next().unwrap_or_default())
}

async fn partition_and_heal(cluster: &Nodes) {
    let worker = &cluster.nodes()[1];
    assert_eq!(connect(cluster).await.unwrap(), "");
    worker.partition().await.unwrap();
    let cut = connect(cluster).await.unwrap();
    assert!(cut.starts_with("TIMEOUT"), "{cut}");
    worker.heal().await.unwrap();
    wait_connected(cluster).await;
}

async fn wait_connected(cluster: &Nodes) {
    let connected = wait_for("pod one to reach pod two", DEADLINE, async || {
        let outcome = connect(cluster).await?;
        anyhow::ensure!(outcome.is_empty(), "{outcome}");
        Ok(())
    });
    connected.await.unwrap();
}

async fn power_cut(cluster: &mut Nodes) {
    cluster.power_cut(1).await.unwrap();
    assert!(cluster.nodes()[1].run(["true"]).await.is_err());
    let status = async |cluster: &Nodes| {
        let node = cluster.kubectl(["get", "node", "node-2"]).json().await?;
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
        anyhow::Ok(ready["status"].as_str().unwrap_or_default().to_owned())
    };
    let gone = wait_for("the node to be missed", DEADLINE, async || {
        let status = status(cluster).await?;
        anyhow::ensure!(status == "Unknown", "the node's Ready is {status}");
        Ok(())
    });
    gone.await.unwrap();
    cluster.power_on(1).await.unwrap();
    cluster.wait_ready().await.unwrap();
    wait_connected(cluster).await;
}
