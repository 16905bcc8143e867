//! The store, with the kinds of `cattle-api`.

use std::marker::PhantomData;
use std::sync::Arc;

use cattle_api::resource::{self, Kind};
use futures_util::{Stream, StreamExt as _};
use kube::core::DynamicObject;

use crate::error::StoreError;
use crate::key::{Key, Revision};
use crate::page::Page;
use crate::transaction::{Transaction, Write};
use crate::watch::{EventKind, WatchError};
use crate::{Secret, Store};

/// The objects of one kind.
pub struct Typed<K> {
    store: Arc<dyn Store>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Typed<K> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), kind: PhantomData }
    }
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct TypedEvent<K> {
    /// What happened.
    pub kind: EventKind,
    /// The object after the change, or its last state.
    pub object: K,
    /// When.
    pub revision: Revision,
}

/// How often [`Typed::modify`] tries again after somebody else was faster.
const MODIFY_ATTEMPTS: usize = 16;

impl<K: Kind> Typed<K> {
    /// The objects of kind `K` in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, kind: PhantomData }
    }

    /// The store below, for transactions over several kinds.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Key of an object of this kind; `namespace` is `None` exactly when the kind has none.
    #[must_use]
    pub fn key(namespace: Option<&str>, name: &str) -> Key {
        Key { resource: K::resource(), namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    /// The object, or `None`.
    ///
    /// # Errors
    /// As [`Store::get`]; [`StoreError::Corrupt`] when it is not of this kind's shape.
    pub async fn get(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>, StoreError> {
        self.store.get(&Self::key(namespace, name)).await?.as_ref().map(decode).transpose()
    }

    /// All objects, of one namespace or of all, and the revision to watch from.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list(&self, namespace: Option<&str>) -> Result<(Vec<K>, Revision), StoreError> {
        let listing = self.store.list(K::resource(), namespace, Page::ALL).await?;
        let items = listing.items.iter().map(decode).collect::<Result<_, _>>()?;
        Ok((items, listing.revision))
    }

    /// Makes an object, with its sealed values.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn create(&self, object: &K, sealed: Vec<(String, Secret)>) -> Result<K, StoreError> {
        self.commit(Write::Create { object: encode(object)?, sealed }).await
    }

    /// Replaces an object; its `resourceVersion` must be the current one.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn update(&self, object: &K) -> Result<K, StoreError> {
        self.commit(Write::Update { object: encode(object)?, sealed: Vec::new() }).await
    }

    /// Reads, changes and writes until nobody was in between. `None` when there is no such object.
    ///
    /// `change` may run several times and must not have effects of its own.
    ///
    /// # Errors
    /// As [`Store::commit`]; [`StoreError::Conflict`] after 16 attempts.
    pub async fn modify(
        &self,
        namespace: Option<&str>,
        name: &str,
        mut change: impl FnMut(&mut K) + Send,
    ) -> Result<Option<K>, StoreError> {
        for _ in 0..MODIFY_ATTEMPTS {
            let Some(mut object) = self.get(namespace, name).await? else {
                return Ok(None);
            };
            change(&mut object);
            match self.update(&object).await {
                Err(StoreError::Conflict(_)) => {}
                Err(StoreError::NotFound(_)) => return Ok(None),
                other => return other.map(Some),
            }
        }
        Err(StoreError::Conflict(Self::key(namespace, name)))
    }

    /// Removes an object or marks it; answers whether it was there.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn delete(&self, namespace: Option<&str>, name: &str) -> Result<bool, StoreError> {
        let write = Write::Delete { key: Self::key(namespace, name), uid: None, revision: None };
        match self.store.commit(write.into()).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A sealed value of an object.
    ///
    /// # Errors
    /// As [`Store::unseal`].
    pub async fn unseal(&self, namespace: Option<&str>, name: &str, field: &str) -> Result<Option<Secret>, StoreError> {
        self.store.unseal(&Self::key(namespace, name), field).await
    }

    /// Sets or removes a sealed value of an object.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn seal(
        &self,
        namespace: Option<&str>,
        name: &str,
        field: &str,
        value: Option<Secret>,
    ) -> Result<(), StoreError> {
        let write = Write::Seal { key: Self::key(namespace, name), field: field.to_owned(), value };
        self.store.commit(write.into()).await.map(drop)
    }

    /// Changes after a revision.
    ///
    /// # Errors
    /// As [`Store::watch`].
    pub async fn watch(
        &self,
        namespace: Option<&str>,
        after: Revision,
    ) -> Result<impl Stream<Item = Result<TypedEvent<K>, WatchError>> + Send + Unpin + use<K>, StoreError> {
        let events = self.store.watch(K::resource(), namespace, after).await?;
        Ok(events.map(|event| {
            let event = event?;
            let object = decode(&event.object).map_err(WatchError::Store)?;
            Ok(TypedEvent { kind: event.kind, object, revision: event.revision })
        }))
    }

    async fn commit(&self, write: Write) -> Result<K, StoreError> {
        let committed = self.store.commit(Transaction::from(write)).await?;
        let object = committed.into_object().ok_or_else(|| corrupt("the answer to a commit"))?;
        decode(&object)
    }
}

fn decode<K: Kind>(object: &DynamicObject) -> Result<K, StoreError> {
    resource::decode(object).map_err(|error| {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        tracing::error!(resource = %K::resource(), name, %error, "an object does not fit its kind");
        corrupt(&format!("{}/{name}", K::resource()))
    })
}

fn encode<K: Kind>(object: &K) -> Result<DynamicObject, StoreError> {
    resource::encode(object).map_err(|error| StoreError::Io(Box::new(error)))
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt { what: what.to_owned() }
}
