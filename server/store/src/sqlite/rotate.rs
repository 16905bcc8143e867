//! Replacing the sealing key.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::apply::{ApplyError, put_sealed};
use super::data_dir::DataDir;
use super::keyring::{Keyring, Place, Sealed};
use super::open_error::{KeyProblem, OpenError};
use super::{CheckError, Options, prepare, write_check};

/// Seals every value with a new key and forgets the old ones. Answers the new key's version.
///
/// For a server that does not run: it takes the data directory. Stopped at any moment, every value can still be read, and
/// the next call finishes the work: the file has the old and the new key before the first value is sealed again, and the old
/// one leaves it after the last.
///
/// # Errors
/// As [`SqliteStore::open`](super::SqliteStore::open); [`OpenError::Damaged`] when a value cannot be opened.
pub fn rotate_keys(data_dir: &Path) -> Result<u32, OpenError> {
    let data_dir = DataDir::acquire(data_dir)?;
    let paths = &data_dir.paths;
    let problem = |problem| OpenError::Keys { path: paths.keys.clone(), problem };
    let (mut connection, mut keyring) = prepare(paths, &Options::default())?;
    let version = keyring.add().map_err(problem)?;
    keyring.store(&paths.keys)?;

    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    reseal(&transaction, &keyring, &paths.database)?;
    write_check(&transaction, &keyring).map_err(|error| match error {
        CheckError::Crypto(found) => problem(found),
        CheckError::Database(error) => error.into(),
    })?;
    transaction.commit()?;

    keyring.retire();
    keyring.store(&paths.keys)?;
    Ok(version)
}

fn reseal(connection: &Connection, keyring: &Keyring, path: &Path) -> Result<(), OpenError> {
    let mut select = connection.prepare("SELECT uid, field, key_version, nonce, ciphertext FROM sealed")?;
    let rows = select.query_map([], |row| {
        let sealed = Sealed { key_version: row.get(2)?, nonce: row.get(3)?, ciphertext: row.get(4)? };
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, sealed))
    })?;
    // All of them first: the statement must not see the rows that it changes.
    for (uid, field, sealed) in rows.collect::<Result<Vec<_>, _>>()? {
        let place = Place { table: "sealed", uid: &uid, field: &field };
        let value = keyring.open(&place, sealed).ok_or_else(|| OpenError::Damaged {
            path: path.to_owned(),
            detail: format!("the sealed value {field} of object {uid} does not open"),
        })?;
        put_sealed(connection, keyring, &uid, &field, &value).map_err(|error| match error {
            ApplyError::Database(error) => OpenError::Database(error),
            ApplyError::Refused(_) => OpenError::Keys { path: path.to_owned(), problem: KeyProblem::Crypto },
        })?;
    }
    Ok(())
}
