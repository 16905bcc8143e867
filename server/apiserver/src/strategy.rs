//! What is special about each kind: defaults, references to other objects, secrets, what goes with a deletion, and what
//! is computed on read. The generic verbs know none of it.

mod binding;
mod cluster;
mod kubeconfig;
mod lookup;
mod registration_token;
mod role;
mod setting;
mod token;
mod user;

use std::collections::BTreeMap;
use std::sync::Arc;

use cattle_api::{Resource, Secret, resource};
use cattle_auth::{Passwords, UserInfo};
use cattle_store::{Store, Write};
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;
use serde_json::Value;

use crate::authorize::Authorizer;
use crate::field::FieldError;
use crate::status::{StatusError, Subject};

pub use registration_token::{registration_token_hash, registration_token_matches};

/// What a strategy may use. Nothing in it changes anything: what is to be written goes into the [`Draft`].
pub struct Admission<'a> {
    /// To look up other objects.
    pub store: &'a dyn Store,
    /// To ask what the caller may do.
    pub authorizer: &'a dyn Authorizer,
    /// To hash passwords.
    pub passwords: &'a Passwords,
    /// The caller.
    pub user: &'a UserInfo,
    /// The time of the request.
    pub now: Timestamp,
    /// Nothing will be written: expensive hashing may be left out.
    pub dry_run: bool,
    /// The kind.
    pub resource: &'static Resource,
}

/// An object on its way in, and what goes with it.
#[derive(Default)]
pub struct Draft {
    /// The object as JSON. Its transient fields are in `intake` instead.
    pub object: Value,
    /// What the client put into transient fields ([`Resource::transient`]), by JSON pointer.
    pub intake: BTreeMap<&'static str, Secret>,
    /// Values to seal beside the object.
    pub sealed: Vec<(String, Secret)>,
    /// Other writes of the same transaction.
    pub writes: Vec<Write>,
    /// What the answer to this request shows, once: JSON pointer and value.
    pub reveal: Vec<(&'static str, Secret)>,
}

/// Whether a change may go on.
pub type Checked<'a> = BoxFuture<'a, Result<(), StatusError>>;

/// What goes along with a deletion, if it may go on.
pub type Along<'a> = BoxFuture<'a, Result<Vec<Write>, StatusError>>;

/// What is special about a kind. Every default does nothing.
pub trait Strategy: Send + Sync + 'static {
    /// Fills in what the client may leave out of a new object; before names are generated and schemas checked.
    fn defaults(&self, admission: &Admission<'_>, object: &mut Value) {
        let _ = (admission, object);
    }

    /// Completes a new object that has its name and fits its schema: references, secrets, status.
    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        let _ = (admission, draft);
        Box::pin(ready(Ok(())))
    }

    /// Checks and completes a changed object. `old` is what is stored.
    fn update<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value, draft: &'a mut Draft) -> Checked<'a> {
        let _ = (admission, old, draft);
        Box::pin(ready(Ok(())))
    }

    /// Refuses a deletion, or says what else goes in the same transaction.
    fn delete<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value) -> Along<'a> {
        let _ = (admission, old);
        Box::pin(ready(Ok(Vec::new())))
    }

    /// Adds what is computed for this reader.
    fn decorate(&self, reader: &UserInfo, now: Timestamp, object: &mut Value) {
        let _ = (reader, now, object);
    }

    /// Whether the authorizer knows already what the object that was just made gives its maker. The answer to a create
    /// waits for it a little, so that a client's next request is not refused.
    fn is_settled(&self, admission: &Admission<'_>, object: &Value) -> bool {
        let _ = (admission, object);
        true
    }

    /// Whether two requests that create this kind must not run at the same time, because each checks that something
    /// other than the name is unique.
    fn is_unique_beyond_name(&self) -> bool {
        false
    }
}

/// The strategy of a kind.
pub(crate) fn of(kind: &'static Resource) -> Arc<dyn Strategy> {
    if kind == &resource::CLUSTER {
        Arc::new(cluster::ClusterStrategy)
    } else if kind == &resource::CLUSTER_REGISTRATION_TOKEN {
        Arc::new(registration_token::RegistrationTokenStrategy)
    } else if kind == &resource::CLUSTER_ROLE_TEMPLATE_BINDING {
        Arc::new(binding::ClusterBindingStrategy)
    } else if kind == &resource::GLOBAL_ROLE_BINDING {
        Arc::new(binding::GlobalBindingStrategy)
    } else if kind == &resource::GLOBAL_ROLE {
        Arc::new(role::GlobalRoleStrategy)
    } else if kind == &resource::ROLE_TEMPLATE {
        Arc::new(role::RoleTemplateStrategy)
    } else if kind == &resource::SETTING {
        Arc::new(setting::SettingStrategy)
    } else if kind == &resource::USER {
        Arc::new(user::UserStrategy)
    } else if kind == &resource::TOKEN {
        Arc::new(token::TokenStrategy)
    } else if kind == &resource::KUBECONFIG {
        Arc::new(kubeconfig::KubeconfigStrategy)
    } else {
        Arc::new(Plain)
    }
}

struct Plain;

impl Strategy for Plain {}

impl Admission<'_> {
    /// 422 about the object in hand.
    pub(crate) fn invalid(&self, object: &Value, error: FieldError) -> StatusError {
        let kind = Subject { group: self.resource.group, kind: self.resource.kind };
        StatusError::invalid(kind, text(object, "/metadata/name"), &[error])
    }

    /// 403 about the object in hand.
    pub(crate) fn forbidden(&self, object: &Value, why: &str) -> StatusError {
        let resource = Subject { group: self.resource.group, kind: self.resource.plural };
        StatusError::forbidden(resource, text(object, "/metadata/name"), why)
    }
}

/// The text at a pointer; empty when it is not there.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a field, making the objects above it.
pub(crate) fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for step in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        at = &mut at[step];
    }
    *at = value;
}

/// Sets a field if it is absent or empty.
pub(crate) fn set_default(object: &mut Value, pointer: &str, value: &str) {
    if text(object, pointer).is_empty() {
        set(object, pointer, Value::from(value));
    }
}

/// Sets `generateName` when the object has neither a name nor a prefix of its own.
pub(crate) fn default_name(object: &mut Value, prefix: &str) {
    if text(object, "/metadata/name").is_empty() {
        set_default(object, "/metadata/generateName", prefix);
    }
}
