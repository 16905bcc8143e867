//! Changes that are applied together.

use cattle_api::Secret;
use kube::core::DynamicObject;

use crate::key::{Key, Revision};

/// One change, or one condition for the others.
///
/// Objects must have `apiVersion` and `kind` of a resource of `cattle-api` and the namespace that it demands. There is no
/// `Debug`: sealed values are in it.
pub enum Write {
    /// Makes an object. `resourceVersion` must be absent. With `generateName` and no name, the store finds a free name.
    Create {
        /// The object.
        object: DynamicObject,
        /// Sealed values of the new object, by field.
        sealed: Vec<(String, Secret)>,
    },
    /// Replaces an object whose revision is `metadata.resourceVersion`, which must be there.
    Update {
        /// The object.
        object: DynamicObject,
        /// Sealed values to set, by field; others stay.
        sealed: Vec<(String, Secret)>,
    },
    /// Removes an object, or marks it when it has finalizers.
    Delete {
        /// Which.
        key: Key,
        /// Only if it has this UID.
        uid: Option<String>,
        /// Only if it has this revision.
        revision: Option<Revision>,
    },
    /// Sets or removes one sealed value.
    Seal {
        /// Of which object.
        key: Key,
        /// Its name.
        field: String,
        /// The value; `None` removes it.
        value: Option<Secret>,
    },
    /// Changes nothing, but fails the transaction unless the object exists, with this UID and revision where they are given.
    /// With it a binding cannot outlive the cluster that it was checked against.
    Require {
        /// Which.
        key: Key,
        /// Its UID.
        uid: Option<String>,
        /// Its revision.
        revision: Option<Revision>,
    },
}

/// Changes that are applied together, in order, or not at all.
#[derive(Default)]
pub struct Transaction {
    /// The changes.
    pub writes: Vec<Write>,
    /// Do everything but keep nothing: names, UIDs and errors are what they would be.
    pub dry_run: bool,
}

impl Transaction {
    /// The most changes in one transaction.
    pub const MAX_WRITES: usize = 10_000;

    /// A transaction of these changes.
    #[must_use]
    pub fn new(writes: Vec<Write>) -> Self {
        Self { writes, dry_run: false }
    }

    /// The same, as a dry run.
    #[must_use]
    pub fn dry(writes: Vec<Write>) -> Self {
        Self { writes, dry_run: true }
    }
}

impl From<Write> for Transaction {
    fn from(write: Write) -> Self {
        Self::new(vec![write])
    }
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// One object for each `Create`, `Update` and `Delete`, in their order: as it is now, or, removed, as it last was.
    /// A deleted object that waits for finalizers has a `deletionTimestamp` and finalizers.
    pub objects: Vec<DynamicObject>,
    /// The store's revision after the transaction. A dry run does not move it.
    pub revision: Revision,
}

impl Committed {
    /// The object of a transaction of one `Create`, `Update` or `Delete`.
    #[must_use]
    pub fn into_object(mut self) -> Option<DynamicObject> {
        self.objects.pop()
    }
}
