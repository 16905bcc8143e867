//! Update: optimistic concurrency, and the parts of an object that a request may change.

use axum::body::Body;
use cattle_store::{StoreError, Write};
use http::Response;
use serde_json::Value;

use super::change::{Outcome, audited, commit, is_same, track};
use super::draft::{Intake, check, intake, reveal, server_metadata};
use super::{load, store_error};
use crate::body;
use crate::field::FieldError;
use crate::query::WriteOptions;
use crate::respond;
use crate::schema;
use crate::server::{Call, from_json, to_json};
use crate::status::StatusError;
use crate::strategy::{Draft, set, text};

/// PUT of an object.
pub(crate) async fn update(call: &Call, body: Body) -> Result<Response<Body>, StatusError> {
    let options = call.query.write_options()?;
    let (filter, bytes) = call.read("update", body).await?;
    let document = body::parse(&bytes, body::media_type(&call.headers)?)?;
    let Intake { draft, warnings } = intake(call, document, options.field_validation)?;
    let old = to_json(&call.served, &load(call, filter).await?)?;
    if text(&draft.object, "/metadata/resourceVersion").is_empty() {
        let error = FieldError::invalid("metadata.resourceVersion", &Value::from(0), "must be specified for an update");
        return Err(StatusError::invalid(call.served.kind_subject(), text(&old, "/metadata/name"), &[error]));
    }
    let manager = options.field_manager.clone();
    let manage = |old: &Value, new: &mut Value| track(call, manager.as_deref(), Some(old), new);
    match replace(call, "update", &old, draft, &options, &manage).await? {
        Ok(view) => Ok(respond::warn(respond::object(call, 200, view)?, &warnings)),
        Err(error) => Err(store_error(error)),
    }
}

/// Stores a drafted object in place of `old` and returns what the caller sees of it; `Err` inside when somebody else
/// changed it in between.
pub(crate) async fn replace(
    call: &Call,
    verb: &'static str,
    old: &Value,
    mut draft: Draft,
    options: &WriteOptions,
    manage: &impl Fn(&Value, &mut Value),
) -> Result<Result<Value, StoreError>, StatusError> {
    let name = text(old, "/metadata/name").to_owned();
    preconditions(call, old, &draft.object)?;
    confine(call, old, &mut draft.object);
    schema::default(&call.served.schema, &mut draft.object);
    call.served.strategy.update(&call.admission(options.dry_run), old, &mut draft).await?;
    draft.object = check(&call.served, &draft.object, Some(old))?;
    manage(old, &mut draft.object);
    if is_same(old, &draft.object) && draft.sealed.is_empty() && draft.writes.is_empty() {
        return call.view(from_json(old.clone())?).map(Ok);
    }
    let update = |object, sealed| Write::Update { object, sealed };
    let change = commit(call, update, &mut draft, options.dry_run);
    match audited(call, verb, Some(&name), options.dry_run, change).await? {
        Outcome::Stored(object) => {
            let mut view = call.view(*object)?;
            if !options.dry_run {
                reveal(&mut view, &draft);
            }
            Ok(Ok(view))
        }
        Outcome::Raced(error) => Ok(Err(error)),
    }
}

/// A version or uid in the body must be that of the stored object.
fn preconditions(call: &Call, old: &Value, new: &Value) -> Result<(), StatusError> {
    let name = text(old, "/metadata/name");
    let (have, want) = (text(old, "/metadata/uid"), text(new, "/metadata/uid"));
    if !want.is_empty() && want != have {
        let why = format!("Precondition failed: UID in precondition: {want}, UID in object meta: {have}");
        return Err(StatusError::conflict(call.served.subject(), name, &why));
    }
    let (have, want) = (text(old, "/metadata/resourceVersion"), text(new, "/metadata/resourceVersion"));
    if want.is_empty() || want == have {
        return Ok(());
    }
    if want.parse::<u64>().is_err() {
        let value = Value::from(want);
        let error = FieldError::invalid("metadata.resourceVersion", &value, "must be an unsigned integer");
        return Err(StatusError::invalid(call.served.kind_subject(), name, &[error]));
    }
    Err(StatusError::modified(call.served.subject(), name))
}

/// Puts back what no request may change: what the server sets of the metadata, and the status.
fn confine(call: &Call, old: &Value, new: &mut Value) {
    server_metadata(new, Some(old));
    let version = text(old, "/metadata/resourceVersion").to_owned();
    set(new, "/metadata/resourceVersion", Value::from(version));
    if call.served.resource.has_status
        && let Some(fields) = new.as_object_mut()
    {
        match old.get("status") {
            Some(status) => drop(fields.insert("status".to_owned(), status.clone())),
            None => drop(fields.remove("status")),
        }
    }
}
