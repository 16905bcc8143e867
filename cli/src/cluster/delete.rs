//! Deleting a cluster.

use std::time::Duration;

use serde_json::json;

use super::{find_cluster, path, wait};
use crate::api::Client;
use crate::args::WaitFor;
use crate::console::{Console, clean};
use crate::error::CliError;

/// Makes the server give up a cluster without waiting for it.
const FORGET_ANNOTATION: &str = "cattle.io/forget";

/// How to delete.
pub(super) struct How {
    /// Without asking.
    pub(super) yes: bool,
    /// Without the cluster.
    pub(super) forget: bool,
    /// How long to wait.
    pub(super) timeout: Duration,
}

pub(super) async fn run(client: &Client, cluster: &str, how: How, console: &mut Console) -> Result<(), CliError> {
    let found = find_cluster(client, cluster).await?;
    let shown = clean(&found.name);
    if !how.yes {
        let question = format!("Delete cluster {shown:?} ({})? Type its name: ", clean(&found.id));
        if console.ask(&question, "deleting needs --yes")? != found.name {
            return Err(CliError::NotConfirmed);
        }
    }
    if how.forget {
        let patch = json!({ "metadata": { "annotations": { FORGET_ANNOTATION: "true" } } });
        client.patch(&path(&found.id), &patch).await?;
    }
    match client.delete(&path(&found.id)).await {
        Err(error) if !error.is_not_found() => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    let deleted = wait::until(client, &found.id, WaitFor::Deleted, how.timeout, console).await;
    if let Err(CliError::NotReady(_)) = &deleted {
        let word = crate::kubeconfig::quoted(&found.name);
        console.say(&format!("if the cluster is gone for good: cattle cluster delete --forget {word}"));
    }
    deleted?;
    console.say(&format!("cluster {shown:?} was deleted"));
    if how.forget {
        console.say("what is left in the cluster is removed, there, by:\n");
        for line in cattle_manifest::cleanup::commands() {
            console.line(&line)?;
        }
    }
    Ok(())
}
