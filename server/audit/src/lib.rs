//! The audit log: who signed in, who changed what, who opened a shell, where.
//!
//! One JSON line per event in the shape of `audit.k8s.io/v1`, so that everything that reads a Kubernetes audit log reads
//! this one. The parts:
//!
//! - [`Event`]: one line. Made by [`Event::request`] at the stage `RequestReceived` and carried on by
//!   [`Event::response_started`] and [`Event::completed`].
//! - [`AuditSink`]: where lines go. [`FileSink`] is the one of the server: a file in the data directory.
//! - [`Denials`]: the bounded record of requests that were refused with 401 or 403.
//! - [`Asked`]: what the head of a request contributes to its events.
//! - [`RequestInfo`]: what a Kubernetes API path asks for, and whether it must be audited.
//!
//! # Rules
//!
//! 1. **The line comes first.** [`AuditSink::record`] resolves when the line is on disk. Whoever changes something, opens
//!    `exec`, `attach` or `port-forward`, talks to what stands behind an API server's `proxy`, or switches protocols awaits
//!    it before going on, and refuses with 503 if it fails ([`RequestInfo::must_be_audited`]). Plain reads are not recorded
//!    and go on without a sink; they are counted by whoever serves them while [`AuditSink::available`] is false. A request
//!    that is denied has a line afterwards, whatever it is ([`Denials`]).
//! 2. **The id is ours.** [`AuditId`] is made here and sent downstream as `Audit-ID`, so that the API server's own audit
//!    log and this one join; an id that a client sends is ignored.
//! 3. **No secret gets in.** Request bodies are never recorded; [`redacted_uri`] takes registration tokens and credentials in
//!    queries out of the URI.
//! 4. **A line is a line.** Control characters, ANSI escapes and bidirectional overrides are written as JSON escapes, so
//!    that no value can forge a line or repaint a terminal.
//!
//! ```
//! # async fn change(sink: &dyn cattle_audit::AuditSink) -> Result<(), cattle_audit::AuditError> {
//! use cattle_audit::{Actor, AuditId, Event, RequestInfo};
//!
//! let info = RequestInfo::parse("DELETE", "/api/v1/namespaces/default/pods/web-0", None);
//! let event = Event::request(AuditId::new(), Actor::named("u-abcde"), &info, "/api/v1/namespaces/default/pods/web-0");
//! sink.record(&event).await?; // refuse the request if this fails
//! // … the change …
//! sink.note(&event.completed(200));
//! # Ok(())
//! # }
//! ```

mod asked;
mod denials;
mod event;
mod file;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod redact;
mod request;
mod rotation;
mod sink;

pub use asked::Asked;
pub use denials::{Denials, MORE};
pub use event::{Actor, AuditId, Event, ObjectReference, Stage};
pub use file::{FileSink, FileSinkConfig};
#[cfg(any(test, feature = "testing"))]
pub use memory::MemorySink;
pub use redact::redacted_uri;
pub use request::RequestInfo;
pub use sink::{AuditError, AuditSink};
