//! A store in a temporary directory, for tests.

use std::path::Path;
use std::sync::Arc;

use cattle_api::resource::Resource;
use futures_util::future::BoxFuture;
use kube::core::DynamicObject;
use tempfile::TempDir;

use crate::sqlite::{Options, SqliteStore};
use crate::{Committed, Key, Listing, Page, Revision, Secret, Store, StoreError, Transaction, WatchStream};

/// A real store, without the waiting for the disk, that is gone when it is dropped.
pub struct TestStore {
    store: SqliteStore,
    directory: TempDir,
}

/// A store for one test.
///
/// # Panics
/// When there is no place for a temporary directory.
#[must_use]
pub fn memory() -> Arc<TestStore> {
    with_options(&Options::default().without_sync())
}

/// The same, with options.
///
/// # Panics
/// When there is no place for a temporary directory.
#[must_use]
#[expect(clippy::expect_used, reason = "a test cannot go on without its store")]
pub fn with_options(options: &Options) -> Arc<TestStore> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = SqliteStore::open_with(directory.path(), options).expect("a store in an empty directory");
    Arc::new(TestStore { store, directory })
}

impl TestStore {
    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The store itself.
    #[must_use]
    pub fn sqlite(&self) -> &SqliteStore {
        &self.store
    }
}

impl Store for TestStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<DynamicObject>, StoreError>> {
        self.store.get(key)
    }

    fn list<'a>(
        &'a self,
        resource: &'static Resource,
        namespace: Option<&'a str>,
        page: Page,
    ) -> BoxFuture<'a, Result<Listing, StoreError>> {
        self.store.list(resource, namespace, page)
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, StoreError>> {
        self.store.commit(transaction)
    }

    fn watch<'a>(
        &'a self,
        resource: &'static Resource,
        namespace: Option<&'a str>,
        after: Revision,
    ) -> BoxFuture<'a, Result<WatchStream, StoreError>> {
        self.store.watch(resource, namespace, after)
    }

    fn unseal<'a>(&'a self, key: &'a Key, field: &'a str) -> BoxFuture<'a, Result<Option<Secret>, StoreError>> {
        self.store.unseal(key, field)
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }
}
