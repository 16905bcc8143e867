//! What the composition root gives the server besides its store.

use std::sync::Arc;

use cattle_api::Resource;
use cattle_auth::Passwords;
use futures_util::stream::BoxStream;
use kube::core::DynamicObject;
use serde_json::Value;

use crate::audit::AuditSink;
use crate::authorize::Authorizer;

/// Adds what is computed when an object is read, and says when that changes.
pub trait Decorate: Send + Sync + 'static {
    /// Adds computed fields. Called for every object of every answer: it answers from memory.
    fn decorate(&self, resource: &'static Resource, object: &mut DynamicObject);

    /// Takes out of an answer what changes all the time. A watch tells of an object again when the rest has changed.
    fn calm(&self, resource: &'static Resource, object: &mut Value) {
        let _ = (resource, object);
    }

    /// Which objects' computed fields have changed, from now on. The stream never ends while the server runs.
    fn changes(&self, resource: &'static Resource) -> BoxStream<'static, Recomputed>;
}

/// What a [`Decorate`] says has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recomputed {
    /// One object.
    One {
        /// Its namespace.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// Any of one namespace.
    Namespace(String),
    /// Possibly any: the stream fell behind.
    Any,
}

/// What the server is made of besides its store.
pub struct Hooks {
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// The audit log.
    pub audit: Arc<dyn AuditSink>,
    /// Hashes passwords of new users.
    pub passwords: Passwords,
    /// Computed fields.
    pub decorate: Arc<dyn Decorate>,
    /// The server's version, such as `0.1.0`; `/version` has it in `gitVersion`.
    pub version: String,
}
