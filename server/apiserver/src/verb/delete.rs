//! Delete: preconditions, finalizers, what else goes.

use axum::body::Body;
use cattle_store::{Key, Revision, Transaction, Write};
use http::Response;
use kube::core::DynamicObject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::change::audited;
use super::list::collect;
use super::{load, store_error};
use crate::body;
use crate::field::FieldError;
use crate::respond;
use crate::server::{Call, to_json};
use crate::status::{StatusError, Subject};
use crate::strategy::text;

/// `metav1.DeleteOptions`, as far as they mean something here. Propagation is accepted and checked: what depends on an
/// object is deleted by the server's controllers, whatever the policy.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    preconditions: Option<Preconditions>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    grace_period_seconds: Option<i64>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// DELETE of an object.
pub(crate) async fn delete(call: &Call, body: Body) -> Result<Response<Body>, StatusError> {
    call.authorize("delete")?;
    let options = options(call, body).await?;
    // The body may have come slowly: see `Call::read`.
    let filter = call.authorize("delete")?;
    let object = load(call, filter).await?;
    let answer = remove(call, "delete", object, &options).await?;
    match answer {
        Removal::Gone { uid } => {
            let resource = call.served.resource;
            let details = json!({"name": call.name, "group": resource.group, "kind": resource.plural, "uid": uid});
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
            Ok(respond::json(200, &status))
        }
        Removal::Waiting(object) => respond::object(call, 200, *object),
    }
}

/// DELETE of a collection: what the selectors name and the caller may see, one by one.
pub(crate) async fn delete_collection(call: &Call, body: Body) -> Result<Response<Body>, StatusError> {
    let selection = call.query.list_options(&call.served.selectable)?;
    if call.served.resource.namespaced && call.namespace.is_none() {
        return Err(StatusError::method_not_allowed());
    }
    call.authorize_name("deletecollection", selection.fields.name())?;
    let options = options(call, body).await?;
    let filter = call.authorize_name("deletecollection", selection.fields.name())?;
    let found = collect(call, filter, &selection).await?;
    let mut items = Vec::with_capacity(found.items.len());
    for object in found.items {
        let one = Call { name: object.metadata.name.clone(), ..call.clone() };
        let shown = call.view(object.clone())?;
        match remove(&one, "deletecollection", object, &options).await {
            Ok(Removal::Gone { .. }) => items.push(shown),
            Ok(Removal::Waiting(object)) => items.push(*object),
            // Somebody else deleted it in between: that is what was asked for.
            Err(error) if error.code() == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let metadata = json!({"resourceVersion": call.server.store.revision().0.to_string()});
    respond::list(call, items, metadata)
}

enum Removal {
    Gone { uid: Option<String> },
    Waiting(Box<Value>),
}

async fn remove(
    call: &Call,
    verb: &'static str,
    object: DynamicObject,
    options: &DeleteOptions,
) -> Result<Removal, StatusError> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let expected = preconditions(call, &name, &object, options.preconditions.as_ref())?;
    let (uid, waits) =
        (object.metadata.uid.clone(), object.metadata.finalizers.as_ref().is_some_and(|f| !f.is_empty()));
    let old = to_json(&call.served, &object)?;
    let dry_run = options.dry_run.is_some();
    let mut writes = call.served.strategy.delete(&call.admission(dry_run), &old).await?;
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Removal::Waiting(Box::new(call.view(object)?)));
    }
    let key = Key { resource: call.served.resource, namespace: object.metadata.namespace.clone(), name: name.clone() };
    writes.insert(0, Write::Delete { key, uid: uid.clone(), revision: expected });
    let change = async {
        let committed = call.server.store.commit(Transaction { writes, dry_run }).await.map_err(store_error)?;
        committed.objects.into_iter().next().map(|left| call.view(left)).transpose()
    };
    let left = audited(call, verb, Some(&name), dry_run, change).await?;
    match left.filter(|_| waits) {
        Some(left) => Ok(Removal::Waiting(Box::new(left))),
        None => Ok(Removal::Gone { uid }),
    }
}

fn preconditions(
    call: &Call,
    name: &str,
    object: &DynamicObject,
    wanted: Option<&Preconditions>,
) -> Result<Option<Revision>, StatusError> {
    let subject = call.served.subject();
    let Some(wanted) = wanted else { return Ok(None) };
    if let Some(uid) = &wanted.uid
        && object.metadata.uid.as_ref() != Some(uid)
    {
        let have = object.metadata.uid.as_deref().unwrap_or_default();
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {have}");
        return Err(StatusError::conflict(subject, name, &why));
    }
    let Some(version) = &wanted.resource_version else { return Ok(None) };
    let have = object.metadata.resource_version.as_deref().unwrap_or_default();
    if have != version {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {have}"
        );
        return Err(StatusError::conflict(subject, name, &why));
    }
    Ok(version.parse().ok().map(Revision))
}

async fn options(call: &Call, body: Body) -> Result<DeleteOptions, StatusError> {
    let bytes = body::read(&call.headers, body).await?;
    let mut options = if bytes.is_empty() {
        DeleteOptions::default()
    } else {
        let document = body::parse(&bytes, body::media_type(&call.headers)?)?;
        let kind = text(&document.value, "/kind");
        if !matches!(kind, "" | "DeleteOptions") {
            return Err(StatusError::bad_request("the body of a DELETE must be DeleteOptions"));
        }
        serde_json::from_value(document.value)
            .map_err(|_| StatusError::bad_request("the body could not be read as DeleteOptions"))?
    };
    if call.query.dry_run()? {
        options.dry_run = Some(vec!["All".to_owned()]);
    }
    if let Some(policy) = call.query.get("propagationPolicy") {
        options.propagation_policy = Some(policy.to_owned());
    }
    check(&mut options)?;
    Ok(options)
}

fn check(options: &mut DeleteOptions) -> Result<(), StatusError> {
    let refuse = |error: FieldError| {
        Err(StatusError::invalid(Subject { group: "meta.k8s.io", kind: "DeleteOptions" }, "", &[error]))
    };
    if options.orphan_dependents.is_some() && options.propagation_policy.is_some() {
        let detail = "orphanDependents and deletionPropagation cannot be both set";
        return refuse(FieldError::forbidden("propagationPolicy", detail));
    }
    if let Some(policy) = &options.propagation_policy
        && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
    {
        let supported = ["Background", "Foreground", "Orphan"].map(str::to_owned);
        return refuse(FieldError::not_supported("propagationPolicy", &Value::from(policy.as_str()), &supported));
    }
    if options.grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        let value = Value::from(options.grace_period_seconds);
        return refuse(FieldError::invalid("gracePeriodSeconds", &value, "must not be negative"));
    }
    match options.dry_run.as_deref() {
        None => {}
        Some([]) => options.dry_run = None,
        Some(all) if all.iter().all(|one| one == "All") => {}
        Some(_) => {
            let supported = ["All".to_owned()];
            return refuse(FieldError::not_supported("dryRun", &Value::from("?"), &supported));
        }
    }
    Ok(())
}
