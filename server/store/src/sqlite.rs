//! The store in one SQLite file, for one server.
//!
//! | file in the data directory (0700) | what it is |
//! |---|---|
//! | `cattle.db`, `cattle.db-wal`, `cattle.db-shm` | the database, in WAL mode |
//! | `seal.key` (0600) | the keys of sealed values; without it they are lost |
//! | `cattle.lock` | held locked by the server that runs; a second one refuses to start |
//! | `cattle.db.schema-N` | the database as it was before it was migrated from version N |
//!
//! # What is promised
//!
//! - A commit that was answered is on the disk (`synchronous=FULL`): it survives `kill -9` and a power cut, as far as the
//!   disk does what fsync demands. Never put the directory on NFS.
//! - A disk that is full refuses changes with [`StoreError::Full`] and recovers by itself; reads go on.
//! - A write that failed otherwise makes the store refuse changes until the process is started again: after a failed fsync
//!   nobody knows what the kernel has thrown away.
//! - Damage is found: every row has a digest, sealed values are authenticated, and the structure is checked at start.
//!
//! # Threads
//!
//! One thread writes (group commit), a few connections read on tokio's blocking threads. [`SqliteStore`] owns the thread and
//! joins it when it is dropped; watches end then.
//!
//! # Backup
//!
//! [`backup`] copies the database while the server runs; [`export_keys`] puts the sealing keys into a file under a passphrase.
//! [`restore`] makes a data directory from both, as a new epoch: revisions jump, so nothing that clients remember of the lost
//! time can be mistaken for something new.

mod apply;
mod archive;
mod data_dir;
mod failure;
mod follow;
mod keyring;
mod open_error;
mod reader;
mod rotate;
mod row;
mod schema;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cattle_api::resource::Resource;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use kube::core::DynamicObject;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use tokio::sync::broadcast;
use uuid::Uuid;

use apply::{Logged, unsigned};
use data_dir::{DataDir, Paths};
use keyring::{Keyring, Place, Sealed};
use reader::Readers;
use writer::Writer;

use crate::Secret;
use crate::Store;
use crate::error::StoreError;
use crate::key::{Key, Revision};
use crate::page::{Listing, Page};
use crate::transaction::{Committed, Transaction};
use crate::watch::WatchStream;

pub use archive::{BackupInfo, backup, export_keys, restore};
pub use open_error::{KeyProblem, OpenError};
pub use rotate::rotate_keys;

/// How long a connection waits for a lock that another holds, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest write-ahead log that is kept as a file after a checkpoint, in bytes.
const JOURNAL_SIZE_LIMIT: i64 = 64 << 20;

/// How the store works. The defaults are the ones for production.
#[derive(Clone, Debug)]
pub struct Options {
    synchronous: &'static str,
    log_entries: u64,
    log_bytes: u64,
    readers: usize,
    live: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { synchronous: "FULL", log_entries: 10_000, log_bytes: 128 << 20, readers: 4, live: 512 }
    }
}

/// What only tests may choose.
#[cfg(any(test, feature = "testing"))]
impl Options {
    /// Answers commits before they are durable, to show that a test would find that.
    #[must_use]
    pub fn without_sync(mut self) -> Self {
        self.synchronous = "OFF";
        self
    }

    /// Keeps so many changes as history.
    #[must_use]
    pub fn with_history(mut self, entries: u64) -> Self {
        self.log_entries = entries;
        self
    }

    /// Queues so many live changes for watches.
    #[must_use]
    pub fn with_live(mut self, events: usize) -> Self {
        self.live = events;
        self
    }
}

/// The store in one SQLite file.
pub struct SqliteStore {
    writer: Writer,
    shared: Arc<Shared>,
    keyring: Arc<Keyring>,
    /// Only to subscribe: the writer's thread holds the other end.
    live: broadcast::WeakSender<Arc<Logged>>,
    server_id: Uuid,
    epoch: u64,
    _data_dir: DataDir,
}

struct Shared {
    readers: Readers,
    revision: AtomicU64,
    /// Entries and bytes of the history when the store was opened.
    log_size: (u64, u64),
}

impl SqliteStore {
    /// Opens the data directory, makes it when it is not there, and migrates it when it is older.
    ///
    /// Blocks: call it before the server serves.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way and, where there is one, the next step.
    pub fn open(data_dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(data_dir, &Options::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(data_dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let data_dir = DataDir::acquire(data_dir)?;
        let paths = data_dir.paths.clone();
        let (connection, keyring) = prepare(&paths, options)?;
        let facts = Facts::read(&connection)?;
        let readers = (0..options.readers).map(|_| {
            let reader = connect(&paths.database, options)?;
            reader.pragma_update(None, "query_only", true)?;
            Ok::<_, OpenError>(reader)
        });
        let shared = Arc::new(Shared {
            readers: Readers::new(readers.collect::<Result<_, _>>()?),
            revision: AtomicU64::new(facts.revision),
            log_size: facts.log_size,
        });
        let keyring = Arc::new(keyring);
        let (live, _) = broadcast::channel(options.live);
        let weak = live.downgrade();
        let writer = Writer::start(connection, Arc::clone(&keyring), Arc::clone(&shared), live, options)
            .map_err(OpenError::Thread)?;
        tracing::info!(
            data_dir = %paths.root.display(),
            revision = facts.revision,
            epoch = facts.epoch,
            server_id = %facts.server_id,
            "store opened"
        );
        let (server_id, epoch) = (facts.server_id, facts.epoch);
        Ok(Self { writer, shared, keyring, live: weak, server_id, epoch, _data_dir: data_dir })
    }

    /// The id of this installation. Made once; a restore keeps it.
    #[must_use]
    pub fn server_id(&self) -> Uuid {
        self.server_id
    }

    /// How often the data was restored, plus one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Resolves when nothing can be written any more because the thread that writes has ended: while the store is in use, that is a
    /// panic. Cancel safe.
    pub fn writer_ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.writer.ended()
    }
}

impl Store for SqliteStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<DynamicObject>, StoreError>> {
        let key = key.clone();
        self.shared.readers.run(move |connection| reader::get(connection, &key)).boxed()
    }

    fn list<'a>(
        &'a self,
        resource: &'static Resource,
        namespace: Option<&'a str>,
        page: Page,
    ) -> BoxFuture<'a, Result<Listing, StoreError>> {
        let namespace = namespace.map(str::to_owned);
        let read = move |connection: &Connection| reader::list(connection, resource, namespace.as_deref(), &page);
        self.shared.readers.run(read).boxed()
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, StoreError>> {
        self.writer.commit(transaction).boxed()
    }

    fn watch<'a>(
        &'a self,
        resource: &'static Resource,
        namespace: Option<&'a str>,
        after: Revision,
    ) -> BoxFuture<'a, Result<WatchStream, StoreError>> {
        async move {
            // Subscribed before the history is read: nothing is between the two.
            let live = self.live.upgrade().ok_or(StoreError::Closed)?.subscribe();
            follow::follow(Arc::clone(&self.shared), live, resource, namespace, after).await
        }
        .boxed()
    }

    fn unseal<'a>(&'a self, key: &'a Key, field: &'a str) -> BoxFuture<'a, Result<Option<Secret>, StoreError>> {
        let (key, field, keyring) = (key.clone(), field.to_owned(), Arc::clone(&self.keyring));
        self.shared.readers.run(move |connection| reader::unseal(connection, &keyring, &key, &field)).boxed()
    }

    fn revision(&self) -> Revision {
        Revision(self.shared.revision.load(Ordering::Acquire))
    }
}

/// Single values of the database.
struct Facts {
    server_id: Uuid,
    epoch: u64,
    revision: u64,
    log_size: (u64, u64),
}

impl Facts {
    fn read(connection: &Connection) -> Result<Self, OpenError> {
        let (revision, _) = reader::counters(connection)?;
        let text = |name: &str| -> Result<String, rusqlite::Error> {
            connection.query_row("SELECT value FROM meta WHERE name = ?1", params![name], |row| row.get(0))
        };
        let server_id = text("server-id")?;
        let server_id = Uuid::parse_str(&server_id).map_err(|error| OpenError::Damaged {
            path: connection.path().unwrap_or_default().into(),
            detail: format!("the server's id cannot be read: {error}"),
        })?;
        let epoch = connection.query_row("SELECT value FROM meta WHERE name = 'epoch'", [], |row| unsigned(row, 0))?;
        let log_size = connection.query_row(
            "SELECT count(*), ifnull(sum(length(json) + ifnull(length(prev_json), 0)), 0) FROM log",
            [],
            |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)),
        )?;
        Ok(Self { server_id, epoch, revision, log_size })
    }
}

/// Opens, checks and migrates the database, and finds its keys.
fn prepare(paths: &Paths, options: &Options) -> Result<(Connection, Keyring), OpenError> {
    if !paths.database.exists() && paths.partial_restore().exists() {
        return Err(OpenError::RestoreUnfinished { path: paths.root.clone() });
    }
    let mut connection = connect(&paths.database, options)?;
    schema::check(&connection, &paths.database, schema::MIGRATIONS.len())?;
    check_structure(&connection, &paths.database)?;
    schema::migrate(&mut connection, &paths.database, schema::MIGRATIONS)?;
    let keyring = find_keys(&connection, paths)?;
    Ok((connection, keyring))
}

/// A connection with everything set that durability and integrity need.
fn connect(path: &Path, options: &Options) -> Result<Connection, OpenError> {
    let foreign = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::Foreign { path: path.to_owned() },
        _ => OpenError::Database(error),
    };
    // Made here, because SQLite would make it readable for others; its other files get the same mode.
    let file = std::fs::OpenOptions::new();
    create_private(file, path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(foreign)?;
    connection.pragma_update(None, "synchronous", options.synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_SIZE_LIMIT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn create_private(mut options: std::fs::OpenOptions, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.create(true).truncate(false).write(true).mode(0o600).open(path).map(drop)
}

/// Looks at every page: damage is better found now than in the middle of the night.
fn check_structure(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let result = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match result {
        Ok(text) if text == "ok" => Ok(()),
        Ok(text) => Err(damaged(text)),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
            Err(damaged(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The keys of this database. New ones are made only for a database that never had any.
fn find_keys(connection: &Connection, paths: &Paths) -> Result<Keyring, OpenError> {
    let problem = |problem| OpenError::Keys { path: paths.keys.clone(), problem };
    let keyring = Keyring::load(&paths.keys)?;
    let check = read_check(connection)?;
    match (keyring, check) {
        (Some(keyring), Some(check)) => {
            keyring.open(&CHECK, check).map(|_| ()).ok_or_else(|| problem(KeyProblem::Wrong))?;
            Ok(keyring)
        }
        (None, Some(_)) => Err(problem(KeyProblem::Missing)),
        (keyring, None) => {
            let keyring = match keyring {
                Some(keyring) => keyring,
                None => {
                    let keyring = Keyring::generate().map_err(problem)?;
                    keyring.store(&paths.keys)?;
                    keyring
                }
            };
            write_check(connection, &keyring).map_err(|error| match error {
                CheckError::Crypto(found) => problem(found),
                CheckError::Database(error) => error.into(),
            })?;
            Ok(keyring)
        }
    }
}

/// A sealed value of the database itself: it opens exactly with the right keys.
const CHECK: Place<'static> = Place { table: "meta", uid: "", field: "seal-check" };

enum CheckError {
    Crypto(KeyProblem),
    Database(rusqlite::Error),
}

fn read_check(connection: &Connection) -> Result<Option<Sealed>, rusqlite::Error> {
    let text: Option<Vec<u8>> =
        connection.query_row("SELECT value FROM meta WHERE name = 'seal-check'", [], |row| row.get(0)).optional()?;
    Ok(text.map(|bytes| {
        let (version, rest) = bytes.split_at(bytes.len().min(4));
        let (nonce, ciphertext) = rest.split_at(rest.len().min(12));
        let key_version = version.try_into().map_or(0, u32::from_be_bytes);
        Sealed { key_version, nonce: nonce.to_vec(), ciphertext: ciphertext.to_vec() }
    }))
}

fn write_check(connection: &Connection, keyring: &Keyring) -> Result<(), CheckError> {
    let sealed = keyring.seal(&CHECK, b"cattle").map_err(CheckError::Crypto)?;
    let bytes = [&sealed.key_version.to_be_bytes()[..], &sealed.nonce, &sealed.ciphertext].concat();
    connection
        .execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('seal-check', ?1)", params![bytes])
        .map(drop)
        .map_err(CheckError::Database)
}
