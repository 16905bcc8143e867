//! The kinds that the server serves, stores and, with a management Kubernetes, keeps there as custom resources.
//!
//! There is one Rust type per kind; it is the REST schema, the stored row and the custom resource at the same time:
//!
//! | group | kinds | shape |
//! |---|---|---|
//! | [`management`] (`management.cattle.io/v3`) | `Cluster`, `ClusterRegistrationToken` | `spec` and `status` |
//! | | `ClusterRoleTemplateBinding`, `RoleTemplate`, `GlobalRole`, `GlobalRoleBinding`, `User`, `Setting` | fields at the top level, as Rancher has them |
//! | [`ext`] (`ext.cattle.io/v1`) | `Token`, `Kubeconfig` | `spec` and `status` |
//!
//! All of them derive [`kube::CustomResource`]; the ones with top-level fields do it with `no_spec`, so in Rust their
//! fields stand in `object.spec` while JSON has them beside `metadata`.
//!
//! # What is where
//!
//! - [`resource`]: the static [`Resource`] of each kind (names, scope, verbs, columns, schema) and the list of all.
//!   Generic code (store, API server) works with [`kube::core::DynamicObject`] and a `&'static Resource`; typed code with
//!   the structs and [`Kind`].
//! - [`condition`]: condition types and reasons as enums, and the merge that keeps transition times.
//! - [`field`]: what is wrong with an object, by field. [`Kind::validate`] is pure: it sees the object and, for an update,
//!   its predecessor, and nothing else. References to other objects are for the admission code of the API server.
//! - [`names`]: generated names and secrets in Rancher's alphabet. [`secret`]: a value that cannot be printed.
//! - [`builtin`]: the roles that every server has.
//!
//! # Secrets
//!
//! No object holds a secret. Password and token hashes and credentials are *sealed values* beside the object (crate
//! `cattle-store`); [`sealed`] names their fields. Where Rancher's API takes or shows a secret in an object (`User.password`
//! on create, `Token.status.value` and `ClusterRegistrationToken.status.token` in the answer to a create), the field is
//! listed in [`Resource::transient`] and the store refuses an object in which it is set.

#![expect(clippy::duplicated_attributes, reason = "printer columns of one type look like duplicates to the lint")]

pub mod builtin;
pub mod condition;
pub mod ext;
pub mod field;
pub mod management;
pub mod names;
pub mod resource;
pub mod sealed;
pub mod secret;

pub use condition::{Condition, ConditionStatus, ConditionType, Reason};
pub use field::{FieldError, FieldErrors, FieldProblem};
pub use resource::{Kind, Resource};
pub use secret::Secret;
