use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::place::{CLUSTER, Place};
use crate::server::Server;
use crate::stage::Stage;

/// Pulling an image and starting two pods on a slow machine.
const READY: &str = "10m";
/// For a cluster that answers to be cleaned by the server.
const CLEANED: &str = "3m";
const LONGER_THAN_READY: Duration = Duration::from_secs(11 * 60);

/// Signs in, makes a cluster record, applies its manifest downstream and waits until requests get through.
pub(crate) async fn register(
    stage: &Stage,
    place: &Place,
    server: &Server,
    downstream: &Path,
    image_prefix: Option<&str>,
) -> anyhow::Result<()> {
    sign_in(stage, place, server).await?;
    if let Some(prefix) = image_prefix {
        set_registry(stage, place, server, prefix).await?;
    }
    stage.heading("A cluster record, and its manifest applied where the cluster is");
    stage.run(&format!("cattle cluster create {CLUSTER}"), &place.cattle(&["cluster", "create", CLUSTER])).await?;
    stage.say(&format!("$ cattle cluster manifest {CLUSTER} | kubectl apply -f -"));
    let manifest = place.cattle(&["cluster", "manifest", CLUSTER]).ok().await?;
    let apply = place.kubectl(downstream, &["apply", "-f", "-"]).stdin(manifest);
    stage.say(apply.ok().await?.trim_end());
    let wait = place.cattle(&["cluster", "wait", CLUSTER, "--timeout", READY]).deadline(LONGER_THAN_READY);
    if let Err(error) = stage.run(&format!("cattle cluster wait {CLUSTER}"), &wait).await {
        return Err(error.context(what_the_agents_say(place, downstream).await));
    }
    let file = place.kubeconfig().display().to_string();
    let get = place.cattle(&["kubeconfig", CLUSTER, "--file", &file]);
    stage.run(&format!("cattle kubeconfig {CLUSTER} --file {file}"), &get).await?;
    Ok(())
}

/// Deletes the registration of a cluster that stays, and what was made in it: through the server, and where that cannot do it
/// (it is gone, or never got in) with the cluster's own kubeconfig.
///
/// # Errors
/// When neither can. The message has the lines to run.
pub(crate) async fn withdraw(stage: &Stage, place: &Place, kubeconfig: &Path) -> anyhow::Result<()> {
    stage.heading("The cluster is left as it was found");
    let wait = format!("--timeout={CLEANED}");
    let delete = place.cattle(&["cluster", "delete", CLUSTER, "--yes", &wait]).deadline(LONGER_THAN_READY);
    let Err(error) = stage.run(&format!("cattle cluster delete {CLUSTER} --yes"), &delete).await else {
        return Ok(());
    };
    stage.say(&format!("The server cannot do it ({error:#}), so it is done without the server"));
    let lines = cattle_manifest::cleanup::commands();
    for line in &lines {
        let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
        let clean = place.kubectl(kubeconfig, &arguments).deadline(LONGER_THAN_READY);
        stage.run(line, &clean).await.with_context(|| {
            let (file, lines) = (kubeconfig.display(), lines.join("\n  "));
            let forget = place.directory().display();
            format!(
                "something of the demo is left in the cluster of {file}. Remove it there with\n  {lines}\nand then \
                 what is here with\n  rm -r {forget}"
            )
        })?;
    }
    Ok(())
}

async fn sign_in(stage: &Stage, place: &Place, server: &Server) -> anyhow::Result<()> {
    let (username, first) = &server.administrator;
    stage.heading(&format!("Sign in as {username}; the first sign-in demands another password"));
    let password = random_password()?;
    write_private(&place.password_file(), &format!("{password}\n"))?;
    let (url, checksum) = (server.address.url.as_str(), server.ca_checksum.as_str());
    let login =
        ["login", url, "--name", CLUSTER, "--username", username, "--password-stdin", "--ca-checksum", checksum];
    let line = format!("cattle login {url} --username {username} --ca-checksum {checksum}");
    stage.run(&line, &place.cattle(&login).stdin(format!("{first}\n{password}\n"))).await?;
    Ok(())
}

/// Every manifest names its images behind this registry from now on. By kubectl: the server's API is a Kubernetes API.
async fn set_registry(stage: &Stage, place: &Place, server: &Server, prefix: &str) -> anyhow::Result<()> {
    stage.heading(&format!("Images come from {prefix}"));
    let token = place.cattle(&["token", "create", "--description", "demo"]).ok().await?;
    let user = json!({ "token": token.trim() });
    let mut cluster = json!({ "server": server.address.url });
    if let Some(ca) = pinned_ca(place)? {
        let file = place.directory().join("server-ca.pem");
        write_private(&file, &ca)?;
        cluster["certificate-authority"] = json!(file);
    }
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "server",
        "clusters": [{ "name": "server", "cluster": cluster }],
        "users": [{ "name": "server", "user": user }],
        "contexts": [{ "name": "server", "context": { "cluster": "server", "user": "server" } }],
    });
    let file = place.directory().join("server.kubeconfig");
    write_private(&file, &config.to_string())?;
    let patch = json!({ "value": prefix }).to_string();
    let change =
        ["patch", "settings.management.cattle.io", "system-default-registry", "--type=merge", "--patch", &patch];
    let line = format!("kubectl patch setting system-default-registry --type=merge --patch '{patch}'");
    stage.run(&line, &place.kubectl(&file, &change)).await?;
    Ok(())
}

/// What `cattle login` has pinned; nothing when the server's certificate chains to public roots.
fn pinned_ca(place: &Place) -> anyhow::Result<Option<String>> {
    #[derive(serde::Deserialize)]
    struct Config {
        servers: Vec<Known>,
    }
    #[derive(serde::Deserialize)]
    struct Known {
        ca: Option<String>,
    }
    let config: Config = serde_saphyr::from_str(&fs::read_to_string(place.client_config())?)?;
    Ok(config.servers.into_iter().find_map(|server| server.ca))
}

async fn what_the_agents_say(place: &Place, downstream: &Path) -> String {
    let mut text = String::from("the cluster did not get ready. There:\n");
    for arguments in [
        ["get", "pods", "--namespace=cattle-system", "--output=wide"].as_slice(),
        &["get", "events", "--namespace=cattle-system"],
        &["logs", "--namespace=cattle-system", "--selector=app=cattle-cluster-agent", "--tail=20", "--prefix"],
    ] {
        match place.kubectl(downstream, arguments).output().await {
            Ok(output) => text += &format!("$ kubectl {}\n{}{}", arguments.join(" "), output.text(), output.error()),
            Err(error) => text += &format!("{error:#}\n"),
        }
    }
    text
}

/// 128 random bits.
fn random_password() -> anyhow::Result<String> {
    let bytes = fs::read("/proc/sys/kernel/random/uuid").context("no randomness")?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
