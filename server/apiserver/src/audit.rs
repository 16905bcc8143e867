//! What this API tells the audit log.

use std::net::IpAddr;

use cattle_auth::UserInfo;
use futures_util::future::BoxFuture;

/// Where a request came from, as the listener saw it; the listener puts it into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// A change that somebody asks for and may make. Holds no body and no secret.
#[derive(Debug, Clone)]
pub struct Change {
    /// The request's id; the client gets it as `Audit-Id`.
    pub id: String,
    /// Who asks.
    pub user: UserInfo,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural resource name.
    pub resource: &'static str,
    /// `status`, or none.
    pub subresource: Option<&'static str>,
    /// Namespace of the object.
    pub namespace: Option<String>,
    /// Name of the object; none for `deletecollection` and for a name that is still to be generated.
    pub name: Option<String>,
    /// Path of the request, without its query.
    pub path: String,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: String,
    /// Nothing will be stored.
    pub dry_run: bool,
}

/// Takes the record of each change.
pub trait AuditSink: Send + Sync + 'static {
    /// Called before a change is made, when it is allowed, and resolves when the record is safe. If it fails the change is
    /// refused with 503.
    fn before<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<(), AuditUnavailable>>;

    /// Called with the HTTP status code when the change was made or refused. Must not block.
    fn after(&self, change: &Change, code: u16);
}

/// The record could not be made safe. The sentence goes to the client: it names what is wrong and no path.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{sentence}")]
pub struct AuditUnavailable {
    /// For people.
    pub sentence: String,
}
