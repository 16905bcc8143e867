//! The static description of each kind, and the list of all.
//!
//! Generic code takes a `&'static Resource`; typed code gets it from [`Kind::resource`]. Names, columns and schema are
//! written once, in the `#[kube(…)]` attributes of the kind; a test compares the constants here with them.

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::DynamicObject;
use kube::{CustomResourceExt, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::field::{FieldErrors, FieldProblem};
use crate::names;

mod column;
mod table;

pub use column::{Column, ColumnType};
pub use table::{
    ALL, CLUSTER, CLUSTER_REGISTRATION_TOKEN, CLUSTER_ROLE_TEMPLATE_BINDING, GLOBAL_ROLE, GLOBAL_ROLE_BINDING,
    KUBECONFIG, NODE, ROLE_TEMPLATE, SETTING, TOKEN, USER,
};

/// One kind that the server serves and stores.
///
/// Two of them are equal when they are of the same group and plural.
#[derive(Clone, Copy)]
pub struct Resource {
    /// API group, such as `management.cattle.io`.
    pub group: &'static str,
    /// The version that is served and stored.
    pub version: &'static str,
    /// `kind` of objects.
    pub kind: &'static str,
    /// Name in URLs.
    pub plural: &'static str,
    /// The plural's counterpart, for kubectl.
    pub singular: &'static str,
    /// Abbreviations for kubectl.
    pub short_names: &'static [&'static str],
    /// Groups of kinds for kubectl (`kubectl get cattle`).
    pub categories: &'static [&'static str],
    /// Whether objects stand in a namespace. The namespaces are the clusters' names.
    pub namespaced: bool,
    /// Whether there is a `status` of its own.
    pub has_status: bool,
    /// What can be done with it.
    pub verbs: &'static [Verb],
    /// JSON pointers (RFC 6901) of fields that carry a secret in a request or an answer and are never stored.
    pub transient: &'static [&'static str],
    definition: fn() -> CustomResourceDefinition,
    check: fn(&DynamicObject, Option<&DynamicObject>) -> FieldErrors,
    canonical: fn(&DynamicObject) -> Result<DynamicObject, FieldErrors>,
}

/// What can be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Create one.
    Create,
    /// Delete one.
    Delete,
    /// Delete all that a selector names.
    DeleteCollection,
    /// Read one.
    Get,
    /// Read all.
    List,
    /// Change a part of one.
    Patch,
    /// Replace one.
    Update,
    /// Follow changes.
    Watch,
}

impl Verb {
    /// All verbs, which is what most resources have.
    pub const ALL: &'static [Self] = &[
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];

    /// The word of Kubernetes' discovery and RBAC.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// A Rust type of one kind.
pub trait Kind:
    kube::Resource<DynamicType = ()>
    + CustomResourceExt
    + Serialize
    + DeserializeOwned
    + Clone
    + fmt::Debug
    + PartialEq
    + Send
    + Sync
    + 'static
{
    /// Its static description.
    fn resource() -> &'static Resource;

    /// Adds what is wrong with this object to `errors`. For an update, `old` is what it replaces.
    ///
    /// Pure: it sees these objects only. Names of the metadata are checked by [`Resource::validate`] for all kinds.
    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors);
}

/// The resource of a group and plural, such as `management.cattle.io` and `clusters`.
#[must_use]
pub fn find(group: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|resource| resource.group == group && resource.plural == plural)
}

/// The resource of an object, by its `apiVersion` and `kind`.
#[must_use]
pub fn of(object: &DynamicObject) -> Option<&'static Resource> {
    let types = object.types.as_ref()?;
    let (group, version) = types.api_version.split_once('/')?;
    ALL.iter()
        .copied()
        .find(|resource| resource.kind == types.kind && resource.group == group && resource.version == version)
}

impl Resource {
    /// `group/version`.
    #[must_use]
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// `kind` of lists.
    #[must_use]
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Kube's own description, for clients and for `DynamicObject::new`.
    #[must_use]
    pub fn api_resource(&self) -> kube::core::ApiResource {
        let gvk = kube::core::GroupVersionKind::gvk(self.group, self.version, self.kind);
        kube::core::ApiResource::from_gvk_with_plural(&gvk, self.plural)
    }

    /// The definition as a custom resource, with names, columns and schema. Costly: keep it.
    #[must_use]
    pub fn definition(&self) -> CustomResourceDefinition {
        (self.definition)()
    }

    /// The structural schema of the kind's own fields (without `apiVersion`, `kind` and `metadata`), for OpenAPI. Costly:
    /// keep it.
    #[must_use]
    pub fn schema(&self) -> Value {
        let versions = self.definition().spec.versions;
        let schema = versions.into_iter().next().and_then(|version| version.schema?.open_api_v3_schema);
        serde_json::to_value(schema).unwrap_or_default()
    }

    /// The columns of `kubectl get`, after the name. Costly: keep them.
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let versions = self.definition().spec.versions;
        let columns = versions.into_iter().next().and_then(|version| version.additional_printer_columns);
        columns.unwrap_or_default().into_iter().map(Column::from_definition).collect()
    }

    /// What is wrong with an object: its metadata, its shape, and the rules of its kind. `old` is what an update replaces.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn validate(&self, object: &DynamicObject, old: Option<&DynamicObject>) -> Result<(), FieldErrors> {
        let mut errors = (self.check)(object, old);
        self.check_metadata(object, &mut errors);
        errors.into_result()
    }

    /// The object as its kind knows it: unknown fields are dropped, defaults are filled in, transient fields are cleared.
    ///
    /// # Errors
    /// The field that has the wrong type.
    pub fn canonical(&self, object: &DynamicObject) -> Result<DynamicObject, FieldErrors> {
        let mut object = (self.canonical)(object)?;
        self.clear_transient(&mut object);
        Ok(object)
    }

    /// Removes the fields that are never stored.
    pub fn clear_transient(&self, object: &mut DynamicObject) {
        for pointer in self.transient {
            let Some((parent, field)) = pointer.rsplit_once('/') else {
                continue;
            };
            if let Some(Value::Object(parent)) = object.data.pointer_mut(parent) {
                parent.remove(field);
            }
        }
    }

    fn check_metadata(&self, object: &DynamicObject, errors: &mut FieldErrors) {
        let meta = &object.metadata;
        match (&meta.name, &meta.generate_name) {
            (Some(name), _) if !names::is_subdomain(name) => {
                errors.push("metadata.name", FieldProblem::Invalid, "must be lower-case letters, digits, `-` and `.`");
            }
            (None, None) => errors.push("metadata.name", FieldProblem::Required, "name or generateName must be set"),
            (None, Some(prefix)) if !names::is_subdomain(&names::generate(prefix)) => {
                errors.push("metadata.generateName", FieldProblem::Invalid, "must start a valid name");
            }
            _ => {}
        }
        match (self.namespaced, &meta.namespace) {
            (true, None) => errors.push("metadata.namespace", FieldProblem::Required, "must be set"),
            (true, Some(name)) if !names::is_label(name) => {
                errors.push("metadata.namespace", FieldProblem::Invalid, "must be lower-case letters, digits and `-`");
            }
            (false, Some(_)) => {
                errors.push("metadata.namespace", FieldProblem::Forbidden, "this kind has no namespace");
            }
            _ => {}
        }
        for finalizer in object.finalizers() {
            if !finalizer.contains('/') || finalizer.len() > names::MAX_NAME_LENGTH {
                errors.push(
                    "metadata.finalizers",
                    FieldProblem::Invalid,
                    "must be qualified names such as `example.com/name`",
                );
            }
        }
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.plural) == (other.group, other.plural)
    }
}

impl Eq for Resource {}

impl std::hash::Hash for Resource {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.group, self.plural).hash(state);
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `clusters.management.cattle.io`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.plural, self.group)
    }
}

/// Reads an object as its kind.
///
/// # Errors
/// What does not fit the kind.
pub fn decode<K: Kind>(object: &DynamicObject) -> Result<K, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(object)?)
}

/// The object of a kind, with `apiVersion` and `kind` set.
///
/// # Errors
/// None for the kinds of this crate.
pub fn encode<K: Kind>(object: &K) -> Result<DynamicObject, serde_json::Error> {
    let mut dynamic: DynamicObject = serde_json::from_value(serde_json::to_value(object)?)?;
    let resource = K::resource();
    dynamic.types = Some(kube::core::TypeMeta { api_version: resource.api_version(), kind: resource.kind.to_owned() });
    Ok(dynamic)
}

fn check<K: Kind>(object: &DynamicObject, old: Option<&DynamicObject>) -> FieldErrors {
    let mut errors = FieldErrors::default();
    match decode::<K>(object) {
        // An old object that no longer decodes must not make the record unchangeable.
        Ok(new) => new.validate(old.and_then(|old| decode::<K>(old).ok()).as_ref(), &mut errors),
        Err(error) => errors.push("", FieldProblem::Invalid, error.to_string()),
    }
    errors
}

fn canonical<K: Kind>(object: &DynamicObject) -> Result<DynamicObject, FieldErrors> {
    decode::<K>(object).and_then(|typed| encode(&typed)).map_err(|error| {
        let mut errors = FieldErrors::default();
        errors.push("", FieldProblem::Invalid, error.to_string());
        errors
    })
}
