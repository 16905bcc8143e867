//! Backup of a running server, and restore as a new epoch.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::apply::unsigned;
use super::data_dir::{DataDir, Paths, sync_directory, write_private};
use super::keyring::Keyring;
use super::open_error::{KeyProblem, OpenError};
use super::{Options, check_structure, connect, read_check, schema};
use crate::Secret;

mod passphrase;

/// How far revisions jump at a restore: more than a server can have written since the backup was made.
const EPOCH_JUMP: i64 = 1 << 32;
/// Pages that are copied at a time: all of them. In parts, the copy would begin again whenever the server writes in between;
/// as a whole it reads one snapshot, which in WAL mode holds nobody up.
const BACKUP_PAGES: i32 = i32::MAX;
/// How long the copy waits when the database is locked.
const BACKUP_PAUSE: Duration = Duration::from_millis(50);

/// What a backup or a restored directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// The schema's version.
    pub schema: u32,
    /// The last revision in it.
    pub revision: u64,
    /// The epoch that it was made in, or, of a restore, the new one.
    pub epoch: u64,
    /// The installation's id.
    pub server_id: String,
}

/// Copies the database of a data directory into the file `target`, while a server may be running on it.
///
/// The copy shows one moment and is checked before it gets its name. Sealed values stay sealed in it: see
/// [`export_keys`]. Blocks.
///
/// # Errors
/// [`OpenError::Io`] when `target` exists, else as [`SqliteStore::open`](super::SqliteStore::open).
pub fn backup(data_dir: &Path, target: &Path) -> Result<BackupInfo, OpenError> {
    let at = |source| OpenError::Io { path: target.to_owned(), source };
    refuse_existing(target).map_err(at)?;
    let paths = Paths::of(data_dir);
    let source = open_existing(&paths.database)?;
    schema::check(&source, &paths.database, schema::MIGRATIONS.len())?;
    let partial = beside(target, ".partial");
    remove_if_there(&partial).map_err(at)?;
    write_private(&partial, b"").map_err(at)?;
    let info = copy(&source, &partial)?;
    fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(at)?;
    fs::rename(&partial, target).map_err(at)?;
    sync_directory(parent(target)).map_err(at)?;
    Ok(info)
}

/// Writes the sealing keys into the file `target`, encrypted with a key that is derived from the passphrase.
///
/// Without this file and the passphrase, the sealed values of a backup are lost: passwords, tokens and credentials.
///
/// # Errors
/// [`KeyProblem::PassphraseTooShort`]; [`OpenError::Io`] when `target` exists.
pub fn export_keys(data_dir: &Path, passphrase: &Secret, target: &Path) -> Result<(), OpenError> {
    let at = |source| OpenError::Io { path: target.to_owned(), source };
    refuse_existing(target).map_err(at)?;
    let paths = Paths::of(data_dir);
    let problem = |problem| OpenError::Keys { path: paths.keys.clone(), problem };
    let keyring = Keyring::load(&paths.keys)?.ok_or_else(|| problem(KeyProblem::Missing))?;
    let text = passphrase::encrypt(&keyring.to_text(), passphrase).map_err(problem)?;
    write_private(target, text.as_bytes()).map_err(at)
}

/// Makes a data directory from a backup and the exported keys, as a new epoch.
///
/// Everything is checked before anything is written; the database gets its name last, so a restore that was interrupted can
/// be run again. Tokens of the backup's time are good again: the caller should offer to delete all `Token` objects. Blocks.
///
/// # Errors
/// [`OpenError::NotEmpty`] when the directory has a database, [`KeyProblem::Passphrase`] and [`KeyProblem::Wrong`] when the
/// keys do not open or do not fit, else as [`SqliteStore::open`](super::SqliteStore::open).
pub fn restore(data_dir: &Path, database: &Path, keys: &Path, passphrase: &Secret) -> Result<BackupInfo, OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let data_dir = DataDir::acquire(data_dir)?;
    let paths = &data_dir.paths;
    if paths.database.exists() {
        return Err(OpenError::NotEmpty { path: paths.root.clone() });
    }
    let source = open_existing(database)?;
    if schema::check(&source, database, schema::MIGRATIONS.len())? == 0 {
        return Err(OpenError::Foreign { path: database.to_owned() });
    }
    check_structure(&source, database)?;
    let keyring = import_keys(keys, passphrase)?;
    check_fit(&source, &keyring, keys)?;

    // A write-ahead log that an interrupted restore left belongs to no database.
    for suffix in ["-wal", "-shm"] {
        remove_if_there(&beside(&paths.database, suffix)).map_err(at(&paths.root))?;
    }
    let partial = paths.partial_restore();
    for suffix in ["", "-wal", "-shm"] {
        remove_if_there(&beside(&partial, suffix)).map_err(at(&partial))?;
    }
    write_private(&partial, b"").map_err(at(&partial))?;
    copy(&source, &partial)?;
    drop(source);
    let info = begin_epoch(&partial)?;
    fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(at(&partial))?;
    keyring.store(&paths.keys)?;
    fs::rename(&partial, &paths.database).map_err(at(&paths.database))?;
    sync_directory(&paths.root).map_err(at(&paths.root))?;
    Ok(info)
}

/// Migrates a copy and makes it a new epoch, in one file.
fn begin_epoch(path: &Path) -> Result<BackupInfo, OpenError> {
    let mut connection = connect(path, &Options::default())?;
    schema::migrate(&mut connection, path, schema::MIGRATIONS)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'", [])?;
    transaction.execute("UPDATE meta SET value = value + ?1 WHERE name = 'revision'", params![EPOCH_JUMP])?;
    // Nobody may continue a list or a watch of the time before.
    transaction.execute("DELETE FROM log", [])?;
    transaction
        .execute("UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'revision') WHERE name = 'floor'", [])?;
    transaction.commit()?;
    let info = read_info(&connection)?;
    // Without WAL everything is in the one file that gets its name next.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.close().map_err(|(_, error)| OpenError::Database(error))?;
    Ok(info)
}

fn copy(source: &Connection, target: &Path) -> Result<BackupInfo, OpenError> {
    let mut copy = Connection::open_with_flags(target, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    Backup::new(source, &mut copy)?.run_to_completion(BACKUP_PAGES, BACKUP_PAUSE, None)?;
    // The copy says that it is in WAL mode; as one file it is easier to carry.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    check_structure(&copy, target)?;
    let info = read_info(&copy)?;
    copy.close().map_err(|(_, error)| OpenError::Database(error))?;
    Ok(info)
}

fn read_info(connection: &Connection) -> Result<BackupInfo, OpenError> {
    let value = |name: &str| -> Result<u64, rusqlite::Error> {
        connection.query_row("SELECT value FROM meta WHERE name = ?1", params![name], |row| unsigned(row, 0))
    };
    Ok(BackupInfo {
        schema: schema::version(connection)?,
        revision: value("revision")?,
        epoch: value("epoch")?,
        server_id: connection.query_row("SELECT value FROM meta WHERE name = 'server-id'", [], |row| row.get(0))?,
    })
}

fn import_keys(path: &Path, passphrase: &Secret) -> Result<Keyring, OpenError> {
    let text = fs::read_to_string(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    passphrase::decrypt(&text, passphrase)
        .and_then(|keys| Keyring::parse(keys.expose()))
        .map_err(|problem| OpenError::Keys { path: path.to_owned(), problem })
}

/// Whether these are the keys of this database.
fn check_fit(connection: &Connection, keyring: &Keyring, path: &Path) -> Result<(), OpenError> {
    let opens = read_check(connection)?.is_none_or(|check| keyring.open(&super::CHECK, check).is_some());
    if opens { Ok(()) } else { Err(OpenError::Keys { path: path.to_owned(), problem: KeyProblem::Wrong }) }
}

/// Opens a database that must be there.
fn open_existing(path: &Path) -> Result<Connection, OpenError> {
    fs::metadata(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(super::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn refuse_existing(path: &Path) -> io::Result<()> {
    if path.exists() { Err(io::Error::from(io::ErrorKind::AlreadyExists)) } else { Ok(()) }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
