//! `cattle cluster …`

mod delete;
mod manifest;
mod member;
mod node;
mod status;
mod wait;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Client, segment};
use crate::args::{ClusterCommand, Format, OutputArgs};
use crate::console::{Console, clean};
use crate::error::CliError;
use crate::output::{self, age, text};

pub(crate) const CLUSTERS: &str = "/apis/management.cattle.io/v3/clusters";

/// A cluster that was looked up.
pub(crate) struct Found {
    /// `c-xxxxx`.
    pub(crate) id: String,
    /// What people call it.
    pub(crate) name: String,
    /// The whole object.
    pub(crate) object: Value,
}

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(client: &Client, command: &ClusterCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        ClusterCommand::Create { name, description, output } => {
            create(client, name, description, *output, console).await
        }
        ClusterCommand::List(output) => list(client, *output, console).await,
        ClusterCommand::Status { cluster, output } => status::run(client, cluster, *output, console).await,
        ClusterCommand::Nodes { cluster, output } => node::list(client, cluster, *output, console).await,
        ClusterCommand::Wait { cluster, condition, timeout, output } => {
            wait::run(client, cluster, *condition, *timeout, *output, console).await
        }
        ClusterCommand::Manifest { cluster, curl, ttl } => manifest::run(client, cluster, *curl, *ttl, console).await,
        ClusterCommand::Rebind { cluster, ca_sha256 } => {
            let found = find_cluster(client, cluster).await?;
            let patch = json!({ "spec": { "rebind": { "caSha256": ca_sha256.to_string() } } });
            client.patch(&path(&found.id), &patch).await?;
            console.say(&format!("cluster {:?} may come back with a CA of this checksum, once", clean(&found.name)));
            let word = crate::kubeconfig::quoted(&found.name);
            console.say(&format!("next: cattle cluster manifest {word} | kubectl apply -f -"));
            Ok(())
        }
        ClusterCommand::Delete { cluster, yes, forget, timeout } => {
            delete::run(client, cluster, delete::How { yes: *yes, forget: *forget, timeout: *timeout }, console).await
        }
        ClusterCommand::Member(command) => member::run(client, command, console).await,
    }
}

/// The cluster of this id or name.
///
/// # Errors
/// [`CliError::NotFound`], [`CliError::Ambiguous`], or what the server says.
pub(crate) async fn find_cluster(client: &Client, name: &str) -> Result<Found, CliError> {
    let clusters = client.get(CLUSTERS).await?;
    let items = clusters["items"].as_array().cloned().unwrap_or_default();
    choose(items, name)
}

fn choose(items: Vec<Value>, name: &str) -> Result<Found, CliError> {
    let found = |object: Value| Found {
        id: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        name: object["spec"]["displayName"].as_str().unwrap_or_default().to_owned(),
        object,
    };
    if let Some(object) = items.iter().find(|object| object["metadata"]["name"] == name) {
        return Ok(found(object.clone()));
    }
    let mut named: Vec<Found> =
        items.into_iter().filter(|object| object["spec"]["displayName"] == name).map(found).collect();
    match (named.pop(), named.is_empty()) {
        (None, _) => Err(CliError::NotFound { kind: "cluster", name: clean(name) }),
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            let candidates = named.iter().chain([&last]).map(|found| clean(&found.id)).collect();
            Err(CliError::Ambiguous { name: clean(name), candidates })
        }
    }
}

/// The path of one cluster.
pub(crate) fn path(id: &str) -> String {
    format!("{CLUSTERS}/{}", segment(id))
}

/// The condition of a type: status, reason, message.
pub(crate) fn condition(cluster: &Value, kind: &str) -> Option<(String, String, String)> {
    let conditions = cluster["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some((text(found, "/status"), text(found, "/reason"), text(found, "/message")))
}

async fn create(
    client: &Client,
    name: &str,
    description: &str,
    output: OutputArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let request = json!({
        "apiVersion": "management.cattle.io/v3",
        "kind": "Cluster",
        "metadata": { "generateName": "c-" },
        "spec": { "displayName": name, "description": description },
    });
    let cluster = client.post(CLUSTERS, &request).await?;
    let id = cluster["metadata"]["name"].as_str().ok_or(CliError::Answer("name"))?.to_owned();
    if output.output != Format::Table {
        return output::one(console, output.output, &cluster, |_| Ok(()));
    }
    console.say(&format!("cluster {:?} ({}) was made", clean(name), clean(&id)));
    let token = manifest::new_token(client, &id, None).await?;
    manifest::instructions(client, name, &token, console).await
}

async fn list(client: &Client, output: OutputArgs, console: &mut Console) -> Result<(), CliError> {
    let clusters = client.get(CLUSTERS).await?;
    let items = clusters["items"].as_array().cloned().unwrap_or_default();
    let now = Timestamp::now();
    let status = |kind: &'static str| {
        move |object: &Value| condition(object, kind).map(|(status, ..)| status).unwrap_or_default()
    };
    let (ready, connected) = (status("Ready"), status("Connected"));
    let name = |object: &Value| text(object, "/spec/displayName");
    let id = |object: &Value| text(object, "/metadata/name");
    let version = |object: &Value| text(object, "/status/version/gitVersion");
    let old = move |object: &Value| age(object, now);
    output::list(
        console,
        output.output,
        &items,
        &[
            ("NAME", &name),
            ("ID", &id),
            ("READY", &ready),
            ("CONNECTED", &connected),
            ("VERSION", &version),
            ("AGE", &old),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(id: &str, name: &str) -> Value {
        json!({ "metadata": { "name": id }, "spec": { "displayName": name } })
    }

    #[test]
    fn a_cluster_is_found_by_id_before_name_and_never_guessed() {
        let all = || {
            vec![
                cluster("c-aaaaa", "prod"),
                cluster("c-bbbbb", "c-aaaaa"),
                cluster("c-ccccc", "twin"),
                cluster("c-ddddd", "twin"),
            ]
        };
        let id = |name: &str| choose(all(), name).map(|found| found.id);
        assert_eq!(id("prod").ok().as_deref(), Some("c-aaaaa"));
        assert_eq!(id("c-aaaaa").ok().as_deref(), Some("c-aaaaa"), "an id wins over somebody's name");
        assert!(
            matches!(id("twin"), Err(CliError::Ambiguous { candidates, .. }) if candidates == ["c-ccccc", "c-ddddd"])
        );
        assert!(matches!(id("pro"), Err(CliError::NotFound { .. })));
        assert!(matches!(id(""), Err(CliError::NotFound { .. })));
    }
}
