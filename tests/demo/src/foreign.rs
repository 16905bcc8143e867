use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cattle_harness::{AGENT_IMAGES, Assets, Client, binary, wait_for, write_agent_images};
use cattle_images::{Compression, Executable, Image, LayerBuilder, Process, write_archive};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use url::Url;

use crate::place::Place;
use crate::server::Address;
use crate::stage::Stage;

const PROBE: &str = "cattle-demo-probe";
const PROBE_ANSWER: &str = "cattle can be reached";
const PROBE_DEADLINE: Duration = Duration::from_secs(180);

/// How somebody's cluster reaches images and the server.
#[derive(clap::Args)]
pub(crate) struct Reach {
    /// A registry (and path) that this machine can push to and the cluster can pull from, such as registry.example.org/team
    #[arg(long, env = "CATTLE_IMAGE_PREFIX", value_name = "REGISTRY/PATH")]
    image_prefix: Option<String>,
    /// What the cluster's pods can call this machine: https://NAME:PORT; the server listens on that port
    #[arg(long, env = "CATTLE_URL", value_name = "URL")]
    url: Option<Url>,
}

/// Somebody's cluster that was found to be usable.
pub(crate) struct Target {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) image_prefix: String,
    url: Url,
}

/// Pushes the images, and lets a pod prove that both the registry and this machine can be reached, before anything else
/// is done to the cluster.
pub(crate) async fn check(stage: &Stage, place: &Place, kubeconfig: &str, reach: &Reach) -> anyhow::Result<Target> {
    let missing = "with KUBECONFIG set, the demo uses that cluster and needs";
    let image_prefix = reach.image_prefix.clone().filter(|prefix| !prefix.is_empty());
    let image_prefix = image_prefix.with_context(|| {
        format!("{missing} CATTLE_IMAGE_PREFIX=REGISTRY/PATH: it pulls the agent's image from there")
    })?;
    let url = reach
        .url
        .clone()
        .with_context(|| format!("{missing} CATTLE_URL=https://NAME:PORT: its pods reach this machine there"))?;
    anyhow::ensure!(url.scheme() == "https" && url.host_str().is_some(), "CATTLE_URL must be https://NAME:PORT");
    let kubeconfig = PathBuf::from(kubeconfig);
    anyhow::ensure!(kubeconfig.is_file(), "KUBECONFIG={} must name one file", kubeconfig.display());
    place.link_programs().await?;

    stage.heading("The cluster of KUBECONFIG");
    stage.run("kubectl get nodes", &place.kubectl(&kubeconfig, &["get", "nodes", "--output=wide"])).await?;
    check_architecture(place, &kubeconfig).await?;

    stage.heading(&format!("Images to {image_prefix}"));
    let archives = write_agent_images(place.directory(), Some(&image_prefix), Compression::Gzip)?;
    for (image, archive) in AGENT_IMAGES.into_iter().zip(archives) {
        push(stage, &kubeconfig, &archive, &image.name(Some(&image_prefix))?.to_string()).await?;
    }
    let probe = format!("{}/cattle/probe:v{}", image_prefix.trim_end_matches('/'), env!("CARGO_PKG_VERSION"));
    let archive = write_probe(place.directory(), &probe).await?;
    push(stage, &kubeconfig, &archive, &probe).await?;

    let target = Target { kubeconfig, image_prefix, url };
    stage.heading(&format!("A probe pod: is the image pulled, and is {} this machine?", target.url));
    probe_cluster(stage, place, &target, &probe).await?;
    Ok(target)
}

impl Target {
    /// Listens on every address, on the port that the URL names.
    pub(crate) fn server_address(&self) -> anyhow::Result<Address> {
        let url = self.url.as_str().trim_end_matches('/').to_owned();
        // Free a moment ago; whoever takes it meanwhile makes the server say so and end.
        let admin = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        Ok(Address { url, listen: format!("0.0.0.0:{}", self.port()?), admin })
    }

    fn port(&self) -> anyhow::Result<u16> {
        self.url.port_or_known_default().context("CATTLE_URL has no port")
    }
}

async fn check_architecture(place: &Place, kubeconfig: &Path) -> anyhow::Result<()> {
    let ours = Executable::inspect(&binary("cattle-cluster-agent")?)?.architecture().to_string();
    let path = "jsonpath={range .items[*]}{.status.nodeInfo.architecture}{\"\\n\"}{end}";
    let theirs = place.kubectl(kubeconfig, &["get", "nodes", "--output", path]).ok().await?;
    anyhow::ensure!(theirs.lines().any(|one| one == ours), "the agent is built for {ours}, the nodes are {theirs}");
    Ok(())
}

/// With the credentials of `docker login`, if there are any.
async fn push(stage: &Stage, kubeconfig: &Path, archive: &Path, name: &str) -> anyhow::Result<()> {
    let crane = Client::new(Assets::ready().await?.program("crane"), kubeconfig).deadline(PROBE_DEADLINE);
    let home = std::env::var_os("HOME").unwrap_or_default();
    let crane = crane.env("HOME", home).args(["push".as_ref(), archive.as_os_str(), name.as_ref()]);
    let pushed = stage.run(&format!("crane push {} {name}", archive.display()), &crane).await;
    pushed.map(drop).with_context(|| {
        format!("{name} cannot be pushed. Next: `docker login` at that registry, or name another CATTLE_IMAGE_PREFIX")
    })
}

async fn write_probe(directory: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let busybox = Assets::ready().await?.program("busybox");
    let layer = LayerBuilder::new().file("busybox", 0o755, &busybox)?.finish(Compression::Gzip)?;
    let image = Image {
        names: vec![name.parse()?],
        architecture: Executable::inspect(&busybox)?.architecture(),
        layers: vec![Arc::new(layer)],
        process: Process {
            entrypoint: vec!["/busybox".to_owned()],
            user: cattle_images::NONROOT.to_owned(),
            ..Process::default()
        },
        labels: std::collections::BTreeMap::new(),
    };
    let path = directory.join("probe.tar");
    write_archive(&[image], std::io::BufWriter::new(std::fs::File::create(&path)?))?;
    Ok(path)
}

async fn probe_cluster(stage: &Stage, place: &Place, target: &Target, image: &str) -> anyhow::Result<()> {
    let port = target.port()?;
    let listener =
        TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("cannot listen on port {port}"))?;
    let host = target.url.host_str().context("CATTLE_URL has no host")?.trim_matches(['[', ']']).to_owned();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": PROBE, "namespace": "default" },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "probe", "image": image, "args": ["nc", "-w", "10", host, port.to_string()],
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    });
    let remove = ["delete", "pod", PROBE, "--namespace=default", "--ignore-not-found", "--now"];
    place.kubectl(&target.kubeconfig, &remove).ok().await?;
    place.kubectl(&target.kubeconfig, &["apply", "-f", "-"]).stdin(pod.to_string()).ok().await?;
    let watched = tokio::select! {
        watched = watch_probe(place, target) => watched,
        error = answer(&listener) => Err(error),
    };
    let said = place.kubectl(&target.kubeconfig, &["logs", PROBE, "--namespace=default"]).output().await;
    let events =
        place.kubectl(&target.kubeconfig, &["events", "--for", &format!("pod/{PROBE}"), "--namespace=default"]);
    let events = events.output().await.map(|output| output.text()).unwrap_or_default();
    place.kubectl(&target.kubeconfig, &remove).ok().await?;
    watched.with_context(|| format!("the probe pod did not run:\n{events}"))?;
    let said = said?.text();
    anyhow::ensure!(
        said.contains(PROBE_ANSWER),
        "a pod cannot reach this machine at {}: {said}\n{events}\nNext: CATTLE_URL must be a name or an address that leads \
         from the cluster's pods to this machine, and port {port} must be open.",
        target.url
    );
    stage.say("Both work.");
    Ok(())
}

/// Ends when the pod has ended, however, or will not start.
async fn watch_probe(place: &Place, target: &Target) -> anyhow::Result<()> {
    let get = ["get", "pod", PROBE, "--namespace=default", "--output=json"];
    let progress = wait_for("the probe pod to end", PROBE_DEADLINE, async || {
        let pod: Value = serde_json::from_str(&place.kubectl(&target.kubeconfig, &get).ok().await?)?;
        match progress(&pod) {
            Progress::Runs(phase) => anyhow::bail!("it is {phase}"),
            done @ (Progress::NoImage(_) | Progress::Ended) => Ok(done),
        }
    });
    match progress.await? {
        Progress::NoImage(message) => anyhow::bail!(
            "the cluster cannot pull from CATTLE_IMAGE_PREFIX={}: {message}\n\
             Next: make the images there readable for the cluster's nodes (a public repository, or credentials on the \
             nodes), or name a registry that they reach.",
            target.image_prefix
        ),
        Progress::Runs(_) | Progress::Ended => Ok(()),
    }
}

/// How far the probe pod is.
#[derive(Debug, PartialEq)]
enum Progress {
    /// On its way, in this phase.
    Runs(String),
    /// Its image was refused, or not found where it was looked for.
    NoImage(String),
    /// It has run.
    Ended,
}

fn progress(pod: &Value) -> Progress {
    let phase = pod["status"]["phase"].as_str().unwrap_or("not seen yet");
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    // A first failure (`ErrImagePull`) may be a moment's; by the time of a back-off there was more than one.
    match (phase, waiting["reason"].as_str()) {
        ("Succeeded" | "Failed", _) => Progress::Ended,
        (_, Some("ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull")) => {
            Progress::NoImage(waiting["message"].as_str().unwrap_or("no reason is given").to_owned())
        }
        (phase, _) => Progress::Runs(phase.to_owned()),
    }
}

/// Tells everybody who asks; ends with an error only.
async fn answer(listener: &TcpListener) -> anyhow::Error {
    loop {
        match listener.accept().await {
            // Whoever hangs up early was not the probe.
            Ok((mut stream, _)) => drop(stream.write_all(format!("{PROBE_ANSWER}\n").as_bytes()).await),
            Err(error) => return error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_will_not_start_is_not_waited_for() {
        let pod = |phase: &str, reason: &str| {
            let waiting = json!({ "reason": reason, "message": "no such host" });
            progress(
                &json!({ "status": { "phase": phase, "containerStatuses": [{ "state": { "waiting": waiting } }] } }),
            )
        };
        let runs = |phase: &str| Progress::Runs(phase.to_owned());
        assert_eq!(progress(&json!({ "status": {} })), runs("not seen yet"));
        assert_eq!(pod("Pending", "ContainerCreating"), runs("Pending"));
        assert_eq!(pod("Pending", "ErrImagePull"), runs("Pending"), "it is tried again");
        for refused in ["ImagePullBackOff", "InvalidImageName"] {
            assert_eq!(pod("Pending", refused), Progress::NoImage("no such host".to_owned()));
        }
        assert_eq!(progress(&json!({ "status": { "phase": "Succeeded" } })), Progress::Ended);
        assert_eq!(progress(&json!({ "status": { "phase": "Failed" } })), Progress::Ended);
    }
}
