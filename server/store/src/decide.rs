//! What a change makes of an object: pure, without clock, randomness or disk.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DynamicObject;
use serde_json::Value;

use crate::error::{Invalid, StoreError};
use crate::key::{Key, Revision};

/// What is to be done with the stored object.
#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    /// Nothing: it is the same already.
    Keep,
    /// Store this in its place.
    Replace(DynamicObject),
    /// Remove it; this is its last state.
    Remove(DynamicObject),
}

/// A new object: the store's part of the metadata is set, whatever was there.
pub(crate) fn create(mut object: DynamicObject, uid: String, now: &Time) -> DynamicObject {
    let meta = &mut object.metadata;
    meta.uid = Some(uid);
    meta.creation_timestamp = Some(now.clone());
    meta.generation = Some(1);
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.self_link = None;
    object
}

/// An update of `current` to `new`, based on the revision that `new` carries.
pub(crate) fn update(key: &Key, current: &DynamicObject, mut new: DynamicObject) -> Result<Change, StoreError> {
    let based_on = new.metadata.resource_version.as_deref().and_then(Revision::parse).ok_or(Invalid::Revision)?;
    check(key, current, new.metadata.uid.as_deref(), Some(based_on))?;

    let (before, meta) = (&current.metadata, &mut new.metadata);
    meta.uid.clone_from(&before.uid);
    meta.creation_timestamp.clone_from(&before.creation_timestamp);
    meta.deletion_timestamp.clone_from(&before.deletion_timestamp);
    meta.deletion_grace_period_seconds = before.deletion_grace_period_seconds;
    meta.generate_name.clone_from(&before.generate_name);
    meta.resource_version.clone_from(&before.resource_version);
    meta.self_link = None;
    let desired_changed = !same_but_status(&current.data, &new.data);
    meta.generation = Some(before.generation.unwrap_or_default() + i64::from(desired_changed));

    if meta.deletion_timestamp.is_some() {
        let (had, has) = (before.finalizers.as_deref(), meta.finalizers.as_deref());
        let had = had.unwrap_or_default();
        if has.unwrap_or_default().iter().any(|finalizer| !had.contains(finalizer)) {
            return Err(Invalid::FinalizerAdded.into());
        }
        if has.unwrap_or_default().is_empty() {
            return Ok(Change::Remove(new));
        }
    }
    Ok(if new == *current { Change::Keep } else { Change::Replace(new) })
}

/// A delete: removes the object, or marks it when it has finalizers.
pub(crate) fn delete(
    key: &Key,
    current: &DynamicObject,
    uid: Option<&str>,
    revision: Option<Revision>,
    now: &Time,
) -> Result<Change, StoreError> {
    check(key, current, uid, revision)?;
    if current.metadata.finalizers.as_deref().unwrap_or_default().is_empty() {
        return Ok(Change::Remove(current.clone()));
    }
    if current.metadata.deletion_timestamp.is_some() {
        return Ok(Change::Keep);
    }
    let mut marked = current.clone();
    marked.metadata.deletion_timestamp = Some(now.clone());
    marked.metadata.deletion_grace_period_seconds = Some(0);
    Ok(Change::Replace(marked))
}

/// Whether the object is the one that is meant.
pub(crate) fn check(
    key: &Key,
    current: &DynamicObject,
    uid: Option<&str>,
    revision: Option<Revision>,
) -> Result<(), StoreError> {
    let stored = current.metadata.resource_version.as_deref().and_then(Revision::parse);
    let other_object = uid.is_some() && uid != current.metadata.uid.as_deref();
    let other_revision = revision.is_some() && revision != stored;
    if other_object || other_revision { Err(StoreError::Conflict(key.clone())) } else { Ok(()) }
}

/// Whether two objects differ in nothing but `status` (metadata is not in `data`).
fn same_but_status(one: &Value, two: &Value) -> bool {
    let (Some(one), Some(two)) = (one.as_object(), two.as_object()) else { return one == two };
    let subset = |of: &serde_json::Map<String, Value>, other: &serde_json::Map<String, Value>| {
        of.iter().all(|(field, value)| field == "status" || other.get(field) == Some(value))
    };
    subset(one, two) && subset(two, one)
}

#[cfg(test)]
mod tests {
    use cattle_api::resource;
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(second).expect("in range"))
    }

    fn stored(finalizers: &[&str]) -> DynamicObject {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "management.cattle.io/v3",
            "kind": "Cluster",
            "metadata": {"name": "c-abcde", "finalizers": finalizers},
            "spec": {"displayName": "prod"},
            "status": {"driver": "imported"},
        }))
        .expect("an object");
        let mut object = create(object, "uid-1".to_owned(), &at(1));
        object.metadata.resource_version = Some("7".to_owned());
        object
    }

    fn key() -> Key {
        Key::cluster(&resource::CLUSTER, "c-abcde")
    }

    fn replaced(change: Change) -> DynamicObject {
        match change {
            Change::Replace(object) => object,
            Change::Keep | Change::Remove(_) => panic!("{change:?}"),
        }
    }

    #[test]
    fn the_generation_counts_changes_of_the_spec_only() {
        let current = stored(&[]);
        let mut status = current.clone();
        status.data["status"]["driver"] = json!("other");
        let status = replaced(update(&key(), &current, status).expect("fits"));
        assert_eq!(status.metadata.generation, Some(1));
        let mut spec = current.clone();
        spec.data["spec"]["displayName"] = json!("test");
        assert_eq!(replaced(update(&key(), &current, spec).expect("fits")).metadata.generation, Some(2));
        let mut labels = current.clone();
        labels.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert_eq!(replaced(update(&key(), &current, labels).expect("fits")).metadata.generation, Some(1));
    }

    #[test]
    fn what_belongs_to_the_store_stays() {
        let current = stored(&[]);
        let mut forged = current.clone();
        forged.data["spec"]["displayName"] = json!("test");
        forged.metadata.creation_timestamp = Some(at(99));
        forged.metadata.deletion_timestamp = Some(at(99));
        forged.metadata.generation = Some(99);
        forged.metadata.generate_name = Some("x-".to_owned());
        let new = replaced(update(&key(), &current, forged).expect("fits"));
        assert_eq!(new.metadata.creation_timestamp, Some(at(1)));
        assert_eq!((new.metadata.deletion_timestamp, new.metadata.generation), (None, Some(2)));
        assert_eq!(new.metadata.generate_name, None);
    }

    #[test]
    fn nothing_changed_is_nothing_written() {
        let current = stored(&[]);
        assert_eq!(update(&key(), &current, current.clone()).expect("fits"), Change::Keep);
    }

    #[test]
    fn another_revision_or_uid_is_a_conflict_and_none_is_invalid() {
        let current = stored(&[]);
        let with = |revision: Option<&str>, uid: &str| {
            let mut new = current.clone();
            new.metadata.resource_version = revision.map(str::to_owned);
            new.metadata.uid = Some(uid.to_owned());
            update(&key(), &current, new)
        };
        assert!(matches!(with(Some("6"), "uid-1"), Err(StoreError::Conflict(_))));
        assert!(matches!(with(Some("7"), "uid-2"), Err(StoreError::Conflict(_))));
        assert!(matches!(with(None, "uid-1"), Err(StoreError::Invalid(Invalid::Revision))));
        assert!(matches!(with(Some("07"), "uid-1"), Err(StoreError::Invalid(Invalid::Revision))));
    }

    #[test]
    fn finalizers_hold_an_object_until_the_last_is_gone() {
        let current = stored(&["a/a", "b/b"]);
        let marked = replaced(delete(&key(), &current, Some("uid-1"), Some(Revision(7)), &at(5)).expect("fits"));
        assert_eq!(marked.metadata.deletion_timestamp, Some(at(5)));
        assert_eq!(delete(&key(), &marked, None, None, &at(6)).expect("fits"), Change::Keep);

        let with = |finalizers: &[&str]| {
            let mut new = marked.clone();
            new.metadata.finalizers = Some(finalizers.iter().map(|name| (*name).to_owned()).collect());
            update(&key(), &marked, new)
        };
        assert!(matches!(with(&["b/b"]), Ok(Change::Replace(_))));
        assert!(matches!(with(&["a/a", "c/c"]), Err(StoreError::Invalid(Invalid::FinalizerAdded))));
        assert!(matches!(with(&[]), Ok(Change::Remove(_))));
    }

    #[test]
    fn a_delete_of_another_object_is_a_conflict() {
        let current = stored(&[]);
        assert!(matches!(delete(&key(), &current, Some("uid-2"), None, &at(5)), Err(StoreError::Conflict(_))));
        assert!(matches!(delete(&key(), &current, None, Some(Revision(8)), &at(5)), Err(StoreError::Conflict(_))));
        assert!(matches!(delete(&key(), &current, None, None, &at(5)), Ok(Change::Remove(_))));
    }
}
