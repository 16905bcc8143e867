//! The few verbs that the controllers use downstream, with errors that name the object.

use std::fmt::Debug;

use cattle_manifest::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ownership;

/// A kind that the controllers write.
pub(crate) trait Object:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// Why the API server did not do something.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {kind} {name}")]
pub(crate) struct ApplyError {
    verb: &'static str,
    kind: String,
    name: String,
    #[source]
    source: Box<kube::Error>,
}

impl ApplyError {
    pub(crate) fn of<K: Object>(verb: &'static str, name: &str, source: kube::Error) -> Self {
        Self { verb, kind: K::kind(&()).into_owned(), name: name.to_owned(), source: Box::new(source) }
    }

    /// One sentence for whoever waits for the object.
    pub(crate) fn sentence(&self) -> String {
        if let kube::Error::Api(status) = &*self.source {
            format!("{self}: {}", status.message)
        } else {
            format!("{self}: the cluster's API server cannot be reached")
        }
    }
}

pub(crate) async fn get<K: Object>(api: &Api<K>, name: &str) -> Result<Option<K>, ApplyError> {
    api.get_opt(name).await.map_err(|error| ApplyError::of::<K>("read", name, error))
}

pub(crate) async fn list<K: Object>(api: &Api<K>, params: &ListParams) -> Result<Vec<K>, ApplyError> {
    let page = params.clone().limit(500);
    let (mut items, mut token) = (Vec::new(), None);
    loop {
        let params = token.map_or_else(|| page.clone(), |token: String| page.clone().continue_token(&token));
        let list = api.list(&params).await.map_err(|error| ApplyError::of::<K>("list", "objects", error))?;
        items.extend(list.items);
        token = list.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(items);
        }
    }
}

/// Makes an object that was not there. One that is there by now is left alone: the next decision sees whose it is.
pub(crate) async fn create<K: Object>(api: &Api<K>, object: &K) -> Result<(), ApplyError> {
    let params = PostParams { field_manager: Some(names::MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(ApplyError::of::<K>("create", &object.name_any(), error)),
    }
}

/// Brings our fields of the object with this UID to this state, by server-side apply.
pub(crate) async fn update<K: Object>(api: &Api<K>, object: &K) -> Result<(), ApplyError> {
    let name = object.name_any();
    let params = PatchParams::apply(names::MANAGER).force();
    let done = api.patch(&name, &params, &Patch::Apply(object)).await;
    done.map(drop).map_err(|error| ApplyError::of::<K>("update", &name, error))
}

/// Removes exactly the object that was observed; one that is gone, or is another one by now, is fine.
pub(crate) async fn delete<K: Object>(api: &Api<K>, meta: &ObjectMeta) -> Result<(), ApplyError> {
    let name = meta.name.clone().unwrap_or_default();
    match api.delete(&name, &ownership::exactly(meta)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(ApplyError::of::<K>("delete", &name, error)),
    }
}
