//! A full disk, on a small tmpfs.

use std::fs;
use std::path::Path;

use cattle_api::resource;
use cattle_store::{Page, Revision, SqliteStore, Store, StoreError};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::fixture::{create, key, next, object, put, user};
use serde_json::json;

/// A mounted tmpfs, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` without the right to mount; says so.
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let options = format!("size={size},mode=0700");
        match mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str())) {
            Ok(()) => Some(Self(directory)),
            Err(error) => {
                println!("SKIPPED: a tmpfs cannot be mounted here: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// Where in a file the disk gets full moves with the size of the objects.
#[tokio::test]
async fn a_full_disk_refuses_changes_and_nothing_else() {
    let matrix = cattle_matrix::Matrix::of_this_run("full disks");
    for point in matrix.slice(24, 4) {
        let size = matrix.random_at(point).usize(2_000..200_000);
        let Some(disk) = SmallDisk::mount("4m") else { return };
        fill(&disk, size).await;
    }
}

async fn fill(disk: &SmallDisk, size: usize) {
    let ballast = disk.path().join("ballast");
    let data = disk.path().join("data");
    let store = SqliteStore::open(&data).expect("opens");
    fs::write(&ballast, vec![1; 1 << 20]).expect("there is space");
    let big = |number: usize| object(json!({"name": format!("u{number}")}), &"x".repeat(size));

    let mut stored = 0;
    let error = loop {
        match store.commit(create(big(stored))).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 4000, "4 MiB hold so much?");
    };
    assert!(matches!(error, StoreError::Full), "objects of {size}: {error}: {error:?}");
    assert!(stored > 3, "{stored} objects of {size}");

    assert!(store.get(&key("u0")).await.expect("reads go on").is_some());
    let listing = store.list(&resource::USER, None, Page::ALL).await.expect("lists go on");
    assert_eq!((listing.items.len(), listing.revision), (stored, Revision(stored as u64)));
    let mut watch = store.watch(&resource::USER, None, Revision(0)).await.expect("watches go on");
    assert_eq!(next(&mut watch).await.revision, Revision(1));
    let again = store.commit(create(big(stored))).await;
    assert!(matches!(again, Err(StoreError::Full)), "{again:?}");

    fs::remove_file(&ballast).expect("there");
    put(&store, create(user("after"))).await;
    drop((watch, store));
    let store = SqliteStore::open(&data).expect("opens");
    let listing = store.list(&resource::USER, None, Page::ALL).await.expect("a list");
    assert_eq!(listing.items.len(), stored + 1, "all that was acknowledged, and nothing else");
}
