//! The import manifest, and the names that the server, the agent and the tests share.
//!
//! [`ImportManifest`] holds what differs between two clusters, each value in a type that only holds what may stand there.
//! [`ImportManifest::build`] makes typed Kubernetes objects of it, [`Manifest::to_yaml`] writes them with a serializer.
//! No template is involved: no parameter can change the number, the kinds or the names of the documents.
//!
//! What the manifest puts into a cluster:
//!
//! - Namespace `cattle-system`, whose pod security lets node agents use their host's network, and
//!   `cattle-impersonation-system` (no pods, the strictest pod security).
//! - ServiceAccount `cattle`: the server's in the cluster. No pod runs as it. [`access`] lists its rights with the reason
//!   for each; `docs/rbac.md` is the same table.
//! - ServiceAccount `cattle-cluster-agent`: the agent's. It may request tokens for `cattle`, read Namespace `kube-system`,
//!   and read the issuer's discovery documents.
//! - Secret `cattle-credentials-<hash>`: the server's URL and a registration token. The hash covers both, so a new token
//!   rolls the Deployment.
//! - Deployment `cattle-cluster-agent` with a PodDisruptionBudget and a PriorityClass. Its pods hold a projected token whose
//!   audience is this cluster at this server ([`names::agent_audience`]), one hour long.
//!
//! - ServiceAccount `cattle-node-agent` without any right, and DaemonSet `cattle-node-agent`: a pod on every node, whatever its
//!   taints, with such a token of its own.
//!
//! Everything carries the label `app.kubernetes.io/managed-by=cattle-server`; [`cleanup`] removes by it.

pub mod access;
pub mod cleanup;
pub mod names;

mod agent;
mod document;
mod image;
mod import;
mod node_agent;
mod parameters;

#[cfg(test)]
mod golden;

pub use document::{Manifest, Object, YamlError};
pub use image::{Image, Registry};
pub use import::{ImportManifest, impersonation_namespace, labels};
pub use parameters::{CaChecksum, EnvVar, Label, MAX_ENV, ParameterError, RegistrationToken, ServerUrl};
