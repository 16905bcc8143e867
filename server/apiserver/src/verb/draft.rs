//! From a request body to a [`Draft`]: what is the same for every kind and every change.

use cattle_api::{FieldErrors, Secret};
use serde_json::{Map, Value};

use crate::body::Document;
use crate::field::FieldError;
use crate::query::FieldValidation;
use crate::schema;
use crate::selector::{is_label_key, is_label_value};
use crate::served::Served;
use crate::server::{Call, from_json};
use crate::status::StatusError;
use crate::strategy::{Draft, set, text};

/// All annotations of one object together, in bytes; Kubernetes' limit.
const ANNOTATIONS_MAX: usize = 256 * 1024;
/// Where `kubectl apply` keeps what it was given, word for word.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Metadata fields that exist; others are unknown fields.
const METADATA: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];
/// Metadata that only the server sets: a client's value is ignored, or checked against the stored one first.
const SERVER_METADATA: [&str; 7] = [
    "selfLink",
    "uid",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// A body taken apart: the object without what does not belong into it, and the warnings for the client.
pub(crate) struct Intake {
    pub(crate) draft: Draft,
    pub(crate) warnings: Vec<String>,
}

/// Checks what the body says it is, takes transient fields out, and drops (or refuses) fields that do not exist.
pub(crate) fn intake(call: &Call, document: Document, validation: FieldValidation) -> Result<Intake, StatusError> {
    let served = &call.served;
    let Document { value: mut object, duplicates } = document;
    if !object.is_object() {
        return Err(StatusError::bad_request("the body is not an object"));
    }
    check_type(served, &object)?;
    place(call, &mut object)?;
    let taken = take_transient(served, &mut object);
    let mut unknown = unknown_metadata(&mut object);
    unknown.extend(schema::prune(&served.schema, &mut object));
    let problems: Vec<String> = unknown
        .iter()
        .map(|field| format!("unknown field \"{field}\""))
        .chain(duplicates.iter().map(|field| format!("duplicate field \"{field}\"")))
        .collect();
    let warnings = match validation {
        FieldValidation::Strict if !problems.is_empty() => {
            let (kind, version) = (served.resource.kind, served.resource.version);
            return Err(StatusError::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {}",
                problems.join(", ")
            )));
        }
        FieldValidation::Warn => problems,
        FieldValidation::Strict | FieldValidation::Ignore => Vec::new(),
    };
    Ok(Intake { draft: Draft { object, intake: taken, ..Draft::default() }, warnings })
}

fn check_type(served: &Served, object: &Value) -> Result<(), StatusError> {
    let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    let wanted = served.resource.api_version();
    if kind.is_empty() {
        return Err(StatusError::bad_request("Object 'Kind' is missing in the body"));
    }
    if version.is_empty() {
        return Err(StatusError::bad_request("Object 'apiVersion' is missing in the body"));
    }
    if version != wanted {
        return Err(StatusError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted})"
        )));
    }
    if kind != served.resource.kind {
        return Err(StatusError::bad_request(format!(
            "the kind in the data ({kind}) does not match the expected kind ({})",
            served.resource.kind
        )));
    }
    Ok(())
}

/// Name and namespace come from the path; the body may repeat them and not contradict.
fn place(call: &Call, object: &mut Value) -> Result<(), StatusError> {
    if object.get("metadata").is_none_or(Value::is_null) {
        set(object, "/metadata", Value::Object(Map::new()));
    }
    if !object["metadata"].is_object() {
        return Err(StatusError::bad_request("the body's metadata is not an object"));
    }
    let namespace = text(object, "/metadata/namespace").to_owned();
    match &call.namespace {
        Some(wanted) if namespace.is_empty() => set(object, "/metadata/namespace", Value::from(wanted.as_str())),
        Some(wanted) if *wanted != namespace => {
            return Err(StatusError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Some(_) => {}
        None if namespace.is_empty() => drop(metadata(object).remove("namespace")),
        None => return Err(StatusError::bad_request("namespace is not allowed on this type")),
    }
    if let Some(wanted) = &call.name {
        let name = text(object, "/metadata/name").to_owned();
        if name.is_empty() {
            set(object, "/metadata/name", Value::from(wanted.as_str()));
        } else if name != *wanted {
            return Err(StatusError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({wanted})"
            )));
        }
    }
    Ok(())
}

/// Takes secrets out of the object before anything else looks at it, also out of the copy that `kubectl apply` makes.
fn take_transient(served: &Served, object: &mut Value) -> std::collections::BTreeMap<&'static str, Secret> {
    let mut taken = std::collections::BTreeMap::new();
    for pointer in served.resource.transient {
        if let Some(Value::String(secret)) = take(object, pointer) {
            taken.insert(*pointer, Secret::from(secret));
        }
    }
    let copy = object.pointer("/metadata/annotations").and_then(|all| all.get(LAST_APPLIED)).and_then(Value::as_str);
    if let Some(mut applied) = copy.and_then(|copy| serde_json::from_str::<Value>(copy).ok()) {
        let removed = served.resource.transient.iter().filter(|pointer| take(&mut applied, pointer).is_some()).count();
        if removed > 0 {
            object["metadata"]["annotations"][LAST_APPLIED] = Value::from(applied.to_string());
        }
    }
    taken
}

fn take(object: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, field) = pointer.rsplit_once('/')?;
    object.pointer_mut(parent)?.as_object_mut()?.remove(field)
}

fn unknown_metadata(object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    metadata(object).retain(|name, _| {
        let known = METADATA.contains(&name.as_str());
        if !known {
            unknown.push(format!("metadata.{name}"));
        }
        known
    });
    unknown
}

/// Metadata that the server sets, taken from `old` or removed.
pub(crate) fn server_metadata(object: &mut Value, old: Option<&Value>) {
    for field in SERVER_METADATA {
        match old.and_then(|old| old.get("metadata")?.get(field)) {
            Some(value) => drop(metadata(object).insert(field.to_owned(), value.clone())),
            None => drop(metadata(object).remove(field)),
        }
    }
}

fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = Value::Object(Map::new());
    }
    let Value::Object(fields) = &mut object["metadata"] else {
        unreachable!("metadata was just made an object");
    };
    fields
}

/// Schema, labels, annotations and the kind's own rules; then the object as it is stored.
pub(crate) fn check(served: &Served, object: &Value, old: Option<&Value>) -> Result<Value, StatusError> {
    let name = text(object, "/metadata/name");
    let refuse = |errors: &[FieldError]| Err(StatusError::invalid(served.kind_subject(), name, errors));
    let mut errors = schema::validate(&served.schema, object);
    errors.extend(metadata_errors(object, old));
    if !errors.is_empty() {
        return refuse(&errors);
    }
    let new = from_json(object.clone())?;
    let old = old.cloned().map(from_json).transpose()?;
    let canonical = match served.resource.canonical(&new) {
        Ok(canonical) => canonical,
        Err(errors) => return refuse(&field_errors(&errors)),
    };
    if let Err(errors) = served.resource.validate(&canonical, old.as_ref()) {
        return refuse(&field_errors(&errors));
    }
    crate::server::to_json(served, &canonical)
}

fn field_errors(errors: &FieldErrors) -> Vec<FieldError> {
    errors.as_slice().iter().map(FieldError::from).collect()
}

fn metadata_errors(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let map = |name: &str| object["metadata"].get(name).and_then(Value::as_object);
    for (key, value) in map("labels").into_iter().flatten() {
        if !is_label_key(key) {
            errors.push(FieldError::invalid("metadata.labels", &Value::from(key.as_str()), "is not a qualified name"));
        }
        if !value.as_str().is_some_and(is_label_value) {
            let detail = "a label's value must be at most 63 letters, digits, '-', '_' or '.' and start and end with a letter or digit";
            errors.push(FieldError::invalid("metadata.labels", value, detail));
        }
    }
    let mut size = 0;
    for (key, value) in map("annotations").into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if !is_label_key(&key.to_ascii_lowercase()) {
            let detail = "is not a qualified name";
            errors.push(FieldError::invalid("metadata.annotations", &Value::from(key.as_str()), detail));
        }
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_MAX));
    }
    errors.extend(old.and_then(|old| new_finalizers(old, object)));
    errors
}

/// An object that is being deleted takes no new finalizers.
fn new_finalizers(old: &Value, new: &Value) -> Option<FieldError> {
    old.pointer("/metadata/deletionTimestamp")?;
    let list =
        |object: &Value| object.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    let had = list(old);
    let added: Vec<Value> = list(new).into_iter().filter(|finalizer| !had.contains(finalizer)).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers {}",
        Value::from(added.clone())
    );
    (!added.is_empty()).then(|| FieldError::forbidden("metadata.finalizers", detail))
}

/// The name under which a writer's fields are kept: what it says, or the first word of its user agent.
pub(crate) fn field_manager(call: &Call, given: Option<&str>) -> String {
    if let Some(manager) = given {
        return manager.to_owned();
    }
    let agent = call.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
    let manager = agent.and_then(|agent| agent.split(['/', ' ']).next()).unwrap_or_default();
    let manager: String = manager.chars().filter(|character| !character.is_control()).take(128).collect();
    if manager.is_empty() { "unknown".to_owned() } else { manager }
}

/// Puts what a strategy made for the caller's eyes into the answer.
pub(crate) fn reveal(object: &mut Value, draft: &Draft) {
    for (pointer, secret) in &draft.reveal {
        if let Some(secret) = secret.expose_str() {
            set(object, pointer, Value::from(secret));
        }
    }
}
