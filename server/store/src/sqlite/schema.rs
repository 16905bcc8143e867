//! The database's schema, version by version.
//!
//! Each migration runs in one transaction after a copy of the file was made, so a failed one leaves the database as it was
//! and a server of the version before can be put back with the copy. Migrations are never edited once they were released.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior, params};

use super::data_dir::sync_directory;
use super::open_error::OpenError;

/// `CATL`: SQLite's mark of whose a file is.
pub(super) const APPLICATION_ID: u32 = 0x4341_544C;

/// SQL of each version, the first being version 1.
pub(super) const MIGRATIONS: &[&str] = &[VERSION_1];

/// `obj` is what is, `log` how it came to be (for watches and for lists at an older revision), `sealed` secrets beside
/// objects, `meta` single values: `revision`, `floor` (history up to here is gone), `epoch`, `server-id`, `seal-check`.
const VERSION_1: &str = "
CREATE TABLE meta (
  name TEXT PRIMARY KEY NOT NULL,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE obj (
  uid TEXT NOT NULL UNIQUE,
  resource TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  rev INTEGER NOT NULL,
  json BLOB NOT NULL,
  digest BLOB NOT NULL,
  UNIQUE (resource, namespace, name)
) STRICT;

CREATE TABLE log (
  rev INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,
  resource TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  json BLOB NOT NULL,
  digest BLOB NOT NULL,
  prev_rev INTEGER,
  prev_json BLOB,
  prev_digest BLOB
) STRICT;
CREATE INDEX log_by_key ON log (resource, namespace, name, rev);

CREATE TABLE sealed (
  uid TEXT NOT NULL REFERENCES obj (uid) ON DELETE CASCADE,
  field TEXT NOT NULL,
  key_version INTEGER NOT NULL,
  nonce BLOB NOT NULL,
  ciphertext BLOB NOT NULL,
  PRIMARY KEY (uid, field)
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('revision', 0), ('floor', 0), ('epoch', 1);
";

/// The schema version of a database; 0 is an empty one.
pub(super) fn version(connection: &Connection) -> Result<u32, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the database to the newest version of `migrations`.
pub(super) fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    let found = check(connection, path, migrations.len())?;
    if found as usize == migrations.len() {
        return Ok(());
    }
    if found > 0 {
        let copy = copy(connection, path, found)?;
        tracing::info!(from = found, to = migrations.len(), copy = %copy.display(), "migrating the database");
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    for sql in &migrations[found as usize..] {
        transaction.execute_batch(sql)?;
    }
    if found == 0 {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        let id = uuid::Uuid::new_v4().to_string();
        transaction.execute("INSERT INTO meta (name, value) VALUES ('server-id', ?1)", params![id])?;
    }
    transaction.pragma_update(None, "user_version", u32::try_from(migrations.len()).unwrap_or(u32::MAX))?;
    transaction.commit()?;
    Ok(())
}

/// Whether the file is ours and of a version that is known.
pub(super) fn check(connection: &Connection, path: &Path, known: usize) -> Result<u32, OpenError> {
    let foreign = || OpenError::Foreign { path: path.to_owned() };
    let application: u32 = match connection.query_row("PRAGMA application_id", [], |row| row.get(0)) {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => return Err(foreign()),
        other => other?,
    };
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let found = version(connection)?;
    match (application, tables) {
        (0, 0) if found == 0 => {}
        (APPLICATION_ID, _) if found > 0 => {}
        _ => return Err(foreign()),
    }
    if found as usize > known {
        return Err(OpenError::NewerSchema { found, known: u32::try_from(known).unwrap_or(u32::MAX) });
    }
    Ok(found)
}

/// A consistent copy beside the database, durable before anything is changed. A copy of an earlier attempt is replaced.
fn copy(connection: &Connection, path: &Path, version: u32) -> Result<PathBuf, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{version}"));
    let copy = PathBuf::from(name);
    let io = |source| OpenError::Io { path: copy.clone(), source };
    if copy.exists() {
        std::fs::remove_file(&copy).map_err(io)?;
    }
    connection.execute("VACUUM INTO ?1", params![copy.to_string_lossy()])?;
    std::fs::File::open(&copy).and_then(|file| file.sync_all()).map_err(io)?;
    sync_directory(copy.parent().unwrap_or_else(|| Path::new("."))).map_err(io)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Connection {
        Connection::open(path).expect("opens")
    }

    #[test]
    fn a_migration_keeps_what_is_there_and_a_copy_of_it() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("cattle.db");
        let mut connection = open(&path);
        migrate(&mut connection, &path, MIGRATIONS).expect("the first");
        let id = |connection: &Connection| -> String {
            connection
                .query_row("SELECT value FROM meta WHERE name = 'server-id'", [], |row| row.get(0))
                .expect("an id")
        };
        let before = id(&connection);
        let next = [MIGRATIONS, &["CREATE TABLE extra (a TEXT) STRICT;"]].concat();
        migrate(&mut connection, &path, &next).expect("the second");
        assert_eq!(
            (version(&connection).expect("readable"), id(&connection)),
            (MIGRATIONS.len() as u32 + 1, before.clone())
        );
        let copy = open(&temporary.path().join(format!("cattle.db.schema-{}", MIGRATIONS.len())));
        assert_eq!((version(&copy).expect("readable") as usize, id(&copy)), (MIGRATIONS.len(), before));
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("cattle.db");
        let mut connection = open(&path);
        migrate(&mut connection, &path, MIGRATIONS).expect("the first");
        let broken = [MIGRATIONS, &["CREATE TABLE extra (a TEXT) STRICT; INSERT INTO nowhere VALUES (1);"]].concat();
        migrate(&mut connection, &path, &broken).expect_err("it is broken");
        assert_eq!(version(&connection).expect("readable") as usize, MIGRATIONS.len());
        let extra: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'extra'", [], |row| row.get(0))
            .expect("readable");
        assert_eq!(extra, 0);
        migrate(&mut connection, &path, MIGRATIONS).expect("still fine");
    }

    #[test]
    fn a_newer_schema_is_refused_by_its_version() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("cattle.db");
        let mut connection = open(&path);
        migrate(&mut connection, &path, MIGRATIONS).expect("the first");
        connection.pragma_update(None, "user_version", 99).expect("set");
        let refused = migrate(&mut connection, &path, MIGRATIONS).expect_err("newer");
        assert!(matches!(refused, OpenError::NewerSchema { found: 99, .. }), "{refused}");
    }

    #[test]
    fn other_files_are_not_touched() {
        let temporary = tempfile::tempdir().expect("a directory");
        let other = temporary.path().join("other.db");
        open(&other).execute_batch("CREATE TABLE theirs (a)").expect("made");
        let refused = migrate(&mut open(&other), &other, MIGRATIONS).expect_err("foreign");
        assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
        let text = temporary.path().join("text");
        std::fs::write(&text, "no database at all, but long enough to look at ".repeat(50)).expect("written");
        let refused = migrate(&mut open(&text), &text, MIGRATIONS).expect_err("foreign");
        assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
    }
}
