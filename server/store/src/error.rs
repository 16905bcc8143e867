//! Why the store did not do what it was asked.

use crate::key::Key;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such object (404).
    #[error("{0} does not exist")]
    NotFound(Key),
    /// There is an object of this name already (409).
    #[error("{0} exists already")]
    AlreadyExists(Key),
    /// The object is not what the caller thinks: another revision or UID (409).
    #[error("{0} has been changed in between")]
    Conflict(Key),
    /// The history that this needs is not kept any longer (410).
    #[error("the revision is too old, or not of this store")]
    Expired,
    /// The change itself cannot be (400, 422).
    #[error("the change is not possible")]
    Invalid(#[source] Invalid),
    /// The disk is full: nothing can be changed, everything can be read (503). Over when there is space.
    #[error("the disk with the data directory is full")]
    Full,
    /// Reading or writing failed. Of a commit the outcome is unknown.
    #[error("the data directory cannot be read or written")]
    Io(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An earlier write failed in a way after which the disk cannot be trusted: nothing can be changed until the process
    /// has been started again (503).
    #[error("an earlier write to the data directory failed; changes are refused until the server is started again")]
    Poisoned,
    /// What is on the disk is not what was written there.
    #[error("{what} is damaged or was changed on the disk")]
    Corrupt {
        /// What.
        what: String,
    },
    /// The store is closing.
    #[error("the store is closing")]
    Closed,
}

/// Why a change cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// `apiVersion` and `kind` are missing or unknown.
    #[error("the object has no known apiVersion and kind")]
    UnknownKind,
    /// The object has a namespace and must not, or the other way round.
    #[error("the object's namespace does not fit its kind")]
    Namespace,
    /// There is neither a usable name nor a usable `generateName`.
    #[error("the object's name cannot be used")]
    Name,
    /// `resourceVersion` is missing, malformed, or there when it must not be.
    #[error("the object's resourceVersion is missing or cannot be used here")]
    Revision,
    /// A finalizer was added to an object that is being deleted.
    #[error("an object that is being deleted gets no new finalizers")]
    FinalizerAdded,
    /// The object carries a field that is never stored, such as a token.
    #[error("the field {0} must not be stored")]
    Transient(&'static str),
    /// The object is larger than can be stored.
    #[error("the object has {size} bytes of JSON, {max} are possible")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The transaction has too many changes.
    #[error("the transaction has {0} changes, too many")]
    TooMany(usize),
}

impl From<Invalid> for StoreError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}
