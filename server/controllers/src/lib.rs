//! The controllers of downstream clusters.
//!
//! [`ClusterControllers`] runs one unit per connected cluster ([`mod@unit`]); a cluster that is away costs nothing. Everything is
//! level-triggered: a reconcile takes no input but the world, so a restart, a lost link and the ordinary day are one path.
//! Decisions are pure functions (`decide(desired, observed)`), tested without a cluster; what they decide is done by small
//! verbs that name the object when they fail.
//!
//! # Who owns what downstream
//!
//! Everything made here carries the label `app.kubernetes.io/managed-by=cattle-server` and the field manager `cattle-server`.
//! An object with a name that we want and without either is somebody else's: it is reported and never touched.
//!
//! | what | made from | module |
//! |---|---|---|
//! | ClusterRole named as a role template | RoleTemplate in the closure of a membership | [`roles`] |
//! | ClusterRoleBinding `crb-<hash>`, `globaladmin-<key>` | ClusterRoleTemplateBinding, GlobalRoleBinding | [`bindings`] |
//! | impersonator of a user | who may enter and has signed in, or sends a request | [`impersonation`] |
//!
//! The other way round, [`nodes`] keeps the server's Node objects as the cluster and its node agents say.
//!
//! # What the rest of the server gives
//!
//! The store, and [`Clusters`]: clients, probes, links. This crate knows neither gateway nor tunnel nor proxy. It gives back
//! [`Impersonators`] for the proxy, [`Registrations`](registration::Registrations) for the gateway and the import path, and
//! [`ClusterControllers::conditions`] for the API.

pub mod bindings;
pub mod clusters;
pub mod conditions;
pub mod credential;
pub mod deletion;
pub mod health;
pub mod identity;
pub mod impersonation;
pub mod nodes;
pub mod registration;
pub mod roles;
pub mod unit;

mod apply;
mod context;
mod controllers;
mod deed;
mod directory;
mod facts;
mod fetch;
mod members;
mod mirror;
mod ownership;
mod queue;
mod worker;

pub use clusters::{AskError, Bearer, Clusters, Link, ProbeError};
pub use context::Context;
pub use controllers::ClusterControllers;
pub use credential::ServerCredential;
pub use facts::IssuerKeys;
pub use impersonation::{Granted, ImpersonationError, Impersonators};
