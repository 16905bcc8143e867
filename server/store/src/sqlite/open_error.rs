//! Why a data directory cannot be used.

use std::io;
use std::path::PathBuf;

/// Why a data directory cannot be opened, migrated, backed up or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("another server is running on {}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The database is of a newer server.
    #[error(
        "the database has schema version {found}, this server knows versions up to {known}: start the newer server"
    )]
    NewerSchema {
        /// The version in the file.
        found: u32,
        /// The newest version that this server knows.
        known: u32,
    },
    /// The file is an SQLite database of something else, or none at all.
    #[error("{} is not a database of this server", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// SQLite found the file damaged.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// SQLite failed.
    #[error("the database cannot be used")]
    Database(#[source] rusqlite::Error),
    /// The file with the sealing keys is missing or cannot be used.
    #[error("the sealing keys in {} cannot be used: {problem}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: KeyProblem,
    },
    /// The directory has a database already.
    #[error("{} has a database already: restore into an empty directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A restore was interrupted: a start would make an empty database in its place.
    #[error("a restore into {} has not ended: run it again", path.display())]
    RestoreUnfinished {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system gave no thread.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
}

/// What is wrong with sealing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyProblem {
    /// The file is gone, but the database has values that were sealed with it.
    #[error("the file is missing, but the database needs it: put it back from the backup")]
    Missing,
    /// Others may read the file.
    #[error("others may read the file: make it the server's own with `chmod 600`")]
    Readable,
    /// The file is not in this format.
    #[error("the file is malformed")]
    Malformed,
    /// The keys are not those that the database was sealed with.
    #[error("these are not the keys that the database was sealed with")]
    Wrong,
    /// The passphrase is wrong, or the exported file was changed.
    #[error("the passphrase is wrong or the file was changed")]
    Passphrase,
    /// The passphrase is shorter than 12 bytes.
    #[error("the passphrase is too short: 12 characters at least")]
    PassphraseTooShort,
    /// The cryptographic library refused.
    #[error("encryption failed")]
    Crypto,
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}
