//! `cattle token …`

pub(crate) mod exec;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Client, segment};
use crate::args::{OutputArgs, TokenCommand};
use crate::cluster::find_cluster;
use crate::console::{Console, clean};
use crate::error::CliError;
use crate::output::{self, age, text};

const TOKENS: &str = "/apis/ext.cattle.io/v1/tokens";

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(client: &Client, command: &TokenCommand, console: &mut Console) -> Result<(), CliError> {
    match command {
        TokenCommand::Create { description, ttl, cluster } => {
            create(client, description, *ttl, cluster.as_deref(), console).await
        }
        TokenCommand::List(output) => list(client, *output, console).await,
        TokenCommand::Revoke { tokens } => {
            for token in tokens {
                // Somebody may paste the whole token: the name is enough, and the secret stays here.
                let name = token.split_once(':').map_or(token.as_str(), |(name, _)| name);
                client.delete(&format!("{TOKENS}/{}", segment(name))).await?;
                console.say(&format!("token {} was revoked", clean(name)));
            }
            Ok(())
        }
        // It has an own way, which does not begin with a session.
        TokenCommand::Exec { .. } => Ok(()),
    }
}

async fn create(
    client: &Client,
    description: &str,
    ttl: Option<Duration>,
    cluster: Option<&str>,
    console: &mut Console,
) -> Result<(), CliError> {
    let scope = match cluster {
        Some(cluster) => find_cluster(client, cluster).await?.id,
        None => String::new(),
    };
    let request = json!({
        "apiVersion": "ext.cattle.io/v1",
        "kind": "Token",
        "metadata": { "generateName": "token-" },
        "spec": {
            "description": description,
            "clusterName": scope,
            "ttl": ttl.map_or(0, |ttl| ttl.as_secs() * 1000),
        },
    });
    let made = client.post(TOKENS, &request).await?;
    let value = made["status"]["value"].as_str().ok_or(CliError::Answer("token"))?;
    let ends = text(&made, "/status/expiresAt");
    console.say(&format!("token {}, {}", text(&made, "/metadata/name"), until(&ends)));
    Ok(console.raw(value)?)
}

async fn list(client: &Client, output: OutputArgs, console: &mut Console) -> Result<(), CliError> {
    let tokens = client.get(TOKENS).await?;
    let items = tokens["items"].as_array().cloned().unwrap_or_default();
    let now = Timestamp::now();
    let name = |object: &Value| text(object, "/metadata/name");
    let kind = |object: &Value| match text(object, "/spec/kind") {
        kind if kind.is_empty() => "api".to_owned(),
        kind => kind,
    };
    let cluster = |object: &Value| text(object, "/spec/clusterName");
    let ends = |object: &Value| state(object);
    let description = |object: &Value| text(object, "/spec/description");
    let old = move |object: &Value| age(object, now);
    let columns: [output::Column<'_>; 6] = [
        ("NAME", &name),
        ("KIND", &kind),
        ("CLUSTER", &cluster),
        ("EXPIRES", &ends),
        ("AGE", &old),
        ("DESCRIPTION", &description),
    ];
    output::list(console, output.output, &items, &columns)
}

fn state(token: &Value) -> String {
    if token["spec"]["enabled"] == false {
        return "disabled".to_owned();
    }
    if token["status"]["expired"] == true {
        return "expired".to_owned();
    }
    match text(token, "/status/expiresAt") {
        ends if ends.is_empty() => "never".to_owned(),
        ends => ends,
    }
}

fn until(ends: &str) -> String {
    if ends.is_empty() { "good until it is revoked".to_owned() } else { format!("good until {ends}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_how_long_it_is_good() {
        let token = |spec: Value, status: Value| state(&json!({ "spec": spec, "status": status }));
        assert_eq!(token(json!({}), json!({})), "never");
        assert_eq!(token(json!({}), json!({ "expiresAt": "2026-01-01T00:00:00Z" })), "2026-01-01T00:00:00Z");
        assert_eq!(token(json!({}), json!({ "expiresAt": "2026-01-01T00:00:00Z", "expired": true })), "expired");
        assert_eq!(token(json!({ "enabled": false }), json!({})), "disabled");
    }
}
