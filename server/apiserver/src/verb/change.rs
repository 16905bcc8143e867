//! The end of every change: audit, commit, answer.

use std::sync::Arc;

use cattle_api::Secret;
use cattle_store::{StoreError, Transaction, Write};
use kube::core::DynamicObject;
use serde_json::Value;

use super::store_error;
use crate::audit::Change;
use crate::managed::{self, Writer};
use crate::server::{Call, from_json};
use crate::status::StatusError;
use crate::strategy::Draft;
use crate::verb::draft::field_manager;

/// How a change ended.
pub(crate) enum Outcome {
    /// Stored (or, in a dry run, as it would be): the object.
    Stored(Box<DynamicObject>),
    /// Somebody was faster; nothing was changed.
    Raced(StoreError),
}

/// Asks the audit log first; then commits; then tells the audit log how it ended.
pub(crate) async fn audited<T>(
    call: &Call,
    verb: &'static str,
    name: Option<&str>,
    dry_run: bool,
    change: impl Future<Output = Result<T, StatusError>>,
) -> Result<T, StatusError> {
    let resource = call.served.resource;
    let agent = call.headers.get(http::header::USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    let record = Change {
        id: call.id.clone(),
        user: call.user.clone(),
        verb,
        group: resource.group,
        version: resource.version,
        resource: resource.plural,
        subresource: call.subresource,
        namespace: call.namespace.clone(),
        name: name.map(str::to_owned),
        path: call.path.clone(),
        address: call.address,
        user_agent: agent.map(std::borrow::Cow::into_owned).unwrap_or_default(),
        dry_run,
    };
    let audit = Arc::clone(&call.server.hooks.audit);
    audit.before(&record).await.map_err(|error| StatusError::unavailable(error.to_string()))?;
    let result = change.await;
    audit.after(&record, result.as_ref().map_or_else(StatusError::code, |_| 200));
    result
}

/// Commits one object with everything that goes with it (or does as if). The first write is the object's own.
pub(crate) async fn commit(
    call: &Call,
    main: impl FnOnce(DynamicObject, Vec<(String, Secret)>) -> Write,
    draft: &mut Draft,
    dry_run: bool,
) -> Result<Outcome, StatusError> {
    let object = from_json(draft.object.clone())?;
    let version = object.metadata.resource_version.clone().filter(|version| !version.is_empty());
    let mut writes = vec![main(object, std::mem::take(&mut draft.sealed))];
    writes.append(&mut draft.writes);
    match call.server.store.commit(Transaction { writes, dry_run }).await {
        Ok(committed) => {
            let object = committed.objects.into_iter().next();
            let mut object =
                object.ok_or_else(|| StatusError::broken("the store committed an object and did not return it"))?;
            if dry_run {
                // Nothing was stored, so there is no new version: the old one is still the object's, a new object has none.
                object.metadata.resource_version = version;
            }
            Ok(Outcome::Stored(Box::new(object)))
        }
        Err(error @ (StoreError::AlreadyExists(_) | StoreError::Conflict(_))) => Ok(Outcome::Raced(error)),
        Err(error) => Err(store_error(error)),
    }
}

/// Brings `managedFields` up to date for an ordinary write.
pub(crate) fn track(call: &Call, manager: Option<&str>, old: Option<&Value>, new: &mut Value) {
    let (manager, now) = (field_manager(call, manager), seconds(call.now));
    let api_version = call.served.resource.api_version();
    let writer = Writer { manager: &manager, api_version: &api_version, now: &now };
    managed::track(&call.served.schema, old, new, &writer);
}

/// A time as Kubernetes writes it: whole seconds.
pub(crate) fn seconds(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Whether two states of an object are the same but for bookkeeping.
pub(crate) fn is_same(old: &Value, new: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("resourceVersion");
            metadata.retain(|_, value| !value.is_null());
            for entry in metadata.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(entry) = entry.as_object_mut() {
                    entry.remove("time");
                }
            }
        }
        object
    };
    bare(old) == bare(new)
}
