//! Applying a transaction to the tables, inside of a savepoint that the writer owns.

use std::sync::Arc;

use cattle_api::names;
use cattle_api::resource::{self, Resource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DynamicObject;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::failure::store_error;
use super::keyring::{Keyring, Place};
use super::row::Row;
use crate::Secret;
use crate::decide::{self, Change};
use crate::error::{Invalid, StoreError};
use crate::key::{Key, Revision};
use crate::transaction::{Transaction, Write};
use crate::watch::{EventKind, WatchEvent};

/// How many random names are tried.
const NAME_ATTEMPTS: usize = 8;

/// Why a transaction was not applied.
pub(super) enum ApplyError {
    /// It cannot be; the others of the batch can.
    Refused(StoreError),
    /// The database failed.
    Database(rusqlite::Error),
}

impl From<StoreError> for ApplyError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Invalid> for ApplyError {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(invalid.into())
    }
}

impl From<rusqlite::Error> for ApplyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// An event with the resource that it is of.
pub(super) type Logged = (&'static Resource, WatchEvent);

/// A transaction on its way into the tables.
pub(super) struct Apply<'a> {
    pub(super) connection: &'a Connection,
    pub(super) keyring: &'a Keyring,
    pub(super) now: Time,
    /// The last revision that was given out.
    pub(super) revision: u64,
    /// What happened, in order.
    pub(super) events: Vec<Logged>,
    /// The objects for [`Committed`](crate::Committed).
    pub(super) objects: Vec<DynamicObject>,
    /// Bytes of JSON that went into the log.
    pub(super) logged_bytes: u64,
}

impl Apply<'_> {
    /// Applies all changes, or stops at the first that cannot be.
    pub(super) fn run(&mut self, transaction: Transaction) -> Result<(), ApplyError> {
        if transaction.writes.len() > Transaction::MAX_WRITES {
            return Err(Invalid::TooMany(transaction.writes.len()).into());
        }
        for write in transaction.writes {
            match write {
                Write::Create { object, sealed } => self.create(object, &sealed)?,
                Write::Update { object, sealed } => self.update(object, &sealed)?,
                Write::Delete { key, uid, revision } => self.delete(&key, uid.as_deref(), revision)?,
                Write::Seal { key, field, value } => {
                    let uid = uid_of(&self.existing(&key)?);
                    self.seal(&uid, &field, value.as_ref())?;
                }
                Write::Require { key, uid, revision } => {
                    decide::check(&key, &self.existing(&key)?, uid.as_deref(), revision)?;
                }
            }
        }
        Ok(())
    }

    fn create(&mut self, mut object: DynamicObject, sealed: &[(String, Secret)]) -> Result<(), ApplyError> {
        let resource = check_shape(&object)?;
        if object.metadata.resource_version.as_ref().is_some_and(|revision| !revision.is_empty()) {
            return Err(Invalid::Revision.into());
        }
        let key = self.free_name(resource, &mut object)?;
        let uid = uuid::Uuid::new_v4().to_string();
        let object = decide::create(object, uid.clone(), &self.now);
        let (object, row) = self.log(resource, EventKind::Added, object, None)?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO obj (uid, resource, namespace, name, rev, json, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        insert.execute(params![
            uid,
            resource_name(key.resource),
            row.namespace,
            row.name,
            row.revision,
            row.json,
            row.digest
        ])?;
        self.objects.push(object);
        self.seal_all(&uid, sealed)
    }

    fn update(&mut self, object: DynamicObject, sealed: &[(String, Secret)]) -> Result<(), ApplyError> {
        let resource = check_shape(&object)?;
        let name = object.metadata.name.clone().ok_or(Invalid::Name)?;
        let key = Key { resource, namespace: object.metadata.namespace.clone(), name };
        let current = self.existing(&key)?;
        let change = decide::update(&key, &current, object)?;
        let uid = uid_of(&current);
        if !matches!(change, Change::Remove(_)) {
            self.seal_all(&uid, sealed)?;
        }
        self.store(&key, current, change)
    }

    fn delete(&mut self, key: &Key, uid: Option<&str>, revision: Option<Revision>) -> Result<(), ApplyError> {
        let current = self.existing(key)?;
        let change = decide::delete(key, &current, uid, revision, &self.now)?;
        self.store(key, current, change)
    }

    /// Puts a decision about an existing object into the tables.
    fn store(&mut self, key: &Key, current: DynamicObject, change: Change) -> Result<(), ApplyError> {
        let uid = uid_of(&current);
        let object = match change {
            Change::Keep => current,
            Change::Replace(object) => {
                let (object, row) = self.log(key.resource, EventKind::Modified, object, Some(current))?;
                let mut update =
                    self.connection.prepare_cached("UPDATE obj SET rev = ?2, json = ?3, digest = ?4 WHERE uid = ?1")?;
                update.execute(params![uid, row.revision, row.json, row.digest])?;
                object
            }
            Change::Remove(object) => {
                let (object, _) = self.log(key.resource, EventKind::Deleted, object, Some(current))?;
                self.connection.prepare_cached("DELETE FROM obj WHERE uid = ?1")?.execute(params![uid])?;
                object
            }
        };
        self.objects.push(object);
        Ok(())
    }

    /// Gives the next revision to a change and writes it into the log.
    fn log(
        &mut self,
        resource: &'static Resource,
        kind: EventKind,
        mut object: DynamicObject,
        previous: Option<DynamicObject>,
    ) -> Result<(DynamicObject, Row), ApplyError> {
        let revision = self.revision + 1;
        object.metadata.resource_version = Some(revision.to_string());
        let row = Row::encode(resource, &object, signed(revision))?;
        let before = previous.as_ref().map(|previous| {
            let revision = previous.metadata.resource_version.as_deref().and_then(Revision::parse).unwrap_or_default();
            Row::encode(resource, previous, signed(revision.0))
        });
        let before = before.transpose()?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO log (rev, kind, resource, namespace, name, json, digest, prev_rev, prev_json, prev_digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let (prev_rev, prev_json, prev_digest) = match &before {
            Some(row) => (Some(row.revision), Some(&row.json), Some(&row.digest)),
            None => (None, None, None),
        };
        insert.execute(params![
            row.revision,
            kind_code(kind),
            resource_name(resource),
            row.namespace,
            row.name,
            row.json,
            row.digest,
            prev_rev,
            prev_json,
            prev_digest
        ])?;
        self.revision = revision;
        self.logged_bytes += (row.json.len() + before.as_ref().map_or(0, |row| row.json.len())) as u64;
        let event = WatchEvent {
            kind,
            object: Arc::new(object.clone()),
            previous: previous.map(Arc::new),
            revision: Revision(revision),
        };
        self.events.push((resource, event));
        Ok((object, row))
    }

    /// The object's key; with `generateName`, the first of some random names that is free.
    fn free_name(&self, resource: &'static Resource, object: &mut DynamicObject) -> Result<Key, ApplyError> {
        let namespace = object.metadata.namespace.clone();
        let given = object.metadata.name.clone().filter(|name| !name.is_empty());
        let prefix = object.metadata.generate_name.clone().filter(|prefix| !prefix.is_empty());
        let candidates: Box<dyn Iterator<Item = String>> = match (given, prefix) {
            (Some(name), _) => Box::new(std::iter::once(name)),
            (None, Some(prefix)) => Box::new((0..NAME_ATTEMPTS).map(move |_| names::generate(&prefix))),
            (None, None) => return Err(Invalid::Name.into()),
        };
        let mut taken = None;
        for name in candidates {
            if !names::is_subdomain(&name) {
                return Err(Invalid::Name.into());
            }
            let key = Key { resource, namespace: namespace.clone(), name };
            if !exists(self.connection, &key)? {
                object.metadata.name = Some(key.name.clone());
                return Ok(key);
            }
            taken = Some(key);
        }
        Err(taken.map_or(StoreError::Invalid(Invalid::Name), StoreError::AlreadyExists).into())
    }

    fn existing(&self, key: &Key) -> Result<DynamicObject, ApplyError> {
        let row = find(self.connection, key)?.ok_or_else(|| StoreError::NotFound(key.clone()))?;
        Ok(row.decode(key.resource)?)
    }

    fn seal_all(&self, uid: &str, sealed: &[(String, Secret)]) -> Result<(), ApplyError> {
        sealed.iter().try_for_each(|(field, value)| self.seal(uid, field, Some(value)))
    }

    fn seal(&self, uid: &str, field: &str, value: Option<&Secret>) -> Result<(), ApplyError> {
        let Some(value) = value else {
            let mut delete = self.connection.prepare_cached("DELETE FROM sealed WHERE uid = ?1 AND field = ?2")?;
            delete.execute(params![uid, field])?;
            return Ok(());
        };
        if value.len() > super::row::MAX_OBJECT {
            return Err(Invalid::TooLarge { size: value.len(), max: super::row::MAX_OBJECT }.into());
        }
        put_sealed(self.connection, self.keyring, uid, field, value)
    }
}

/// Seals a value and writes it.
pub(super) fn put_sealed(
    connection: &Connection,
    keyring: &Keyring,
    uid: &str,
    field: &str,
    value: &Secret,
) -> Result<(), ApplyError> {
    let place = Place { table: "sealed", uid, field };
    let sealed = keyring.seal(&place, value.expose()).map_err(|problem| StoreError::Io(Box::new(problem)))?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO sealed (uid, field, key_version, nonce, ciphertext) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (uid, field) DO UPDATE SET
           key_version = excluded.key_version, nonce = excluded.nonce, ciphertext = excluded.ciphertext",
    )?;
    insert.execute(params![uid, field, sealed.key_version, sealed.nonce, sealed.ciphertext])?;
    Ok(())
}

/// The row of an object.
pub(super) fn find(connection: &Connection, key: &Key) -> Result<Option<Row>, rusqlite::Error> {
    let mut select = connection.prepare_cached(
        "SELECT namespace, name, rev, json, digest FROM obj WHERE resource = ?1 AND namespace = ?2 AND name = ?3",
    )?;
    let namespace = key.namespace.as_deref().unwrap_or_default();
    select.query_row(params![resource_name(key.resource), namespace, key.name], read_row).optional()
}

/// The five columns `namespace, name, rev, json, digest`.
pub(super) fn read_row(row: &rusqlite::Row<'_>) -> Result<Row, rusqlite::Error> {
    Ok(Row { namespace: row.get(0)?, name: row.get(1)?, revision: row.get(2)?, json: row.get(3)?, digest: row.get(4)? })
}

/// How a resource is called in the tables: without version, which may change while objects stay.
pub(super) fn resource_name(resource: &Resource) -> String {
    resource.to_string()
}

/// SQLite's integers are signed; revisions do not come near the difference.
pub(super) fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// A column with a count, a size or a revision.
pub(super) fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> Result<u64, rusqlite::Error> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

/// How a kind of event is called in the log.
pub(super) const fn kind_code(kind: EventKind) -> i64 {
    match kind {
        EventKind::Added => 0,
        EventKind::Modified => 1,
        EventKind::Deleted => 2,
    }
}

/// The other way round.
pub(super) const fn kind_of(code: i64) -> Option<EventKind> {
    match code {
        0 => Some(EventKind::Added),
        1 => Some(EventKind::Modified),
        2 => Some(EventKind::Deleted),
        _ => None,
    }
}

/// The error to answer with.
pub(super) fn answer(error: ApplyError) -> StoreError {
    match error {
        ApplyError::Refused(error) => error,
        ApplyError::Database(error) => store_error(error),
    }
}

fn exists(connection: &Connection, key: &Key) -> Result<bool, rusqlite::Error> {
    let mut select =
        connection.prepare_cached("SELECT 1 FROM obj WHERE resource = ?1 AND namespace = ?2 AND name = ?3")?;
    select.exists(params![resource_name(key.resource), key.namespace.as_deref().unwrap_or_default(), key.name])
}

fn uid_of(object: &DynamicObject) -> String {
    object.metadata.uid.clone().unwrap_or_default()
}

/// The object's resource, if the object may be stored at all.
fn check_shape(object: &DynamicObject) -> Result<&'static Resource, Invalid> {
    let resource = resource::of(object).ok_or(Invalid::UnknownKind)?;
    let namespace = object.metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let fits = match namespace {
        Some(namespace) => resource.namespaced && names::is_label(namespace),
        None => !resource.namespaced && object.metadata.namespace.is_none(),
    };
    if !fits {
        return Err(Invalid::Namespace);
    }
    let is_set = |pointer: &&&'static str| object.data.pointer(pointer).is_some_and(|value| !value.is_null());
    match resource.transient.iter().find(is_set) {
        Some(pointer) => Err(Invalid::Transient(pointer)),
        None => Ok(resource),
    }
}
