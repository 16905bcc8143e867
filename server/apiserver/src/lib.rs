//! The server's own Kubernetes API, over the [`Store`](cattle_store::Store).
//!
//! [`ApiServer`] serves every kind of `cattle-api` the way a Kubernetes API server serves custom resources, so that kubectl,
//! kube-rs, client-go and what is built on them work on the server itself. It owns the paths `/api`, `/apis`, `/openapi` and
//! `/version` ([`ApiServer::routes`]) and takes requests whose user is known already: there is no anonymous.
//!
//! # A request's way
//!
//! 1. The raw path is split and never decoded or normalised; what is ambiguous is a 404.
//! 2. [`Authorizer`]: before anything is read or the body is looked at. `Filtered` means: each object is shown only if
//!    [`Authorizer::visible`] says so, and one that is not does not exist.
//! 3. The body: at most [`BODY_MAX`] bytes and [`DEPTH_MAX`] levels, JSON or YAML, never inflated.
//! 4. Transient fields (passwords) are taken out before anything else sees the object; unknown fields are dropped, warned of
//!    or refused (`fieldValidation`).
//! 5. The kind's [`Strategy`]: defaults, references, secrets. Schema and rules of `cattle-api`. `managedFields`.
//! 6. [`AuditSink::before`]: if the record is not safe, nothing is changed (503).
//! 7. One transaction of the store, with everything that goes with the change.
//! 8. The answer: [`Decorate`] and the strategy add what is computed; the client gets it as object, table or metadata.
//!
//! # What is served
//!
//! get, list (limit/continue, versions, label and field selectors), watch (from a version or with initial events, bookmarks,
//! 410), create, update, delete, deletecollection, JSON patch, merge patch and server-side apply; `status`; dry run; tables;
//! `PartialObjectMetadata`; discovery in both forms; OpenAPI v2 and v3; and the reviews of oneself behind
//! `kubectl auth can-i` and `whoami`.
//!
//! Different from a Kubernetes API server, on purpose:
//!
//! - There is no core group. Namespaces are the names of clusters, exist with them, and cannot be listed.
//! - Strategic merge patch is a 415, as for every custom resource.
//! - A list whose objects are filtered for the caller ignores `limit`: a continue token would name what the caller must not
//!   know.
//! - A watch whose answer would change because the caller's roles have changed ends with 410: the client lists again and sees
//!   what it may see now.
//! - Bodies of PATCH with `application/apply-patch+yaml` follow KEP-555 on leaves: containers have no owners of their own.
//! - Protobuf is not spoken, but for `/openapi/v2`, which old kubectl reads in no other form.

mod accept;
mod audit;
mod authorize;
mod body;
#[cfg(test)]
mod decoders;
mod discovery;
mod field;
mod managed;
mod openapi;
mod patch;
mod path;
mod query;
mod respond;
mod review;
mod schema;
mod selector;
mod served;
mod server;
mod status;
mod strategy;
mod table;
mod verb;

pub use audit::{AuditSink, AuditUnavailable, Change, ClientAddress};
pub use authorize::Authorizer;
pub use body::{BODY_MAX, DEPTH_MAX};
pub use field::FieldError;
pub use server::{ApiServer, Decorate, Hooks, Recomputed};
pub use status::{Cause, Reason, StatusError, Subject};
pub use strategy::{Admission, Along, Checked, Draft, Strategy, registration_token_hash, registration_token_matches};
