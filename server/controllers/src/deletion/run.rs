//! Doing a removal, downstream and then in the store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cattle_api::Resource;
use cattle_api::management::Cluster;
use cattle_api::management::cluster::CLEANUP_FINALIZER;
use cattle_api::resource::{self, CLUSTER_REGISTRATION_TOKEN, CLUSTER_ROLE_TEMPLATE_BINDING, NODE};
use cattle_manifest::names;
use cattle_store::{Key, Page, Store, StoreError, Transaction, Typed, Write};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::decide::{Leftovers, Progress, Removal, decide};
use crate::apply::{self, ApplyError};
use crate::ownership;

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(500);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Kinds whose objects stand in the namespace that is named after a cluster.
const DEPENDENTS: [&Resource; 3] = [&CLUSTER_REGISTRATION_TOKEN, &CLUSTER_ROLE_TEMPLATE_BINDING, &NODE];

/// Removes everything of ours from the cluster; resolves when Kubernetes does the rest by itself. `report` is told of every
/// step. Cancel-safe: what was not done is done by the next run.
pub(crate) async fn remove_downstream(client: &Client, report: impl Fn(Progress) + Send + Sync) {
    let cluster = Downstream::new(client);
    loop {
        let pause = match cluster.step(&report).await {
            Ok(true) => return,
            Ok(false) => LOOK,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the removal does not go on");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

struct Downstream {
    bindings: Api<ClusterRoleBinding>,
    roles: Api<ClusterRole>,
    namespaces: Api<Namespace>,
    classes: Api<PriorityClass>,
}

impl Downstream {
    fn new(client: &Client) -> Self {
        Self {
            bindings: Api::all(client.clone()),
            roles: Api::all(client.clone()),
            namespaces: Api::all(client.clone()),
            classes: Api::all(client.clone()),
        }
    }

    async fn step(&self, report: &(impl Fn(Progress) + Send + Sync)) -> Result<bool, ApplyError> {
        let removal = decide(&self.look().await?);
        report(removal.progress());
        match removal {
            Removal::Bindings(metas) => {
                for meta in &metas {
                    apply::delete(&self.bindings, meta).await?;
                }
            }
            Removal::Roles(metas) => {
                for meta in &metas {
                    apply::delete(&self.roles, meta).await?;
                }
            }
            Removal::Impersonators(meta) => apply::delete(&self.namespaces, &meta).await?,
            Removal::AwaitImpersonators => {}
            Removal::PriorityClass(meta) => apply::delete(&self.classes, &meta).await?,
            Removal::HandOver { to, binding, role } => {
                if let Some(meta) = binding {
                    hand_over(&self.bindings, &meta, &to).await?;
                }
                if let Some(meta) = role {
                    hand_over(&self.roles, &meta, &to).await?;
                }
            }
            Removal::System(meta) => {
                apply::delete(&self.namespaces, &meta).await?;
                // Looking again would race with the end of the server's own rights.
                return Ok(true);
            }
            Removal::Done => return Ok(true),
        }
        Ok(false)
    }

    async fn look(&self) -> Result<Leftovers, ApplyError> {
        let ours = ListParams::default().labels(&ownership::selector());
        let (bindings, roles, class, impersonation, system) = futures_util::try_join!(
            apply::list(&self.bindings, &ours),
            apply::list(&self.roles, &ours),
            apply::get(&self.classes, names::AGENT_PRIORITY_CLASS),
            apply::get(&self.namespaces, names::IMPERSONATION_NAMESPACE),
            apply::get(&self.namespaces, names::NAMESPACE),
        )?;
        let class = class.map(|class| class.metadata).filter(ownership::is_ours);
        Ok(Leftovers {
            bindings: bindings.into_iter().map(|object| object.metadata).collect(),
            roles: roles.into_iter().map(|object| object.metadata).collect(),
            priority_class: class,
            impersonation: impersonation.map(|object| object.metadata),
            system: system.map(|object| object.metadata),
        })
    }
}

async fn hand_over<K: apply::Object>(api: &Api<K>, meta: &ObjectMeta, to: &ObjectMeta) -> Result<(), ApplyError> {
    let patch = json!({ "metadata": { "uid": meta.uid, "ownerReferences": [{
        "apiVersion": "v1", "kind": "Namespace", "name": to.name, "uid": to.uid,
    }] } });
    let name = meta.name.clone().unwrap_or_default();
    let done = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    done.map(drop).map_err(|error| ApplyError::of::<K>("hand over", &name, error))
}

/// Removes the record with everything that stands in its namespace, in one transaction.
pub(crate) async fn finish(store: &Arc<dyn Store>, cluster: &str) -> Result<(), StoreError> {
    loop {
        let Some(mut record) = Typed::<Cluster>::new(Arc::clone(store)).get(None, cluster).await? else {
            return Ok(());
        };
        let mut writes = dependents(store, cluster).await?;
        if let Some(finalizers) = &mut record.metadata.finalizers {
            finalizers.retain(|finalizer| finalizer != CLEANUP_FINALIZER);
        }
        let object = resource::encode(&record).map_err(|error| StoreError::Io(Box::new(error)))?;
        writes.push(Write::Update { object, sealed: Vec::new() });
        match store.commit(Transaction::new(writes)).await {
            Ok(_) => return Ok(()),
            // Somebody was faster with one of them: look again.
            Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes what stands in namespaces of clusters that are gone. Nothing of an old record may be good for a new one of the
/// same name.
pub(crate) async fn sweep(store: &Arc<dyn Store>) -> Result<(), StoreError> {
    let mut namespaces = BTreeSet::new();
    for kind in DEPENDENTS {
        let listing = store.list(kind, None, Page::ALL).await?;
        namespaces.extend(listing.items.iter().filter_map(ResourceExt::namespace));
    }
    for namespace in namespaces {
        if store.get(&Key::cluster(&resource::CLUSTER, namespace.as_str())).await?.is_some() {
            continue;
        }
        for write in dependents(store, &namespace).await? {
            match store.commit(write.into()).await {
                Ok(_) | Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        tracing::info!(cluster = namespace, "removed what was left of a deleted cluster");
    }
    Ok(())
}

async fn dependents(store: &Arc<dyn Store>, cluster: &str) -> Result<Vec<Write>, StoreError> {
    let mut writes = Vec::new();
    for kind in DEPENDENTS {
        let listing = store.list(kind, Some(cluster), Page::ALL).await?;
        let delete = |object: &kube::core::DynamicObject| Write::Delete {
            key: Key::namespaced(kind, cluster, object.name_any()),
            uid: object.metadata.uid.clone(),
            revision: None,
        };
        writes.extend(listing.items.iter().map(delete));
    }
    Ok(writes)
}
