//! What an SQLite error means.

use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::error::StoreError;

/// SQLITE_IOERR_SHMSIZE: the shared-memory file cannot grow. On a full disk nothing else says so.
const IOERR_SHMSIZE: i32 = 4874;

/// What to tell the caller.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    known(&error).unwrap_or_else(|| StoreError::Io(Box::new(error)))
}

/// The same, when there are several callers.
pub(super) fn store_error_shared(error: &Arc<rusqlite::Error>) -> StoreError {
    known(error).unwrap_or_else(|| StoreError::Io(Box::new(Arc::clone(error))))
}

fn known(error: &rusqlite::Error) -> Option<StoreError> {
    let code = error.sqlite_error_code()?;
    if code == ErrorCode::DiskFull || is_full(error) {
        return Some(StoreError::Full);
    }
    let damaged = matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase);
    damaged.then(|| StoreError::Corrupt { what: "the database".to_owned() })
}

/// Whether the disk cannot be trusted after this error.
///
/// After a failed fsync the kernel may have dropped the pages and call the next fsync a success; what was acknowledged is
/// safe in the file up to here, what comes after would be a guess.
pub(super) fn poisons(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) && !is_full(error)
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|inner| inner.extended_code == IOERR_SHMSIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(extended: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(extended), None)
    }

    #[test]
    fn full_is_not_broken_and_a_failed_fsync_is() {
        const FULL: i32 = 13;
        const IOERR_FSYNC: i32 = 1034;
        const CORRUPT: i32 = 11;
        assert!(matches!(store_error(code(FULL)), StoreError::Full) && !poisons(&code(FULL)));
        assert!(matches!(store_error(code(IOERR_SHMSIZE)), StoreError::Full) && !poisons(&code(IOERR_SHMSIZE)));
        assert!(matches!(store_error(code(IOERR_FSYNC)), StoreError::Io(_)) && poisons(&code(IOERR_FSYNC)));
        assert!(matches!(store_error(code(CORRUPT)), StoreError::Corrupt { .. }));
    }
}
