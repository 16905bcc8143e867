use std::time::Duration;

use serde_json::json;

use cattle_harness::wait_for;

use crate::place::{CLUSTER, Place};
use crate::stage::Stage;

const POD: &str = "cattle-demo";

/// kubectl through the server: reads, logs and exec. Where nothing can be pulled, `image` makes the pod.
pub(crate) async fn show(stage: &Stage, place: &Place, image: Option<&str>) -> anyhow::Result<()> {
    stage.heading("kubectl, through the server");
    let kubeconfig = place.kubeconfig();
    stage.say(&format!("$ export KUBECONFIG={}", kubeconfig.display()));
    for line in ["get nodes", "get pods --all-namespaces", "auth whoami"] {
        let words: Vec<&str> = line.split(' ').collect();
        stage.run(&format!("kubectl {line}"), &place.kubectl(&kubeconfig, &words)).await?;
    }
    match image {
        Some(image) => pod(stage, place, image).await,
        None => agent_logs(stage, place).await,
    }
}

/// What to type next.
pub(crate) fn how_to_go_on(stage: &Stage, place: &Place) {
    stage.heading("It runs. To go on:");
    stage.say(&format!(
        "
  export PATH={bin}:$PATH KUBECONFIG={kubeconfig} CATTLE_CLI_CONFIG={config}
  kubectl get pods -A -w                            # any kubectl command, through the server
  cattle cluster status {CLUSTER}
  cattle user create ann && cattle cluster member add {CLUSTER} ann

  The administrator's password: {password}
  Remove all of it:             make demo-stop
",
        bin = place.bin().display(),
        kubeconfig = place.kubeconfig().display(),
        config = place.client_config().display(),
        password = place.password_file().display(),
    ));
}

async fn pod(stage: &Stage, place: &Place, image: &str) -> anyhow::Result<()> {
    let kubeconfig = place.kubeconfig();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": POD },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", "echo a pod says hello; sleep 1000000"],
        }] },
    });
    let apply = place.kubectl(&kubeconfig, &["apply", "-f", "-"]).stdin(pod.to_string());
    // A namespace's service account comes a moment after it.
    wait_for("the pod to be accepted", Duration::from_secs(30), async || apply.ok().await).await?;
    let wait = ["wait", "--for=condition=Ready", "pod", POD, "--timeout=100s"];
    stage.run(&format!("kubectl wait --for=condition=Ready pod {POD}"), &place.kubectl(&kubeconfig, &wait)).await?;
    stage.run(&format!("kubectl logs {POD}"), &place.kubectl(&kubeconfig, &["logs", POD])).await?;
    let exec = ["exec", POD, "--", "sh", "-c", "echo this is $(cat /etc/hostname); id"];
    stage
        .run(
            &format!("kubectl exec {POD} -- sh -c 'echo this is $(cat /etc/hostname); id'"),
            &place.kubectl(&kubeconfig, &exec),
        )
        .await?;
    Ok(())
}

/// In somebody's cluster nothing is started: the agents, which are there anyway, have logs to show.
async fn agent_logs(stage: &Stage, place: &Place) -> anyhow::Result<()> {
    let arguments = ["logs", "--namespace=cattle-system", "deployment/cattle-cluster-agent", "--tail=5"];
    stage.run(&format!("kubectl {}", arguments.join(" ")), &place.kubectl(&place.kubeconfig(), &arguments)).await?;
    Ok(())
}
