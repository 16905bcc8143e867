//! `cattle token …`

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Client, segment};
use crate::args::{OutputArgs, TokenCommand};
use crate::cluster::find_cluster;
use crate::config::Server;
use crate::console::{Console, clean};
use crate::error::CliError;
use crate::output::{self, age, text};

const TOKENS: &str = "/apis/ext.cattle.io/v1/tokens";

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(
    client: &Client,
    server: &Server,
    command: &TokenCommand,
    console: &mut Console,
) -> Result<(), CliError> {
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
        TokenCommand::Exec => {
            let token = server.token.as_deref().ok_or_else(|| CliError::NotSignedIn(server.name.clone()))?;
            Ok(console.raw(&credential(token, server.expires_at.as_deref()))?)
        }
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

/// What kubectl expects of a credential plugin.
fn credential(token: &str, expires_at: Option<&str>) -> String {
    let mut status = json!({ "token": token });
    if let Some(expires_at) = expires_at {
        status["expirationTimestamp"] = json!(expires_at);
    }
    json!({ "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status }).to_string()
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

    #[test]
    fn the_credential_is_what_kubectl_reads() {
        let parsed: Value = serde_json::from_str(&credential("token-a:s", Some("2026-01-01T00:00:00Z"))).unwrap();
        assert_eq!(parsed["kind"], "ExecCredential");
        assert_eq!(parsed["apiVersion"], "client.authentication.k8s.io/v1");
        assert_eq!(parsed["status"]["token"], "token-a:s");
        assert_eq!(parsed["status"]["expirationTimestamp"], "2026-01-01T00:00:00Z");
    }
}
