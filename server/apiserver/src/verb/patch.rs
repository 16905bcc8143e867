//! Patch: the three patch formats, retried while nobody named a version.

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use kube::core::DynamicObject;
use serde_json::Value;

use super::change::{seconds, track};
use super::create::create_draft;
use super::draft::{Intake, intake};
use super::update::replace;
use super::{find, load, store_error};
use crate::body::{self, Document, MediaType, PatchType};
use crate::field::FieldError;
use crate::managed::{self, Writer};
use crate::patch as formats;
use crate::query::WriteOptions;
use crate::respond;
use crate::server::{Call, Filter, to_json};
use crate::status::{StatusError, Subject};
use crate::strategy::text;

/// Times that a patch is made again on the newer object; Kubernetes' number.
const ATTEMPTS: usize = 5;

/// PATCH of an object.
pub(crate) async fn patch(call: &Call, body: Body) -> Result<Response<Body>, StatusError> {
    let options = call.query.write_options()?;
    call.authorize("patch")?;
    let format = body::patch_type(&call.headers)?;
    let (filter, bytes) = call.read("patch", body).await?;
    match format {
        PatchType::Apply => apply(call, filter, &bytes, &options).await,
        PatchType::Json | PatchType::Merge => modify(call, filter, format, &bytes, &options).await,
    }
}

async fn modify(
    call: &Call,
    filter: Filter,
    format: PatchType,
    bytes: &Bytes,
    options: &WriteOptions,
) -> Result<Response<Body>, StatusError> {
    if options.force {
        return Err(invalid_options("force", "may not be specified for non-apply patch"));
    }
    let patch = body::parse(bytes, MediaType::Json)?;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let stored = load(call, filter).await?;
        let old = to_json(&call.served, &stored)?;
        // The patch is made on what the client sees, computed fields included; they are not stored.
        let mut new = call.view(stored)?;
        match format {
            PatchType::Json => formats::json(&mut new, patch.value.clone())?,
            PatchType::Merge | PatchType::Apply => formats::merge(&mut new, &patch.value)?,
        }
        let named_version = new.pointer("/metadata/resourceVersion") != old.pointer("/metadata/resourceVersion");
        let document = Document { value: new, duplicates: patch.duplicates.clone() };
        let Intake { draft, warnings } = intake(call, document, options.field_validation)?;
        let manage = |old: &Value, new: &mut Value| track(call, options.field_manager.as_deref(), Some(old), new);
        match replace(call, "patch", &old, draft, options, &manage).await? {
            Ok(view) => return Ok(respond::warn(respond::object(call, 200, view)?, &warnings)),
            Err(error) if named_version => return Err(store_error(error)),
            Err(error) => last = Some(error),
        }
    }
    let name = call.name.as_deref().unwrap_or_default();
    Err(last.map_or_else(|| StatusError::modified(call.served.subject(), name), store_error))
}

/// Server-side apply: creates the object when it does not exist.
async fn apply(
    call: &Call,
    filter: Filter,
    bytes: &Bytes,
    options: &WriteOptions,
) -> Result<Response<Body>, StatusError> {
    let Some(manager) = options.field_manager.as_deref() else {
        return Err(invalid_options("fieldManager", "is required for apply patch"));
    };
    let document = body::parse(bytes, MediaType::Yaml)?;
    let managed = document.value.pointer("/metadata/managedFields");
    if managed.is_some_and(|managed| !managed.is_null() && managed.as_array().is_none_or(|list| !list.is_empty())) {
        return Err(StatusError::bad_request("metadata.managedFields must be nil"));
    }
    for _ in 0..ATTEMPTS {
        let Intake { draft: config, warnings } = intake(call, document.clone(), options.field_validation)?;
        let live = find(call).await?.filter(|object| call.sees(filter, object));
        let (now, api_version) = (seconds(call.now), call.served.resource.api_version());
        let writer = Writer { manager, api_version: &api_version, now: &now };
        let applied = match live {
            None => create_applied(call, config, options, &writer).await.map(Some),
            Some(live) => update_applied(call, live, config, options, &writer).await,
        }?;
        if let Some((code, view)) = applied {
            return Ok(respond::warn(respond::object(call, code, view)?, &warnings));
        }
    }
    Err(StatusError::modified(call.served.subject(), call.name.as_deref().unwrap_or_default()))
}

async fn create_applied(
    call: &Call,
    mut config: crate::strategy::Draft,
    options: &WriteOptions,
    writer: &Writer<'_>,
) -> Result<(u16, Value), StatusError> {
    call.authorize("create")?;
    let (schema, given) = (&call.served.schema, config.object.clone());
    config.object = managed::apply(schema, None, &given, writer, options.force)?;
    let manage = |object: &mut Value| managed::assign(schema, &given, object, writer);
    create_draft(call, config, options, manage).await.map(|view| (201, view))
}

/// `None` when somebody else changed the object in between.
async fn update_applied(
    call: &Call,
    live: DynamicObject,
    mut config: crate::strategy::Draft,
    options: &WriteOptions,
    writer: &Writer<'_>,
) -> Result<Option<(u16, Value)>, StatusError> {
    let old = to_json(&call.served, &live)?;
    let wanted = text(&config.object, "/metadata/resourceVersion");
    if !wanted.is_empty() && wanted != text(&old, "/metadata/resourceVersion") {
        return Err(StatusError::modified(call.served.subject(), text(&old, "/metadata/name")));
    }
    let merged = managed::apply(&call.served.schema, Some(&old), &config.object, writer, options.force)?;
    let fields = merged.pointer("/metadata/managedFields").cloned();
    config.object = merged;
    let manage = |_: &Value, new: &mut Value| {
        if let (Some(fields), Some(metadata)) = (&fields, new["metadata"].as_object_mut()) {
            metadata.insert("managedFields".to_owned(), fields.clone());
        }
        managed::settle(&call.served.schema, new);
    };
    let stored = replace(call, "patch", &old, config, options, &manage).await?;
    Ok(stored.ok().map(|view| (200, view)))
}

fn invalid_options(field: &str, detail: &str) -> StatusError {
    let error = FieldError::required(field, detail);
    StatusError::invalid(Subject { group: "meta.k8s.io", kind: "PatchOptions" }, "", &[error])
}
