//! `Kubeconfig`: a file for some clusters with one token of its own, shown once; the token goes with the object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cattle_api::ext::token::{KIND_KUBECONFIG, KIND_LABEL, USER_LABEL};
use cattle_api::ext::{Token, TokenSpec};
use cattle_api::management::setting::known;
use cattle_api::{Secret, names, resource, sealed};
use cattle_auth::{TokenKind, TokenName, TokenSecret, lifetime_by_settings};
use cattle_store::Write;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::lookup::{all, get, remove, require, setting};
use super::{Admission, Along, Checked, Draft, Strategy, default_name, set, text};
use crate::field::FieldError;
use crate::status::StatusError;
use crate::verb::store_error;

/// The context for the server itself.
const SERVER_ENTRY: &str = "cattle";
/// The only cluster in `spec.clusters`: all that the caller may enter.
const ALL: &str = "*";

/// What kubectl says when the command is not there.
const INSTALL_HINT: &str = "The command `cattle` signs in at the server of this cluster. Install it where your shell finds it, \
                            or ask whoever runs the server for a kubeconfig with a token.";

pub(super) struct KubeconfigStrategy;

impl Strategy for KubeconfigStrategy {
    fn defaults(&self, _: &Admission<'_>, object: &mut Value) {
        default_name(object, "kubeconfig-");
    }

    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            let user = admission.user.name();
            mark(&mut draft.object, user);
            let clusters = clusters(admission, &draft.object).await?;
            let login = if setting(admission.store, known::KUBECONFIG_GENERATE_TOKEN).await? == "false" {
                Login::Plugin
            } else {
                let (name, bearer) = token(admission, draft, user).await?;
                set(&mut draft.object, "/status/tokens", json!([name]));
                Login::Token(bearer)
            };
            set(&mut draft.object, "/status/summary", Value::from("Complete"));
            let file = File {
                url: setting(admission.store, known::SERVER_URL).await?,
                ca: setting(admission.store, known::CA_CERTS).await?,
                clusters,
                login,
            };
            let value = file.render(&draft.object)?;
            draft.reveal.push(("/status/value", value));
            Ok(())
        })
    }

    fn update<'a>(&'a self, _: &'a Admission<'a>, old: &'a Value, draft: &'a mut Draft) -> Checked<'a> {
        let owner = old.pointer("/metadata/labels").and_then(|labels| labels.get(USER_LABEL)).and_then(Value::as_str);
        mark(&mut draft.object, owner.unwrap_or_default());
        Box::pin(futures_util::future::ready(Ok(())))
    }

    fn delete<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value) -> Along<'a> {
        Box::pin(async move {
            let owner =
                old.pointer("/metadata/labels").and_then(|labels| labels.get(USER_LABEL)).and_then(Value::as_str);
            let tokens = old.pointer("/status/tokens").and_then(Value::as_array);
            let mut writes = Vec::new();
            for name in tokens.into_iter().flatten().filter_map(Value::as_str) {
                // Whatever the status says: what is not the owner's stays.
                let token = get(admission.store, &resource::TOKEN, None, name).await?;
                let token = token.filter(|token| Some(text(&token.data, "/spec/userID")) == owner);
                writes.extend(token.map(|token| remove(&resource::TOKEN, &token)));
            }
            Ok(writes)
        })
    }
}

/// Whose kubeconfig it is.
pub(super) fn owner(metadata: &ObjectMeta) -> Option<&str> {
    metadata.labels.as_ref()?.get(USER_LABEL).map(String::as_str)
}

fn mark(object: &mut Value, user: &str) {
    if !object["metadata"]["labels"].is_object() {
        object["metadata"]["labels"] = Value::Object(serde_json::Map::new());
    }
    object["metadata"]["labels"][USER_LABEL] = Value::from(user);
}

struct Entry {
    id: String,
    name: String,
}

enum Login {
    Token(Secret),
    Plugin,
}

struct File {
    url: String,
    ca: String,
    clusters: Vec<Entry>,
    login: Login,
}

/// The wanted clusters, as far as the caller may enter them.
async fn clusters(admission: &Admission<'_>, object: &Value) -> Result<Vec<Entry>, StatusError> {
    let enter = |name: &str| admission.authorizer.may_enter(admission.user, name);
    let entry = |cluster: &DynamicObject| {
        let id = cluster.metadata.name.clone().unwrap_or_default();
        let name =
            Some(text(&cluster.data, "/spec/displayName")).filter(|name| !name.is_empty()).unwrap_or(&id).to_owned();
        Entry { id, name }
    };
    let wanted = object.pointer("/spec/clusters").and_then(Value::as_array).cloned().unwrap_or_default();
    if wanted.iter().any(|name| name == ALL) {
        let found = all(admission.store, &resource::CLUSTER, None).await?;
        return Ok(found
            .iter()
            .filter(|cluster| enter(cluster.metadata.name.as_deref().unwrap_or_default()))
            .map(entry)
            .collect());
    }
    let mut entries = Vec::new();
    for (index, name) in wanted.iter().filter_map(Value::as_str).enumerate() {
        let found = if enter(name) { get(admission.store, &resource::CLUSTER, None, name).await? } else { None };
        let Some(found) = found else {
            let error = FieldError::invalid(format!("spec.clusters[{index}]"), &Value::from(name), "does not exist");
            return Err(admission.invalid(object, error));
        };
        entries.push(entry(&found));
    }
    Ok(entries)
}

/// The token of the file: good for all its clusters, made in the same transaction.
async fn token(admission: &Admission<'_>, draft: &mut Draft, user: &str) -> Result<(String, Secret), StatusError> {
    let Some(owner) = get(admission.store, &resource::USER, None, user).await? else {
        return Err(admission.forbidden(&draft.object, "the user does not exist"));
    };
    let seconds = draft.object.pointer("/spec/ttl").and_then(Value::as_i64).unwrap_or_default();
    let wanted = seconds.saturating_mul(1000);
    let ttl = lifetime_by_settings(admission.store, TokenKind::Kubeconfig, wanted).await.map_err(store_error)?;
    let generated = names::generate(&format!("{}{user}", names::KUBECONFIG_TOKEN_PREFIX));
    let name = TokenName::parse(&generated).ok_or_else(|| StatusError::broken("a generated token name is no name"))?;
    let spec = TokenSpec {
        user_id: user.to_owned(),
        kind: KIND_KUBECONFIG.to_owned(),
        description: format!("Kubeconfig {}", text(&draft.object, "/metadata/name")),
        ttl,
        enabled: Some(true),
        cluster_name: String::new(),
    };
    let mut token = Token::new(name.as_str(), spec);
    let labels = [(USER_LABEL.to_owned(), user.to_owned()), (KIND_LABEL.to_owned(), KIND_KUBECONFIG.to_owned())];
    token.metadata.labels = Some(labels.into_iter().collect());
    let secret = TokenSecret::generate();
    let sealed = vec![(sealed::TOKEN_HASH.to_owned(), secret.hash(&name, None))];
    let object = resource::encode(&token).map_err(|error| StatusError::internal(&error))?;
    draft.writes.push(Write::Create { object, sealed });
    draft.writes.push(require(&resource::USER, None, &owner));
    Ok((generated, secret.bearer(&name)))
}

impl File {
    /// The file as YAML. Names are quoted by the YAML writer: a display name may contain anything.
    fn render(&self, object: &Value) -> Result<Secret, StatusError> {
        let mut entries: Vec<(String, String)> = Vec::new();
        let base = self.url.trim_end_matches('/');
        for cluster in &self.clusters {
            // Display names are unique among clusters, but one may be the id of another.
            let taken = entries.iter().any(|(name, _)| *name == cluster.name);
            let name = if taken { cluster.id.clone() } else { cluster.name.clone() };
            entries.push((name, format!("{base}/k8s/clusters/{}", cluster.id)));
        }
        if object.pointer("/spec/includeDefaultEntry") == Some(&Value::Bool(true)) || entries.is_empty() {
            entries.insert(0, (SERVER_ENTRY.to_owned(), base.to_owned()));
        }
        let wanted = text(object, "/spec/currentContext");
        let current = self.clusters.iter().position(|cluster| cluster.id == wanted);
        let offset = entries.len() - self.clusters.len();
        let current = current.unwrap_or_default() + offset.min(entries.len() - 1);
        let clusters: Vec<Value> =
            entries.iter().map(|(name, server)| json!({"name": name, "cluster": self.cluster(server)})).collect();
        let contexts: Vec<Value> =
            entries.iter().map(|(name, _)| json!({"name": name, "context": {"cluster": name, "user": name}})).collect();
        // One user per context, although the login is the same: whoever merges files overwrites entries of the same name.
        let login = self.user(base)?;
        let users: Vec<Value> = entries.iter().map(|(name, _)| json!({"name": name, "user": login})).collect();
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "clusters": clusters, "contexts": contexts,
            "users": users, "current-context": entries[current].0,
        });
        let yaml = serde_saphyr::to_string(&file).map_err(|error| StatusError::internal(&error))?;
        let name = text(object, "/metadata/name");
        Ok(Secret::from(format!("# name: {name}\n{yaml}")))
    }

    fn cluster(&self, server: &str) -> Value {
        let mut cluster = json!({"server": server});
        if !self.ca.is_empty() {
            cluster["certificate-authority-data"] = Value::from(STANDARD.encode(&self.ca));
        }
        cluster
    }

    fn user(&self, server: &str) -> Result<Value, StatusError> {
        match &self.login {
            Login::Token(bearer) => {
                let bearer = bearer.expose_str().ok_or_else(|| StatusError::broken("a bearer token is not text"))?;
                Ok(json!({"token": bearer}))
            }
            // v1beta1 is what every kubectl since 1.20 speaks; older ones do not know v1 and newer ones know both. The
            // cluster's CA goes along, so that a person who was never signed in here is asked over a connection that is
            // verified as kubectl's own is.
            Login::Plugin => Ok(json!({"exec": {
                "apiVersion": "client.authentication.k8s.io/v1beta1", "command": "cattle",
                "args": ["token", "exec", "--server", server],
                "interactiveMode": "IfAvailable", "provideClusterInfo": true, "installHint": INSTALL_HINT,
            }})),
        }
    }
}
