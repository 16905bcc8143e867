//! The manifest that registers a cluster, and the lines that apply it.
//!
//! No line skips a check. `kubectl apply -f URL` is offered only when the server's certificate chains to public roots,
//! since kubectl would refuse it otherwise. The curl line brings the server's CA along on its standard input and pins the
//! server's key on top: `--pinnedpubkey` alone does not replace the verification of the chain.

use std::time::Duration;

use serde_json::json;
use zeroize::Zeroizing;

use super::find_cluster;
use crate::api::{Client, segment};
use crate::console::Console;
use crate::error::CliError;
use crate::kubeconfig::quoted;
use crate::output::text;
use crate::trust::{Trust, client_config, key_pin};

/// The server's own authority, if its certificate has one.
const CACERTS: &str = "/v3/settings/cacerts";

/// A registration token that was just made.
pub(super) struct NewToken {
    token: Zeroizing<String>,
    cluster: String,
    expires_at: String,
}

impl NewToken {
    fn path(&self) -> String {
        format!("/v3/import/{}_{}.yaml", segment(&self.token), segment(&self.cluster))
    }
}

pub(super) async fn run(
    client: &Client,
    cluster: &str,
    curl: bool,
    ttl: Option<Duration>,
    console: &mut Console,
) -> Result<(), CliError> {
    let found = find_cluster(client, cluster).await?;
    let token = new_token(client, &found.id, ttl).await?;
    if curl {
        return Ok(console.raw(&curl_line(client, &token).await?)?);
    }
    let manifest = client.text(&token.path()).await?;
    Ok(console.raw(&manifest)?)
}

pub(super) async fn new_token(client: &Client, cluster: &str, ttl: Option<Duration>) -> Result<NewToken, CliError> {
    let mut spec = json!({ "clusterName": cluster });
    if let Some(ttl) = ttl {
        spec["ttlMinutes"] = json!((ttl.as_secs() / 60).max(1));
    }
    let request = json!({
        "apiVersion": "management.cattle.io/v3",
        "kind": "ClusterRegistrationToken",
        "metadata": { "generateName": "cli-", "namespace": cluster },
        "spec": spec,
    });
    let path = format!("/apis/management.cattle.io/v3/namespaces/{}/clusterregistrationtokens", segment(cluster));
    let answer = client.post(&path, &request).await?;
    let token = answer["status"]["token"].as_str().ok_or(CliError::Answer("registration token"))?;
    // What goes into a shell line is checked, whoever it comes from.
    if !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) || token.is_empty() {
        return Err(CliError::Answer("usable registration token"));
    }
    Ok(NewToken {
        token: Zeroizing::new(token.to_owned()),
        cluster: cluster.to_owned(),
        expires_at: text(&answer, "/status/expiresAt"),
    })
}

/// What to run where the cluster is.
pub(super) async fn instructions(
    client: &Client,
    name: &str,
    token: &NewToken,
    console: &mut Console,
) -> Result<(), CliError> {
    let word = quoted(name);
    console.say("Run one of these once, with administrator rights in the cluster:\n");
    console.line(&format!("cattle cluster manifest {word} | kubectl apply -f -"))?;
    console.say("\nor, on a machine without this program:\n");
    if is_public(client).await {
        console.line(&format!("kubectl apply -f {}", url(client, token)))?;
    } else {
        console.raw(&curl_line(client, token).await?)?;
    }
    if !token.expires_at.is_empty() {
        console.say(&format!("\nThe token in it is good for this cluster, until {}.", token.expires_at));
    }
    console.say(&format!("Then: cattle cluster wait {word}"));
    Ok(())
}

/// Whether a kubectl that knows nothing of us would trust the server: it has no authority of its own to show, and this machine
/// trusts it. Either alone says too little: a company's authority may be among this machine's roots and nowhere else.
async fn is_public(client: &Client) -> bool {
    let own = client.get(CACERTS).await.ok().and_then(|answer| answer["value"].as_str().map(str::to_owned));
    let Ok(config) = client_config(&Trust::System) else { return false };
    match Client::anonymous(client.server().clone(), config) {
        Ok(public) => own.is_some_and(|own| own.trim().is_empty()) && public.text("/ping").await.is_ok(),
        Err(_) => false,
    }
}

async fn curl_line(client: &Client, token: &NewToken) -> Result<String, CliError> {
    let pin = key_pin(&client.certificate().await?)?;
    let cacerts = client.get(CACERTS).await?;
    Ok(render_curl(&url(client, token), &pin, cacerts["value"].as_str().unwrap_or_default()))
}

fn render_curl(url: &str, pin: &str, ca: &str) -> String {
    let base = format!("curl -fsSL --proto '=https' --pinnedpubkey '{pin}'");
    // PEM has no line of this text, and nothing but PEM goes in: what is between the markers is checked.
    let pem: Vec<&str> = ca.lines().filter(|line| is_pem_line(line)).collect();
    if pem.is_empty() {
        return format!("{base} '{url}' | kubectl apply -f -\n");
    }
    format!("{base} --cacert /dev/stdin '{url}' <<'EOF' | kubectl apply -f -\n{}\nEOF\n", pem.join("\n"))
}

fn is_pem_line(line: &str) -> bool {
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    matches!(line, "-----BEGIN CERTIFICATE-----" | "-----END CERTIFICATE-----")
        || (line != "EOF" && !line.is_empty() && line.bytes().all(base64))
}

fn url(client: &Client, token: &NewToken) -> String {
    format!("{}{}", client.server().origin().ascii_serialization(), token.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curl_line_checks_chain_and_key_and_lets_nothing_else_in() {
        let ca = "-----BEGIN CERTIFICATE-----\nAA+/==\nEOF\n$(rm -rf /)\n'; x\n-----END CERTIFICATE-----\n";
        let line = render_curl("https://cattle.example/v3/import/t_c.yaml", "sha256//AA=", ca);
        assert_eq!(
            line,
            "curl -fsSL --proto '=https' --pinnedpubkey 'sha256//AA=' --cacert /dev/stdin \
             'https://cattle.example/v3/import/t_c.yaml' <<'EOF' | kubectl apply -f -\n\
             -----BEGIN CERTIFICATE-----\nAA+/==\n-----END CERTIFICATE-----\nEOF\n"
        );
        let public = render_curl("https://x/y", "sha256//AA=", "");
        assert!(!public.contains("--cacert") && public.contains("--pinnedpubkey"));
        for flags in [line, public] {
            let words: Vec<&str> = flags.split_whitespace().collect();
            assert!(!words.contains(&"-k") && !words.contains(&"--insecure"));
        }
    }
}
