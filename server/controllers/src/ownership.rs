//! What is ours downstream, and what is not.
//!
//! An object is ours when it carries our label, or when our field manager wrote it: a label that somebody removed by hand
//! does not make it foreign. Everything else with a name that we want is a conflict: reported, never touched.

use std::collections::BTreeMap;

use cattle_manifest::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::{DeleteParams, Preconditions};

/// A selector for everything of ours.
pub(crate) fn selector() -> String {
    format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGER)
}

/// Whether the server made this object.
pub(crate) fn is_ours(meta: &ObjectMeta) -> bool {
    let labelled = label(meta, names::MANAGED_BY_LABEL) == Some(names::MANAGER);
    let written = meta.managed_fields.iter().flatten().any(|entry| entry.manager.as_deref() == Some(names::MANAGER));
    labelled || written
}

pub(crate) fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether everything that `desired` says of labels, annotations and owners holds in `observed`.
pub(crate) fn meta_holds(desired: &ObjectMeta, observed: &ObjectMeta) -> bool {
    let within = |want: &Option<BTreeMap<String, String>>, have: &Option<BTreeMap<String, String>>| {
        want.iter().flatten().all(|(key, value)| have.as_ref().is_some_and(|have| have.get(key) == Some(value)))
    };
    let owned = |want: &OwnerReference| observed.owner_references.iter().flatten().any(|have| have.uid == want.uid);
    within(&desired.labels, &observed.labels)
        && within(&desired.annotations, &observed.annotations)
        && desired.owner_references.iter().flatten().all(owned)
}

/// Makes `object` the owner of another one, so that Kubernetes removes that one with it.
pub(crate) fn owner<K: Resource<DynamicType = ()>>(object: &K) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.meta().name.clone()?,
        uid: object.meta().uid.clone()?,
        ..OwnerReference::default()
    })
}

/// Deletes exactly the object that was observed, never one that was made since under the same name.
pub(crate) fn exactly(meta: &ObjectMeta) -> DeleteParams {
    DeleteParams::background().preconditions(Preconditions { uid: meta.uid.clone(), resource_version: None })
}

/// `base32(sha256(parts))[..10]` in lower case, as Rancher derives names of bindings.
pub(crate) fn hash10(parts: &[&str]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    parts.iter().for_each(|part| context.update(part.as_bytes()));
    let digest = context.finish();
    let bits = digest.as_ref()[..8].iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    let alphabet = b"abcdefghijklmnopqrstuvwxyz234567";
    (0..10).map(|at| char::from(alphabet[usize::try_from((bits >> (59 - 5 * at)) & 31).unwrap_or(0)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rancher_names() {
        // base32("\xba\x78\x16\xbf\x8f\x01\xcf\xea…"), the SHA-256 of "abc".
        assert_eq!(hash10(&["abc"]), "xj4bnp4pah");
    }

    #[test]
    fn a_removed_label_does_not_make_an_object_foreign() {
        let mut meta = ObjectMeta::default();
        assert!(!is_ours(&meta));
        meta.managed_fields = Some(vec![Default::default()]);
        assert!(!is_ours(&meta));
        meta.managed_fields.as_mut().unwrap()[0].manager = Some(names::MANAGER.into());
        assert!(is_ours(&meta));
        let meta = ObjectMeta { labels: Some(cattle_manifest::labels()), ..ObjectMeta::default() };
        assert!(is_ours(&meta));
    }
}
