//! Looking up other objects.

use cattle_api::management::setting::Known;
use cattle_api::{Resource, resource};
use cattle_store::{Key, Page, Store, StoreError, Write};
use kube::core::DynamicObject;
use serde_json::Value;

use super::{Admission, text};
use crate::status::{StatusError, Subject};
use crate::verb::store_error;

/// Objects per read.
const PAGE: u32 = 500;

/// An object, or `None`.
pub(super) async fn get(
    store: &dyn Store,
    resource: &'static Resource,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<DynamicObject>, StatusError> {
    let key = Key { resource, namespace: namespace.map(str::to_owned), name: name.to_owned() };
    store.get(&key).await.map_err(store_error)
}

/// All objects of a kind, in a namespace or everywhere.
pub(super) async fn all(
    store: &dyn Store,
    resource: &'static Resource,
    namespace: Option<&str>,
) -> Result<Vec<DynamicObject>, StatusError> {
    'restart: loop {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = Page { limit: Some(PAGE), from };
            let listing = match store.list(resource, namespace, page).await {
                // So much was written meanwhile that the first page is history: from the beginning.
                Err(StoreError::Expired) => continue 'restart,
                other => other.map_err(store_error)?,
            };
            found.extend(listing.items);
            match listing.next {
                Some(next) => from = Some(next),
                None => return Ok(found),
            }
        }
    }
}

/// The value of a setting, or its default.
pub(super) async fn setting(store: &dyn Store, name: &'static str) -> Result<String, StatusError> {
    let object = get(store, &resource::SETTING, None, name).await?;
    let field = |name: &str| object.as_ref().and_then(|object| object.data.get(name)?.as_str()).unwrap_or_default();
    let effective = [field("value"), field("default")].into_iter().find(|value| !value.is_empty());
    let default = || Known::find(name).map_or("", |known| known.default);
    Ok(effective.unwrap_or_else(default).to_owned())
}

/// The cluster that a namespace belongs to, and the condition that it is there when the change is made.
pub(super) async fn cluster_of(
    admission: &Admission<'_>,
    object: &Value,
) -> Result<(DynamicObject, Write), StatusError> {
    let namespace = text(object, "/metadata/namespace");
    let Some(cluster) = get(admission.store, &resource::CLUSTER, None, namespace).await? else {
        return Err(StatusError::not_found(Subject { group: "", kind: "namespaces" }, namespace));
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        return Err(admission.forbidden(object, &why));
    }
    let require = require(&resource::CLUSTER, None, &cluster);
    Ok((cluster, require))
}

/// The condition that an object is still there when the change is made.
pub(super) fn require(resource: &'static Resource, namespace: Option<&str>, object: &DynamicObject) -> Write {
    let name = object.metadata.name.clone().unwrap_or_default();
    let key = Key { resource, namespace: namespace.map(str::to_owned), name };
    Write::Require { key, uid: object.metadata.uid.clone(), revision: None }
}

/// The removal of an object.
pub(super) fn remove(resource: &'static Resource, object: &DynamicObject) -> Write {
    let key = Key {
        resource,
        namespace: object.metadata.namespace.clone(),
        name: object.metadata.name.clone().unwrap_or_default(),
    };
    Write::Delete { key, uid: object.metadata.uid.clone(), revision: None }
}

/// The creation of an object.
pub(super) fn make<K: resource::Kind>(object: &K) -> Result<Write, StatusError> {
    let object = resource::encode(object).map_err(|error| StatusError::internal(&error))?;
    Ok(Write::Create { object, sealed: Vec::new() })
}
