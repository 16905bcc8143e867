//! Connections that read, beside the one that writes.

use std::sync::Arc;

use cattle_api::resource::Resource;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::apply::{find, kind_of, read_row, resource_name, signed, unsigned};
use super::failure::store_error;
use super::keyring::{Keyring, Place, Sealed};
use super::row::Row;
use crate::Secret;
use crate::error::StoreError;
use crate::key::{Key, Revision};
use crate::page::{Continue, Listing, Page};
use crate::watch::WatchEvent;

/// Some connections that read, each for one caller at a time.
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    free: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        let free = Arc::new(Semaphore::new(connections.len()));
        Self { idle: Arc::new(Mutex::new(connections)), free }
    }

    /// Runs `work` with a connection, off the async threads. When the future is dropped, `work` still ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let idle = Arc::clone(&self.idle);
        let task = tokio::task::spawn_blocking(move || {
            let connection = idle.lock().pop().ok_or(StoreError::Closed)?;
            let lease = Lease { connection: Some(connection), idle, _permit: permit };
            lease.connection.as_ref().map_or(Err(StoreError::Closed), work)
        });
        task.await.map_err(|error| StoreError::Io(Box::new(error)))?
    }
}

/// A connection that goes back to the others, also when the work with it panics.
struct Lease {
    /// `None` only while it is dropped.
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
    /// After the others: who gets the permit finds the connection.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.idle.lock().extend(self.connection.take());
    }
}

/// An object.
pub(super) fn get(connection: &Connection, key: &Key) -> Result<Option<kube::core::DynamicObject>, StoreError> {
    find(connection, key).map_err(store_error)?.map(|row| row.decode(key.resource)).transpose()
}

/// A sealed value.
pub(super) fn unseal(
    connection: &Connection,
    keyring: &Keyring,
    key: &Key,
    field: &str,
) -> Result<Option<Secret>, StoreError> {
    let found = (|| {
        let mut select = connection.prepare_cached(
            "SELECT obj.uid, key_version, nonce, ciphertext FROM sealed JOIN obj ON obj.uid = sealed.uid
             WHERE resource = ?1 AND namespace = ?2 AND name = ?3 AND field = ?4",
        )?;
        let namespace = key.namespace.as_deref().unwrap_or_default();
        let row = |row: &rusqlite::Row<'_>| {
            let sealed = Sealed { key_version: row.get(1)?, nonce: row.get(2)?, ciphertext: row.get(3)? };
            Ok((row.get::<_, String>(0)?, sealed))
        };
        select.query_row(params![resource_name(key.resource), namespace, key.name, field], row).optional()
    })();
    let Some((uid, sealed)) = found.map_err(store_error)? else { return Ok(None) };
    let place = Place { table: "sealed", uid: &uid, field };
    match keyring.open(&place, sealed) {
        Some(secret) => Ok(Some(secret)),
        None => Err(StoreError::Corrupt { what: format!("the sealed value {field} of {key}") }),
    }
}

/// A page of a list.
pub(super) fn list(
    connection: &Connection,
    resource: &'static Resource,
    namespace: Option<&str>,
    page: &Page,
) -> Result<Listing, StoreError> {
    // One snapshot for the counter, the objects and the log.
    let snapshot = connection.unchecked_transaction().map_err(store_error)?;
    let (current, floor) = counters(&snapshot).map_err(store_error)?;
    let at = match &page.from {
        None => current,
        Some(from) if from.revision < floor || from.revision > current => return Err(StoreError::Expired),
        Some(from) => from.revision,
    };
    let query = ListQuery { resource, namespace, at, current, from: page.from.as_ref() };
    // Kubernetes' clients say 0 when they mean no limit.
    let limit = page.limit.filter(|limit| *limit > 0);
    let mut rows = query.rows(&snapshot, limit).map_err(store_error)?;
    let more = limit.is_some_and(|limit| rows.len() > limit as usize);
    let remaining = match limit {
        Some(limit) if more => {
            rows.truncate(limit as usize);
            Some(query.count(&snapshot).map_err(store_error)?.saturating_sub(u64::from(limit)))
        }
        _ => None,
    };
    let items = rows.iter().map(|row| row.decode(resource)).collect::<Result<Vec<_>, _>>()?;
    let revision = Revision(at);
    let next = items.last().filter(|_| more).map(|last| Continue::after(resource, revision, last));
    Ok(Listing { items, revision, next, remaining })
}

struct ListQuery<'a> {
    resource: &'static Resource,
    namespace: Option<&'a str>,
    at: u64,
    current: u64,
    from: Option<&'a Continue>,
}

/// What is now.
const CURRENT: &str = "SELECT namespace, name, rev, json, digest FROM obj
    WHERE resource = ?1 AND (?2 IS NULL OR namespace = ?2) AND (namespace, name) > (?3, ?4) AND rev <= ?5";

/// What was at ?5 and is changed or gone since: of each such object, what the first change after ?5 found.
const CHANGED: &str = "SELECT namespace, name, prev_rev, prev_json, prev_digest FROM log AS first
    WHERE resource = ?1 AND (?2 IS NULL OR namespace = ?2) AND (namespace, name) > (?3, ?4) AND rev > ?5
      AND prev_rev IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM log WHERE resource = first.resource AND namespace = first.namespace
                      AND name = first.name AND rev > ?5 AND rev < first.rev)";

impl ListQuery<'_> {
    /// One more than the limit, to know whether there is more.
    fn rows(&self, connection: &Connection, limit: Option<u32>) -> Result<Vec<Row>, rusqlite::Error> {
        let sql = format!("{} ORDER BY 1, 2 LIMIT ?6", self.source());
        let limit = limit.map_or(-1, |limit| i64::from(limit) + 1);
        let (resource, namespace, name) = self.place();
        let mut select = connection.prepare_cached(&sql)?;
        let rows =
            select.query_map(params![resource, self.namespace, namespace, name, signed(self.at), limit], read_row)?;
        rows.collect()
    }

    fn count(&self, connection: &Connection) -> Result<u64, rusqlite::Error> {
        let sql = format!("SELECT count(*) FROM ({})", self.source());
        let (resource, namespace, name) = self.place();
        connection
            .prepare_cached(&sql)?
            .query_row(params![resource, self.namespace, namespace, name, signed(self.at)], |row| unsigned(row, 0))
    }

    fn source(&self) -> String {
        if self.at == self.current { CURRENT.to_owned() } else { format!("{CURRENT} UNION ALL {CHANGED}") }
    }

    fn place(&self) -> (String, &str, &str) {
        let (namespace, name) = self.from.map_or(("", ""), |from| (&from.namespace, &from.name));
        (resource_name(self.resource), namespace, name)
    }
}

/// A part of the history of one resource.
pub(super) struct History {
    pub(super) events: Vec<WatchEvent>,
    /// Everything up to here was looked at.
    pub(super) seen: u64,
    /// Whether there is nothing more.
    pub(super) complete: bool,
}

/// Changes after a revision, some at a time. `Expired` when they are no longer kept.
pub(super) fn history(
    connection: &Connection,
    resource: &'static Resource,
    namespace: Option<&str>,
    after: u64,
    limit: usize,
) -> Result<History, StoreError> {
    let snapshot = connection.unchecked_transaction().map_err(store_error)?;
    let (current, floor) = counters(&snapshot).map_err(store_error)?;
    if after < floor || after > current {
        return Err(StoreError::Expired);
    }
    let rows = (|| {
        let mut select = snapshot.prepare_cached(
            "SELECT namespace, name, rev, json, digest, kind, prev_rev, prev_json, prev_digest FROM log
             WHERE rev > ?1 AND resource = ?2 AND (?3 IS NULL OR namespace = ?3) ORDER BY rev LIMIT ?4",
        )?;
        let rows =
            select.query_map(params![signed(after), resource_name(resource), namespace, limit as i64], |row| {
                let now = read_row(row)?;
                let previous = match row.get::<_, Option<i64>>(6)? {
                    Some(revision) => Some(Row {
                        namespace: now.namespace.clone(),
                        name: now.name.clone(),
                        revision,
                        json: row.get(7)?,
                        digest: row.get(8)?,
                    }),
                    None => None,
                };
                Ok((now, row.get::<_, i64>(5)?, previous))
            })?;
        rows.collect::<Result<Vec<_>, _>>()
    })();
    let rows = rows.map_err(store_error)?;
    let complete = rows.len() < limit;
    let events = rows.into_iter().map(|(now, kind, previous)| event(resource, &now, kind, previous.as_ref()));
    let events = events.collect::<Result<Vec<_>, _>>()?;
    let seen = if complete { current } else { events.last().map_or(after, |event| event.revision.0) };
    Ok(History { events, seen, complete })
}

fn event(resource: &'static Resource, now: &Row, kind: i64, previous: Option<&Row>) -> Result<WatchEvent, StoreError> {
    let kind = kind_of(kind).ok_or_else(|| StoreError::Corrupt { what: format!("the history at {}", now.revision) })?;
    Ok(WatchEvent {
        kind,
        object: Arc::new(now.decode(resource)?),
        previous: previous.map(|row| row.decode(resource)).transpose()?.map(Arc::new),
        revision: Revision(now.revision.unsigned_abs()),
    })
}

/// The current revision, and the one up to which history is gone.
pub(super) fn counters(connection: &Connection) -> Result<(u64, u64), rusqlite::Error> {
    let mut select = connection.prepare_cached(
        "SELECT (SELECT value FROM meta WHERE name = 'revision'), (SELECT value FROM meta WHERE name = 'floor')",
    )?;
    select.query_row([], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))
}
