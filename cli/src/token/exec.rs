//! `cattle token exec`: kubectl's credential plugin (client.authentication.k8s.io).
//!
//! kubectl runs it when a kubeconfig was made without a token of its own, and reads the session's token from standard
//! output. When there is no session, or it has ended, the person is asked to sign in, if kubectl has a terminal to lend;
//! otherwise the error says how. The CA of a server that was never signed in at is the one that kubectl itself trusts for
//! the cluster, if that is at the same address.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::args::LoginArgs;
use crate::config::{ConfigFile, Server};
use crate::console::Console;
use crate::error::CliError;
use crate::login::{self, Current, server_url};
use crate::trust::Trust;

/// What is asked for by a kubectl that says nothing: the only version that all of them speak.
const OLDEST: &str = "client.authentication.k8s.io/v1beta1";
const VERSIONS: [&str; 2] = [OLDEST, "client.authentication.k8s.io/v1"];
/// A session that ends within this time is not good for a request any more.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// What kubectl says in `KUBERNETES_EXEC_INFO`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Info {
    api_version: String,
    kind: String,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// Whether standard input is the person's terminal; kubectl before 1.22 does not say.
    interactive: Option<bool>,
    cluster: Option<Cluster>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    #[serde(default)]
    server: String,
    #[serde(default)]
    certificate_authority_data: String,
}

/// Prints the token of the session at a server, after a sign-in where that is needed and possible.
///
/// # Errors
/// See [`CliError`].
pub(crate) async fn run(
    file: &ConfigFile,
    named: Option<&str>,
    info: Option<&str>,
    console: &mut Console,
) -> Result<(), CliError> {
    let info = Info::read(info)?;
    let config = file.load()?;
    let known = config.server(named);
    if let Some(credential) = known.and_then(|server| credential(&info.api_version, server, Timestamp::now())) {
        return Ok(console.raw(&credential)?);
    }
    let url = match (known, named) {
        (Some(server), _) => server.url.clone(),
        (None, Some(named)) => server_url(named)?,
        (None, None) => return Err(CliError::NoServer),
    };
    if info.spec.interactive == Some(false) || !console.is_interactive() {
        return Err(CliError::NotSignedIn(url.origin().ascii_serialization()));
    }
    let server = sign_in(file, &url, known, &info, console).await?;
    let credential =
        credential(&info.api_version, &server, Timestamp::now()).ok_or(CliError::Answer("usable token"))?;
    Ok(console.raw(&credential)?)
}

async fn sign_in(
    file: &ConfigFile,
    url: &Url,
    known: Option<&Server>,
    info: &Info,
    console: &mut Console,
) -> Result<Server, CliError> {
    console.say(&format!("Sign in at {}", url.origin().ascii_serialization()));
    let args = LoginArgs {
        url: url.to_string(),
        username: known.and_then(|server| server.user.clone()),
        password_stdin: false,
        token_stdin: false,
        ca_checksum: None,
        name: None,
    };
    let trust = match (known, info.ca_of(url)) {
        (None, Some(ca)) => Trust::Pinned(ca),
        _ => login::trust(url, &args, known, console).await?,
    };
    login::establish(file, url, &args, trust, Current::Keep, console).await
}

/// What kubectl expects; `None` when there is no token, or none that lasts.
fn credential(api_version: &str, server: &Server, now: Timestamp) -> Option<String> {
    let token = server.token.as_deref()?;
    let mut status = json!({ "token": token });
    if let Some(expires_at) = &server.expires_at {
        let ends: Timestamp = expires_at.parse().ok()?;
        if ends <= now + MARGIN {
            return None;
        }
        status["expirationTimestamp"] = json!(expires_at);
    }
    Some(json!({ "apiVersion": api_version, "kind": "ExecCredential", "status": status }).to_string())
}

impl Info {
    /// Nothing is what kubectl before 1.20 says, and a person who tries the command.
    fn read(text: Option<&str>) -> Result<Self, CliError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(Self { api_version: OLDEST.to_owned(), kind: String::new(), spec: Spec::default() });
        };
        let info: Self = serde_json::from_str(text).map_err(|_| CliError::ExecInfo)?;
        let known = info.kind == "ExecCredential" && VERSIONS.contains(&info.api_version.as_str());
        known.then_some(info).ok_or(CliError::ExecInfo)
    }

    /// The CA of the cluster, when it is reached through this very server.
    fn ca_of(&self, server: &Url) -> Option<String> {
        let cluster = self.spec.cluster.as_ref()?;
        let through = Url::parse(&cluster.server).ok()?.origin() == server.origin();
        let pem = STANDARD.decode(&cluster.certificate_authority_data).ok().filter(|pem| !pem.is_empty())?;
        String::from_utf8(pem).ok().filter(|_| through)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn server(expires_at: Option<&str>) -> Server {
        Server {
            name: "x".to_owned(),
            url: Url::parse("https://cattle.example").unwrap(),
            ca: None,
            user: None,
            token: Some("token-a:s".to_owned()),
            expires_at: expires_at.map(str::to_owned),
        }
    }

    #[test]
    fn the_credential_is_what_kubectl_reads() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for version in VERSIONS {
            let text = credential(version, &server(Some("2026-01-01T01:00:00Z")), now).unwrap();
            let parsed: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(parsed["kind"], "ExecCredential");
            assert_eq!(parsed["apiVersion"], version);
            assert_eq!(parsed["status"]["token"], "token-a:s");
            assert_eq!(parsed["status"]["expirationTimestamp"], "2026-01-01T01:00:00Z");
        }
        let forever: Value = serde_json::from_str(&credential(OLDEST, &server(None), now).unwrap()).unwrap();
        assert_eq!(forever["status"], json!({ "token": "token-a:s" }));
    }

    #[test]
    fn a_session_that_has_ended_or_ends_at_once_is_none() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for ended in ["2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:10Z", "some day"] {
            assert_eq!(credential(OLDEST, &server(Some(ended)), now), None, "{ended}");
        }
        let signed_out = Server { token: None, ..server(None) };
        assert_eq!(credential(OLDEST, &signed_out, now), None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let good = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false,"more":1}}"#;
        assert_eq!(Info::read(Some(good)).unwrap().spec.interactive, Some(false));
        assert_eq!(Info::read(None).unwrap().api_version, OLDEST);
        for bad in [
            "{",
            "[]",
            r#"{"kind":"ExecCredential"}"#,
            r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1","kind":"ExecCredential"}"#,
            r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"Pod"}"#,
            r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":7}"#,
        ] {
            assert!(matches!(Info::read(Some(bad)), Err(CliError::ExecInfo)), "{bad}");
        }
    }

    /// Another cluster's CA must not come to be trusted for the server.
    #[test]
    fn the_clusters_ca_counts_only_for_the_server_that_leads_to_it() {
        let info = |server: &str, ca: &str| Info {
            api_version: OLDEST.to_owned(),
            kind: "ExecCredential".to_owned(),
            spec: Spec {
                interactive: None,
                cluster: Some(Cluster { server: server.to_owned(), certificate_authority_data: ca.to_owned() }),
            },
        };
        let server = Url::parse("https://cattle.example").unwrap();
        let ca = STANDARD.encode("PEM");
        let of = |url: &str, ca: &str| info(url, ca).ca_of(&server);
        assert_eq!(of("https://cattle.example/k8s/clusters/c-abcde", &ca).as_deref(), Some("PEM"));
        assert_eq!(of("https://cattle.example:443/k8s/clusters/c-abcde", &ca).as_deref(), Some("PEM"));
        for other in
            ["https://other.example", "https://cattle.example:8443", "http://cattle.example", "", "cattle.example"]
        {
            assert_eq!(of(other, &ca), None, "{other}");
        }
        assert_eq!(of("https://cattle.example", ""), None);
        assert_eq!(of("https://cattle.example", "!"), None);
    }
}
