//! What the tests of the store share.

use std::time::Duration;

use cattle_api::resource;
use cattle_store::{Committed, Key, Revision, Secret, Store, StoreError, Transaction, WatchEvent, WatchStream, Write};
use futures_util::StreamExt as _;
use kube::core::DynamicObject;
use serde_json::json;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn private_directory() -> tempfile::TempDir {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().expect("a directory")
}

pub(crate) fn user(name: &str) -> DynamicObject {
    object(json!({"name": name}), "somebody")
}

pub(crate) fn object(metadata: serde_json::Value, username: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "management.cattle.io/v3", "kind": "User", "metadata": metadata, "username": username,
    }))
    .expect("an object")
}

pub(crate) fn crtb(namespace: &str, name: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "management.cattle.io/v3",
        "kind": "ClusterRoleTemplateBinding",
        "metadata": {"name": name, "namespace": namespace},
        "clusterName": namespace,
        "roleTemplateName": "cluster-member",
    }))
    .expect("an object")
}

pub(crate) fn key(name: &str) -> Key {
    Key::cluster(&resource::USER, name)
}

pub(crate) fn create(object: DynamicObject) -> Transaction {
    Write::Create { object, sealed: Vec::new() }.into()
}

pub(crate) fn update(object: DynamicObject) -> Transaction {
    Write::Update { object, sealed: Vec::new() }.into()
}

pub(crate) fn delete(name: &str) -> Transaction {
    Write::Delete { key: key(name), uid: None, revision: None }.into()
}

pub(crate) fn seal(name: &str, field: &str, value: Option<&str>) -> Transaction {
    let value = value.map(|text| Secret::from(text.to_owned()));
    Write::Seal { key: key(name), field: field.to_owned(), value }.into()
}

pub(crate) async fn commit(store: &dyn Store, transaction: Transaction) -> Committed {
    store.commit(transaction).await.unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

pub(crate) async fn put(store: &dyn Store, transaction: Transaction) -> DynamicObject {
    commit(store, transaction).await.into_object().expect("one object")
}

pub(crate) async fn unsealed(store: &dyn Store, name: &str, field: &str) -> Result<Option<String>, StoreError> {
    let secret = store.unseal(&key(name), field).await?;
    Ok(secret.map(|secret| secret.expose_str().expect("text").to_owned()))
}

pub(crate) async fn next(watch: &mut WatchStream) -> WatchEvent {
    let event = tokio::time::timeout(DEADLINE, watch.next()).await.expect("an event in time");
    event.expect("not the end").unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn name(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().expect("a name")
}

pub(crate) fn revision(object: &DynamicObject) -> Revision {
    object.metadata.resource_version.as_deref().and_then(Revision::parse).expect("a revision")
}
