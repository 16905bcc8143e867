//! The builtin roles, put back at each start as this version has them.

use std::sync::Arc;

use cattle_api::{Kind, builtin};
use cattle_store::{Store, StoreError, Typed};
use kube::ResourceExt;

/// Makes what is missing and restores what was changed: builtin roles are the server's.
///
/// # Errors
/// The store's.
pub(super) async fn seed(store: &Arc<dyn Store>) -> Result<(), StoreError> {
    for role in builtin::role_templates() {
        ensure(store, &role, |stored, wanted| stored.spec = wanted.spec.clone()).await?;
    }
    for role in builtin::global_roles() {
        ensure(store, &role, |stored, wanted| stored.spec = wanted.spec.clone()).await?;
    }
    Ok(())
}

async fn ensure<K: Kind>(store: &Arc<dyn Store>, wanted: &K, restore: fn(&mut K, &K)) -> Result<(), StoreError> {
    let objects = Typed::<K>::new(Arc::clone(store));
    let name = wanted.name_any();
    if objects.get(None, &name).await?.is_none() {
        return objects.create(wanted, Vec::new()).await.map(drop);
    }
    // An update that changes nothing writes nothing.
    objects.modify(None, &name, |stored| restore(stored, wanted)).await.map(drop)
}
