//! Objects of the server, with the semantics of a Kubernetes API server's storage.
//!
//! [`Store`] is the interface; [`SqliteStore`] the implementation in one file on one machine. [`Typed`] puts the kinds of
//! `cattle-api` on top.
//!
//! # What holds for every implementation
//!
//! - **One revision counter.** Every change of an object gets the next [`Revision`], which is its `resourceVersion`. It never
//!   repeats, not across restarts and not after a restore.
//! - **All or nothing.** A [`Transaction`] is applied whole or not at all, and is durable when its future resolves. When the
//!   future is dropped or fails with [`StoreError::Io`], the outcome is unknown: read before trying again.
//! - **Optimistic concurrency.** An update names the revision that it is based on; another one in between is a
//!   [`StoreError::Conflict`].
//! - **Metadata is the store's.** It sets `uid`, `creationTimestamp`, `resourceVersion`, `generation` (counts changes of
//!   anything but metadata and status) and `deletionTimestamp`, whatever the caller put there.
//! - **Finalizers.** An object with finalizers is not removed by a delete but marked; the update that takes the last
//!   finalizer away removes it.
//! - **No change, no revision.** An update that changes nothing writes nothing and wakes nobody.
//! - **Watch from a revision**, in order, without gaps or repetitions. Who asks for more history than is kept, or falls
//!   behind it, gets [`StoreError::Expired`] or [`WatchError::Expired`] and must list again. Memory per watch is bounded.
//! - **Lists in pages** show the state at one revision, whatever is written in between.
//! - **Sealed values** are secrets beside an object: encrypted, bound to the object's UID and the field's name, gone with
//!   the object, in no object and in no watch event. A fresh value is written by the same transaction as the object. Writing
//!   one alone does not change the object's revision.
//!
//! # On disk
//!
//! [`sqlite`] says what the files are, what is promised after a crash, and how to back them up.

mod decide;
mod error;
mod key;
mod page;
pub mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
mod typed;
mod watch;

use cattle_api::resource::Resource;
use futures_util::future::BoxFuture;
use kube::core::DynamicObject;

pub use cattle_api::Secret;
pub use error::{Invalid, StoreError};
pub use key::{Key, Revision};
pub use page::{Continue, ContinueError, Listing, Page};
pub use sqlite::SqliteStore;
pub use transaction::{Committed, Transaction, Write};
pub use typed::{Typed, TypedEvent};
pub use watch::{EventKind, WatchError, WatchEvent, WatchStream};

/// Where the server's objects are. The crate's documentation says what holds for every implementation.
pub trait Store: Send + Sync + 'static {
    /// The object, or `None`.
    ///
    /// Cancel safe.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<DynamicObject>, StoreError>>;

    /// Objects of one resource, by namespace and name; of all namespaces when none is given.
    ///
    /// Cancel safe. [`StoreError::Expired`] when a page is continued whose revision is no longer kept.
    fn list<'a>(
        &'a self,
        resource: &'static Resource,
        namespace: Option<&'a str>,
        page: Page,
    ) -> BoxFuture<'a, Result<Listing, StoreError>>;

    /// Applies a transaction; durable when it resolves.
    ///
    /// Not cancel safe: once it was polled, dropping it leaves open whether the transaction is applied.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, StoreError>>;

    /// Changes of one resource after a revision, of one namespace or of all.
    ///
    /// Cancel safe. [`StoreError::Expired`] when the changes after `after` are no longer kept, or when `after` is from the
    /// future (of a store that was restored to an older state).
    fn watch<'a>(
        &'a self,
        resource: &'static Resource,
        namespace: Option<&'a str>,
        after: Revision,
    ) -> BoxFuture<'a, Result<WatchStream, StoreError>>;

    /// The sealed value of an object's field; `None` when the object or the value does not exist.
    ///
    /// Cancel safe. [`StoreError::Corrupt`] when it was changed or moved on disk.
    fn unseal<'a>(&'a self, key: &'a Key, field: &'a str) -> BoxFuture<'a, Result<Option<Secret>, StoreError>>;

    /// The revision of the last change that is durable.
    fn revision(&self) -> Revision;
}
