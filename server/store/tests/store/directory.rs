//! The data directory: who has it, keys, damage, earlier schemas, backup and restore.

use std::fs;
use std::path::{Path, PathBuf};

use cattle_api::resource;
use cattle_store::sqlite::{KeyProblem, OpenError, backup, export_keys, restore, rotate_keys};
use cattle_store::{Page, Revision, Secret, SqliteStore, Store, StoreError};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::fixture::{commit, create, key, put, seal, unsealed, update, user};

/// A directory that only its owner may enter, as a data directory is.
fn directory() -> TempDir {
    crate::fixture::private_directory()
}

fn passphrase() -> Secret {
    Secret::from("correct horse battery".to_owned())
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

fn refused(path: &Path) -> OpenError {
    match SqliteStore::open(path) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

/// A store with two users that have sealed values.
async fn filled(path: &Path) -> SqliteStore {
    let store = open(path);
    for name in ["u-aaaaa", "u-bbbbb"] {
        put(&store, create(user(name))).await;
        commit(&store, seal(name, "password-hash", Some(&format!("hash of {name}")))).await;
    }
    store
}

fn database(path: &Path) -> Connection {
    Connection::open(path.join("cattle.db")).expect("opens")
}

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_is_gone() {
    let directory = directory();
    let first = filled(directory.path()).await;
    let error = refused(directory.path());
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another server is running"), "{error}");
    let id = first.server_id();
    drop(first);
    let second = open(directory.path());
    assert_eq!((second.server_id(), second.epoch(), second.revision()), (id, 1, Revision(2)));
}

#[tokio::test]
async fn revisions_go_on_after_a_restart() {
    let directory = directory();
    let store = filled(directory.path()).await;
    commit(&store, crate::fixture::delete("u-bbbbb")).await;
    drop(store);
    let store = open(directory.path());
    let made = put(&store, create(user("u-ccccc"))).await;
    assert_eq!(made.metadata.resource_version.as_deref(), Some("4"));
    let mut watch = store.watch(&resource::USER, None, Revision(1)).await.expect("history is kept");
    for expected in 2..=4 {
        assert_eq!(crate::fixture::next(&mut watch).await.revision, Revision(expected));
    }
}

#[tokio::test]
async fn keys_that_are_gone_or_others_are_refused() {
    let directory = directory();
    drop(filled(directory.path()).await);
    let path = directory.path().join("seal.key");
    let good = fs::read(&path).expect("there");

    fs::remove_file(&path).expect("there");
    let error = refused(directory.path());
    assert!(matches!(error, OpenError::Keys { problem: KeyProblem::Missing, .. }), "{error}");
    assert!(!path.exists(), "no new key hides that the old one is gone");

    let other = tempfile::tempdir().expect("a directory");
    drop(open(other.path()));
    fs::copy(other.path().join("seal.key"), &path).expect("copied");
    let error = refused(directory.path());
    assert!(matches!(error, OpenError::Keys { problem: KeyProblem::Wrong, .. }), "{error}");

    fs::write(&path, good).expect("written");
    let store = open(directory.path());
    assert_eq!(unsealed(&store, "u-aaaaa", "password-hash").await.expect("opens").as_deref(), Some("hash of u-aaaaa"));
}

#[tokio::test]
async fn a_sealed_value_that_was_changed_or_moved_is_refused() {
    let change = async |sql: &str| {
        let directory = directory();
        drop(filled(directory.path()).await);
        assert!(database(directory.path()).execute(sql, []).expect("changed") > 0, "{sql}");
        unsealed(&open(directory.path()), "u-aaaaa", "password-hash").await
    };
    let tampered = change("UPDATE sealed SET ciphertext = zeroblob(length(ciphertext))").await;
    let swapped = change(
        "UPDATE sealed SET (nonce, ciphertext, key_version) =
         (SELECT nonce, ciphertext, key_version FROM sealed AS other WHERE other.uid <> sealed.uid)
         WHERE uid = (SELECT uid FROM obj WHERE name = 'u-aaaaa')",
    )
    .await;
    let other_key = change("UPDATE sealed SET key_version = 2").await;
    for result in [tampered, swapped, other_key] {
        assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{result:?}");
    }
    let renamed = change("UPDATE sealed SET field = 'token-hash'").await;
    assert!(matches!(renamed, Ok(None)), "{renamed:?}");
}

#[tokio::test]
async fn a_changed_row_is_never_served() {
    let directory = directory();
    drop(filled(directory.path()).await);
    let sql = "UPDATE obj SET json = CAST(replace(CAST(json AS TEXT), 'somebody', 'admin') AS BLOB)
               WHERE name = 'u-aaaaa'";
    assert_eq!(database(directory.path()).execute(sql, []).expect("changed"), 1);
    let store = open(directory.path());
    let got = store.get(&key("u-aaaaa")).await;
    assert!(matches!(got, Err(StoreError::Corrupt { .. })), "{got:?}");
    let listed = store.list(&resource::USER, None, Page::ALL).await;
    assert!(matches!(listed, Err(StoreError::Corrupt { .. })), "{listed:?}");
    assert!(store.get(&key("u-bbbbb")).await.expect("not damaged").is_some());
}

/// Every bit of every page cannot be tried in each run: some hundred places, spread over the file.
#[tokio::test]
async fn damage_in_the_file_is_found_or_harmless() {
    let directory = directory();
    let store = filled(directory.path()).await;
    let good: Vec<_> = store.list(&resource::USER, None, Page::ALL).await.expect("a list").items;
    drop(store);
    let file = directory.path().join("cattle.db");
    let whole = fs::read(&file).expect("there");
    let (mut found, mut harmless) = (0, 0);
    for place in (0..whole.len()).step_by(whole.len() / 300) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(&file, damaged).expect("written");
        let Ok(store) = SqliteStore::open(directory.path()) else {
            found += 1;
            continue;
        };
        match store.list(&resource::USER, None, Page::ALL).await {
            Ok(listing) if listing.items == good => harmless += 1,
            Ok(listing) => panic!("byte {place}: {} objects that are not what was written", listing.items.len()),
            Err(_) => found += 1,
        }
    }
    assert!(found > 0 && harmless > 0, "{found} found, {harmless} harmless");
}

#[tokio::test]
async fn keys_are_replaced_under_all_values() {
    let directory = directory();
    drop(filled(directory.path()).await);
    let keys = || fs::read_to_string(directory.path().join("seal.key")).expect("there");
    let before = keys();
    assert_eq!(rotate_keys(directory.path()).expect("rotated"), 2);
    assert_eq!(keys().lines().count(), 2, "the old key is gone");
    assert_ne!(before.lines().nth(1), keys().lines().nth(1));
    let store = open(directory.path());
    for name in ["u-aaaaa", "u-bbbbb"] {
        let value = unsealed(&store, name, "password-hash").await.expect("opens");
        assert_eq!(value, Some(format!("hash of {name}")));
    }
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_restored_as_a_new_epoch() {
    let (source, archive, target) = (directory(), directory(), directory());
    let store = filled(source.path()).await;
    let (database, keys) = (archive.path().join("backup.db"), archive.path().join("keys"));
    let info = backup(source.path(), &database).expect("a backup");
    assert_eq!((info.revision, info.epoch, info.server_id), (2, 1, store.server_id().to_string()));
    export_keys(source.path(), &passphrase(), &keys).expect("exported");
    let mut lost = store.get(&key("u-aaaaa")).await.expect("readable").expect("there");
    lost.data["username"] = serde_json::json!("lost");
    let lost = put(&store, update(lost)).await;

    let restored = restore(target.path(), &database, &keys, &passphrase()).expect("restored");
    assert_eq!(restored.epoch, 2);
    let copy = open(target.path());
    assert_eq!((copy.server_id(), copy.epoch()), (store.server_id(), 2));
    assert_eq!(copy.revision(), Revision(restored.revision));
    assert!(copy.revision() > store.revision(), "revisions of the lost time do not come again");
    let value = unsealed(&copy, "u-bbbbb", "password-hash").await.expect("opens");
    assert_eq!(value.as_deref(), Some("hash of u-bbbbb"));

    let stale = copy.commit(update(lost)).await;
    assert!(matches!(stale, Err(StoreError::Conflict(_))), "{stale:?}");
    for revision in [2, 3, 1000] {
        let watch = copy.watch(&resource::USER, None, Revision(revision)).await;
        assert!(matches!(watch, Err(StoreError::Expired)), "{watch:?}");
    }
    put(&copy, create(user("u-ccccc"))).await;
    let again = restore(target.path(), &database, &keys, &passphrase());
    assert!(matches!(again, Err(OpenError::InUse { .. })), "{again:?}");
    drop(copy);
    let again = restore(target.path(), &database, &keys, &passphrase());
    assert!(matches!(again, Err(OpenError::NotEmpty { .. })), "{again:?}");
}

#[tokio::test]
async fn a_restore_with_the_wrong_passphrase_or_keys_makes_nothing() {
    let (source, archive, target) = (directory(), directory(), directory());
    drop(filled(source.path()).await);
    let (database, keys) = (archive.path().join("backup.db"), archive.path().join("keys"));
    backup(source.path(), &database).expect("a backup");
    export_keys(source.path(), &passphrase(), &keys).expect("exported");

    let wrong = Secret::from("another passphrase".to_owned());
    let error = restore(target.path(), &database, &keys, &wrong).expect_err("wrong");
    assert!(matches!(error, OpenError::Keys { problem: KeyProblem::Passphrase, .. }), "{error}");

    let other = directory();
    drop(open(other.path()));
    let others = archive.path().join("others");
    export_keys(other.path(), &passphrase(), &others).expect("exported");
    let error = restore(target.path(), &database, &others, &passphrase()).expect_err("of another database");
    assert!(matches!(error, OpenError::Keys { problem: KeyProblem::Wrong, .. }), "{error}");

    let cut = archive.path().join("cut.db");
    let whole = fs::read(&database).expect("there");
    fs::write(&cut, &whole[..whole.len() / 2]).expect("written");
    restore(target.path(), &cut, &keys, &passphrase()).expect_err("it is cut");
    assert!(!target.path().join("cattle.db").exists() && !target.path().join("seal.key").exists());
    restore(target.path(), &database, &keys, &passphrase()).expect("the right ones");

    let overwritten = backup(source.path(), &database);
    assert!(matches!(overwritten, Err(OpenError::Io { .. })), "a backup replaces nothing");
}

#[tokio::test]
async fn a_backup_ends_and_is_whole_while_the_server_writes() {
    let (source, archive, target) = (directory(), directory(), directory());
    let store = filled(source.path()).await;
    let (database, keys) = (archive.path().join("backup.db"), archive.path().join("keys"));
    export_keys(source.path(), &passphrase(), &keys).expect("exported");
    let (from, to) = (source.path().to_owned(), database.clone());
    let mut copying = tokio::task::spawn_blocking(move || backup(&from, &to));
    let mut written = 0;
    let info = loop {
        tokio::select! {
            info = &mut copying => break info.expect("no panic").expect("a backup"),
            _ = commit(&store, create(user(&format!("w{written}")))) => written += 1,
        }
    };
    restore(target.path(), &database, &keys, &passphrase()).expect("restored");
    let listing = open(target.path()).list(&resource::USER, None, Page::ALL).await.expect("a list");
    assert_eq!(listing.items.len() as u64, info.revision, "every revision made one object");
}

#[tokio::test]
async fn a_restore_that_was_interrupted_is_not_taken_for_a_new_server() {
    let (source, archive, target) = (directory(), directory(), directory());
    drop(filled(source.path()).await);
    let (database, keys) = (archive.path().join("backup.db"), archive.path().join("keys"));
    backup(source.path(), &database).expect("a backup");
    export_keys(source.path(), &passphrase(), &keys).expect("exported");
    fs::write(target.path().join("cattle.db.restore"), "torn").expect("written");
    let error = refused(target.path());
    assert!(matches!(error, OpenError::RestoreUnfinished { .. }), "{error}");
    restore(target.path(), &database, &keys, &passphrase()).expect("run again");
    open(target.path());
}

/// One database of each schema version that was ever released. `UPDATE_GOLDEN=1` makes the one of this version.
#[tokio::test]
async fn every_earlier_schema_is_opened() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        make_fixture(&fixtures).await;
    }
    let mut versions = 0_u32;
    for entry in fs::read_dir(&fixtures).expect("fixtures") {
        let fixture = entry.expect("readable").path();
        let copy = directory();
        for file in ["cattle.db", "seal.key"] {
            fs::copy(fixture.join(file), copy.path().join(file)).expect("copied");
            fs::set_permissions(copy.path().join(file), std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("ours");
        }
        let store = open(copy.path());
        let listing = store.list(&resource::USER, None, Page::ALL).await.expect("a list");
        assert_eq!(listing.items.len(), 2, "{}", fixture.display());
        let value = unsealed(&store, "u-aaaaa", "password-hash").await.expect("opens");
        assert_eq!(value.as_deref(), Some("hash of u-aaaaa"), "{}", fixture.display());
        put(&store, create(user("u-ccccc"))).await;
        versions += 1;
    }
    let current = directory();
    drop(open(current.path()));
    let newest: u32 =
        database(current.path()).query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
    assert_eq!(versions, newest, "one fixture for each version: make the missing one with UPDATE_GOLDEN=1");
}

/// The database of this version, in one file.
async fn make_fixture(fixtures: &Path) {
    let directory = directory();
    drop(filled(directory.path()).await);
    let version: u32 =
        database(directory.path()).query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
    let target: PathBuf = fixtures.join(format!("schema-{version}"));
    if target.is_dir() {
        // What a released version wrote is never written again.
        return;
    }
    fs::create_dir_all(&target).expect("made");
    let copy = target.join("cattle.db");
    database(directory.path()).execute("VACUUM INTO ?1", params![copy.to_str()]).expect("copied");
    fs::copy(directory.path().join("seal.key"), target.join("seal.key")).expect("copied");
}
