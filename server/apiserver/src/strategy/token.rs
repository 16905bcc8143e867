//! `Token`: the bearer string is made here, shown once, and kept as a hash.

use cattle_api::ext::token::{KIND_API, KIND_KUBECONFIG, KIND_LABEL, KIND_SESSION, USER_LABEL};
use cattle_api::{names, resource, sealed};
use cattle_auth::{TokenKind, TokenName, TokenSecret, UserInfo, lifetime_by_settings};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::lookup::{get, require};
use super::{Admission, Checked, Draft, Strategy, default_name, set, set_default, text};
use crate::field::FieldError;
use crate::status::StatusError;
use crate::verb::{seconds, store_error};

pub(super) struct TokenStrategy;

impl Strategy for TokenStrategy {
    fn defaults(&self, admission: &Admission<'_>, object: &mut Value) {
        default_name(object, names::TOKEN_PREFIX);
        set_default(object, "/spec/userID", admission.user.name());
    }

    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            let user = text(&draft.object, "/spec/userID").to_owned();
            for_whom(admission, draft, &user).await?;
            let scope = scope(admission, &draft.object, &user)?;
            let kind = kind(admission, &draft.object)?;
            let wanted = draft.object.pointer("/spec/ttl").and_then(Value::as_i64).unwrap_or_default();
            let ttl = lifetime_by_settings(admission.store, kind, wanted).await.map_err(store_error)?;
            set(&mut draft.object, "/spec/ttl", Value::from(ttl));
            label(&mut draft.object, &user);
            let name = text(&draft.object, "/metadata/name");
            let Some(name) = TokenName::parse(name) else {
                let error = FieldError::invalid("metadata.name", &Value::from(name), "cannot name a token");
                return Err(admission.invalid(&draft.object, error));
            };
            let secret = TokenSecret::generate();
            let hash = secret.hash(&name, scope.as_deref());
            draft.sealed.push((sealed::TOKEN_HASH.to_owned(), hash));
            draft.reveal.push(("/status/value", secret.bearer(&name)));
            Ok(())
        })
    }

    fn update<'a>(&'a self, _: &'a Admission<'a>, old: &'a Value, draft: &'a mut Draft) -> Checked<'a> {
        label(&mut draft.object, text(old, "/spec/userID"));
        Box::pin(futures_util::future::ready(Ok(())))
    }

    fn decorate(&self, reader: &UserInfo, now: Timestamp, object: &mut Value) {
        let ttl = object.pointer("/spec/ttl").and_then(Value::as_i64).unwrap_or_default();
        let made = text(object, "/metadata/creationTimestamp").parse::<Timestamp>().ok();
        let ends = made.and_then(|made| made.checked_add(SignedDuration::from_millis(ttl)).ok()).filter(|_| ttl > 0);
        let expired = ends.is_some_and(|ends| ends <= now);
        let current = text(object, "/metadata/name") == reader.token().as_str();
        if let Some(ends) = ends {
            set(object, "/status/expiresAt", Value::from(seconds(ends)));
        }
        set(object, "/status/expired", Value::from(expired));
        set(object, "/status/current", Value::from(current));
    }
}

/// Everybody makes tokens for themselves; administrators for every enabled user.
async fn for_whom(admission: &Admission<'_>, draft: &mut Draft, user: &str) -> Result<(), StatusError> {
    if user != admission.user.name() && admission.authorizer.may_grant_global(admission.user).is_err() {
        return Err(admission.forbidden(&draft.object, "a user may make tokens only for themselves"));
    }
    let found = get(admission.store, &resource::USER, None, user).await?;
    let enabled = found.filter(|found| found.data.get("enabled") != Some(&Value::Bool(false)));
    let Some(found) = enabled else {
        let error = FieldError::invalid("spec.userID", &Value::from(user), "does not exist or is disabled");
        return Err(admission.invalid(&draft.object, error));
    };
    draft.writes.push(require(&resource::USER, None, &found));
    Ok(())
}

/// The one cluster the token is for. Whether a cluster exists that its maker may not enter is not said.
fn scope(admission: &Admission<'_>, object: &Value, user: &str) -> Result<Option<String>, StatusError> {
    let cluster = text(object, "/spec/clusterName");
    if cluster.is_empty() {
        return Ok(None);
    }
    if user == admission.user.name() && !admission.authorizer.may_enter(admission.user, cluster) {
        let error = FieldError::invalid("spec.clusterName", &Value::from(cluster), "does not exist");
        return Err(admission.invalid(object, error));
    }
    Ok(Some(cluster.to_owned()))
}

fn kind(admission: &Admission<'_>, object: &Value) -> Result<TokenKind, StatusError> {
    match text(object, "/spec/kind") {
        KIND_API => Ok(TokenKind::Api),
        KIND_KUBECONFIG => Ok(TokenKind::Kubeconfig),
        other => {
            debug_assert_eq!(other, KIND_SESSION, "the kind's own rules know the others");
            let error = FieldError::forbidden("spec.kind", "session tokens are made by signing in");
            Err(admission.invalid(object, error))
        }
    }
}

/// Labels that selectors and the authenticator rely on: always those of the fields.
fn label(object: &mut Value, user: &str) {
    if !object["metadata"]["labels"].is_object() {
        object["metadata"]["labels"] = Value::Object(serde_json::Map::new());
    }
    let kind = text(object, "/spec/kind").to_owned();
    object["metadata"]["labels"][USER_LABEL] = Value::from(user);
    if kind.is_empty() {
        if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
            labels.remove(KIND_LABEL);
        }
    } else {
        object["metadata"]["labels"][KIND_LABEL] = Value::from(kind);
    }
}
