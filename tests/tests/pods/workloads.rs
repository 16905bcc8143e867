//! `kubectl cordon`, `drain` and `uncordon`, `rollout`, and `wait` for a condition.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use cattle_harness::{Output, wait_for};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::object::{container, pod, ready_when_told};
use crate::rig::{PROGRAMS, Rig, SOON, WORKER, compare, with_rig};
use crate::session::Session;

const POD: &str = "drained-0";

/// Runs on the worker while it may, else beside the control plane. Its pods have names that do not change.
fn stateful() -> Value {
    let preferred = json!([{ "weight": 100, "preference": { "matchExpressions": [
        { "key": "kubernetes.io/hostname", "operator": "In", "values": [WORKER] },
    ] } }]);
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "drained" },
        "spec": {
            "replicas": 1, "serviceName": "drained", "selector": { "matchLabels": { "app": "drained" } },
            "template": { "metadata": { "labels": { "app": "drained" } }, "spec": {
                "terminationGracePeriodSeconds": 0,
                "tolerations": [{ "key": "node-role.kubernetes.io/control-plane", "operator": "Exists" }],
                "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": preferred } },
                "containers": [container("exec sleep 1000000")],
            } },
        },
    })
}

fn budget(minimum: u8) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "drained" },
        "spec": { "minAvailable": minimum, "selector": { "matchLabels": { "app": "drained" } } },
    })
}

#[test]
fn a_node_is_drained_as_its_budget_allows() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("drain").await?;
        rig.apply("drain", &[stateful(), budget(1)]).await?;
        for program in PROGRAMS {
            let mut runs = Vec::new();
            for way in 0..2 {
                on_worker(rig).await?;
                let run = drained(rig, program, way).await;
                runs.push(run.with_context(|| format!("{program}, way {way}"))?);
                rig.apply("drain", &[budget(1)]).await?;
                rig.admin("drain", &["delete", "pod", POD]).await?;
            }
            for (through, direct) in runs[0].iter().zip(&runs[1]) {
                compare(through, direct, 0).context(program)?;
            }
        }
        Ok(())
    })
}

/// The pod is ready on the node that is drained, and its budget has counted it.
async fn on_worker(rig: &Rig) -> anyhow::Result<()> {
    wait_for("the pod on the worker", SOON, async || {
        let get = |what| {
            rig.nodes.kubectl(["--namespace", "drain", "get", what, if what == "pod" { POD } else { "drained" }])
        };
        let pod = get("pod").json().await?;
        let conditions = pod["status"]["conditions"].as_array().context("no conditions")?;
        let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        ensure!(ready && pod["metadata"]["deletionTimestamp"].is_null(), "{}", pod["status"]);
        ensure!(pod["spec"]["nodeName"] == WORKER, "it is on {}", pod["spec"]["nodeName"]);
        let budget = get("poddisruptionbudget").json().await?;
        ensure!(budget["status"]["currentHealthy"] == 1, "{}", budget["status"]);
        ensure!(budget["status"]["observedGeneration"] == budget["metadata"]["generation"], "{}", budget["status"]);
        Ok(())
    })
    .await
}

/// What each command printed; of what `drain` repeats while it waits, once.
async fn drained(rig: &Rig, program: &str, way: usize) -> anyhow::Result<Vec<Output>> {
    let client = |line: &[&str]| rig.clients(program, "drain", line)[way].clone();
    let mut outputs = Vec::new();
    for line in [["cordon", WORKER], ["cordon", WORKER]] {
        outputs.push(client(&line).output().await?);
    }
    // Nothing but this test's pod: others of this node go on.
    let mut drain = Session::start(&client(&[
        "drain",
        WORKER,
        "--pod-selector=app=drained",
        "--ignore-daemonsets",
        "--timeout=100s",
    ]))?;
    loop {
        let line = drain.error_line().await?;
        if line.contains("disruption budget") {
            break;
        }
    }
    rig.apply("drain", &[budget(0)]).await?;
    let mut drain = drain.finish().await?;
    for stream in [&mut drain.stdout, &mut drain.stderr] {
        let text = String::from_utf8_lossy(stream).into_owned();
        let mut seen = BTreeSet::new();
        *stream = text.lines().filter(|line| seen.insert(*line)).collect::<Vec<_>>().join("\n").into_bytes();
    }
    ensure!(drain.text().contains("evicted"), "nothing was evicted: {}", drain.text());
    outputs.push(drain);
    for line in [["uncordon", WORKER], ["uncordon", WORKER]] {
        outputs.push(client(&line).output().await?);
    }
    Ok(outputs)
}

fn deployment(name: &str, container: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "app": name } },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": {
                "terminationGracePeriodSeconds": 0,
                // Whoever drains the node at the moment does not hold this up.
                "tolerations": [{ "key": "node.kubernetes.io/unschedulable", "operator": "Exists" }],
                "containers": [container],
            } },
        },
    })
}

#[test]
fn a_rollout_is_watched_to_its_end() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("rollout").await?;
        let plain = deployment("plain", &container("exec sleep 1000000"));
        let held = deployment("held", &ready_when_told(container("exec sleep 1000000")));
        rig.apply("rollout", &[plain, held]).await?;
        watched(rig).await?;
        for program in PROGRAMS {
            let mut ends = Vec::new();
            for way in 0..2 {
                let client = |line: &[&str]| rig.clients(program, "rollout", line)[way].clone();
                let restarted = client(&["rollout", "restart", "deployment/plain"]).output().await?;
                // How many steps there are to see depends on the moment.
                let mut status = client(&["rollout", "status", "deployment/plain"]).output().await?;
                status.stdout = status.text().lines().last().unwrap_or_default().as_bytes().to_vec();
                ends.push((restarted, status));
            }
            compare(&ends[0].0, &ends[1].0, 0).context(program)?;
            compare(&ends[0].1, &ends[1].1, 0).context(program)?;
            ensure!(ends[0].1.text().contains("successfully rolled out"), "{}", ends[0].1.text());
            rig.same(program, "rollout", &["rollout", "history", "deployment/plain"], None, 0).await?;
            rig.same(program, "rollout", &["rollout", "status", "deployment/nope"], None, 1).await?;
        }
        Ok(())
    })
}

/// All wait at the same step, which ends for all at the same moment.
async fn watched(rig: &Rig) -> anyhow::Result<()> {
    rig.wait("rollout", "jsonpath={.status.unavailableReplicas}=1", &["deployment/held"]).await?;
    rig.wait("rollout", "jsonpath={.status.phase}=Running", &["pod", "-l", "app=held"]).await?;
    let line = ["rollout", "status", "deployment/held", "--timeout=100s"];
    let clients = PROGRAMS.map(|program| rig.clients(program, "rollout", &line));
    let mut sessions = clients.iter().flatten().map(Session::start).collect::<anyhow::Result<Vec<_>>>()?;
    for session in &mut sessions {
        let line = session.line().await?;
        ensure!(line.contains("0 of 1 updated replicas are available"), "{line}");
    }
    rig.admin("rollout", &["exec", "deployment/held", "--", "sh", "-c", ": >/tmp/go"]).await?;
    let all = try_join_all(sessions.into_iter().map(Session::finish)).await?;
    for ways in all.chunks(2) {
        compare(&ways[0], &ways[1], 0)?;
    }
    Ok(())
}

#[test]
fn a_condition_is_waited_for() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("wait").await?;
        let mut waits = pod("waits", "");
        waits["spec"]["containers"][0] = ready_when_told(container("exec sleep 1000000"));
        rig.apply("wait", &[waits]).await?;
        rig.wait("wait", "jsonpath={.status.phase}=Running", &["pod/waits"]).await?;
        for program in PROGRAMS {
            let never = ["wait", "--for=condition=Ready", "pod/waits", "--timeout=1s"];
            rig.same(program, "wait", &never, None, 1).await?;
            rig.same(program, "wait", &["wait", "--for=condition=Ready", "pod/nope", "--timeout=1s"], None, 1).await?;
        }
        let line = ["wait", "--for=condition=Ready", "pod/waits", "--timeout=100s"];
        let clients = PROGRAMS.map(|program| rig.clients(program, "wait", &line));
        let sessions = clients.iter().flatten().map(Session::start).collect::<anyhow::Result<Vec<_>>>()?;
        rig.admin("wait", &["exec", "waits", "--", "sh", "-c", ": >/tmp/go"]).await?;
        let all = try_join_all(sessions.into_iter().map(Session::finish)).await?;
        for ways in all.chunks(2) {
            compare(&ways[0], &ways[1], 0)?;
            ensure!(ways[0].text() == "pod/waits condition met\n", "{}", ways[0].text());
        }
        Ok(())
    })
}
