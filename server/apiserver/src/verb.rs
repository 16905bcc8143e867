//! The verbs. Each authorizes first, then reads, then decides, then (for a change) audits and commits.

mod change;
mod create;
mod delete;
mod draft;
mod list;
mod patch;
mod update;
mod watch;

use axum::body::Body;
use cattle_store::{Invalid, Key, StoreError};
use http::Response;
use kube::core::DynamicObject;

pub(crate) use self::change::seconds;
pub(crate) use self::create::create;
pub(crate) use self::delete::{delete, delete_collection};
pub(crate) use self::list::list;
pub(crate) use self::patch::patch;
pub(crate) use self::update::update;
pub(crate) use self::watch::watch;
use crate::respond;
use crate::server::{Call, Filter};
use crate::status::{StatusError, Subject};

/// One object by name.
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, StatusError> {
    let filter = call.authorize("get")?;
    call.query.version()?;
    let object = load(call, filter).await?;
    let view = call.view(object)?;
    respond::object(call, 200, view)
}

/// The object that the path names, if the caller may see it.
pub(crate) async fn load(call: &Call, filter: Filter) -> Result<DynamicObject, StatusError> {
    let found = find(call).await?;
    found.filter(|object| call.sees(filter, object)).ok_or_else(|| call.not_found())
}

/// The object that the path names, whoever asks.
pub(crate) async fn find(call: &Call) -> Result<Option<DynamicObject>, StatusError> {
    let Some(name) = call.name.clone() else {
        return Err(StatusError::method_not_allowed());
    };
    let key = Key { resource: call.served.resource, namespace: call.namespace.clone(), name };
    call.server.store.get(&key).await.map_err(store_error)
}

/// What a failure of the store is to the client.
pub(crate) fn store_error(error: StoreError) -> StatusError {
    let subject = |key: &Key| Subject { group: key.resource.group, kind: key.resource.plural };
    match error {
        StoreError::NotFound(key) => StatusError::not_found(subject(&key), &key.name),
        StoreError::AlreadyExists(key) => StatusError::already_exists(subject(&key), &key.name),
        StoreError::Conflict(key) => StatusError::modified(subject(&key), &key.name),
        StoreError::Expired => expired(),
        StoreError::Invalid(Invalid::TooLarge { max, .. }) => StatusError::too_large(max),
        StoreError::Invalid(invalid) => StatusError::bad_request(invalid.to_string()),
        StoreError::Full => StatusError::unavailable(format!("{error}: changes are refused until there is space")),
        StoreError::Closed | StoreError::Poisoned => {
            tracing::warn!(%error, "the store takes no changes");
            StatusError::unavailable(error.to_string()).retry_after(1)
        }
        StoreError::Io(_) | StoreError::Corrupt { .. } => StatusError::internal(&error),
        // The list may grow; what is not known here is at least no mistake of the client.
        _ => StatusError::internal(&error),
    }
}

/// 410 for a version or continue token that is no longer kept.
pub(crate) fn expired() -> StatusError {
    StatusError::expired("The resourceVersion or continue token is too old: list again without it")
}
