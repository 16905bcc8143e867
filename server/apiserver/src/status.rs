//! What goes wrong, as a Kubernetes `Status`: one place decides code, reason and wording.

mod reason;

use std::fmt;

use serde_json::{Value, json};

pub use self::reason::Reason;
use crate::field::FieldError;

/// One entry of `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable, for example `FieldValueRequired`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Path of the field; empty when the cause is not about a field.
    pub field: String,
}

/// Which resource (or kind) an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// API group.
    pub group: &'a str,
    /// Plural resource name, or the kind for [`StatusError::invalid`].
    pub kind: &'a str,
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(self.kind) } else { write!(f, "{}.{}", self.kind, self.group) }
    }
}

/// A refusal as the client sees it, plus what only the log may say.
#[derive(Debug, Clone)]
pub struct StatusError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    reason: Reason,
    message: String,
    name: String,
    group: String,
    kind: String,
    uid: String,
    causes: Vec<Cause>,
    retry_after: Option<u32>,
    internal: Option<String>,
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for StatusError {}

impl StatusError {
    /// A refusal with a reason and a sentence; the other constructors add Kubernetes' wording.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after: None,
            internal: None,
        }))
    }

    /// The request itself is wrong: 400.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// The object does not exist, or the caller must not learn that it does: 404.
    #[must_use]
    pub fn not_found(resource: Subject<'_>, name: &str) -> Self {
        Self::new(Reason::NotFound, format!("{resource} \"{name}\" not found")).about(resource, name)
    }

    /// Nothing is served at this path: 404.
    #[must_use]
    pub fn no_such_resource() -> Self {
        Self::new(Reason::NotFound, "the server could not find the requested resource")
    }

    /// The verb exists, not on this path: 405.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
    }

    /// The name is taken: 409.
    #[must_use]
    pub fn already_exists(resource: Subject<'_>, name: &str) -> Self {
        Self::new(Reason::AlreadyExists, format!("{resource} \"{name}\" already exists")).about(resource, name)
    }

    /// Somebody else changed the object first, or a precondition does not hold: 409.
    #[must_use]
    pub fn conflict(resource: Subject<'_>, name: &str, why: &str) -> Self {
        Self::new(Reason::Conflict, format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}"))
            .about(resource, name)
    }

    /// [`StatusError::conflict`] with Kubernetes' sentence for a stale `resourceVersion`.
    #[must_use]
    pub fn modified(resource: Subject<'_>, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// The object's fields are wrong: 422 with one cause per field. `kind` names the kind, not the resource.
    #[must_use]
    pub fn invalid(kind: Subject<'_>, name: &str, errors: &[FieldError]) -> Self {
        let sentences: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let all = match sentences.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error = Self::new(Reason::Invalid, format!("{kind} \"{name}\" is invalid: {all}")).about(kind, name);
        error.0.causes = errors.iter().map(FieldError::cause).collect();
        error
    }

    /// The caller may not: 403 in the wording of Kubernetes' RBAC.
    #[must_use]
    pub fn forbidden(resource: Subject<'_>, name: &str, why: &str) -> Self {
        let target = if name.is_empty() {
            format!("{resource} is forbidden")
        } else {
            format!("{resource} \"{name}\" is forbidden")
        };
        Self::new(Reason::Forbidden, format!("{target}: {why}")).about(resource, name)
    }

    /// The version or continue token is older than what is kept: 410.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// The body's media type is not one of `accepted`: 415.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            Reason::UnsupportedMediaType,
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// Nothing in `Accept` can be served: 406.
    #[must_use]
    pub fn not_acceptable(served: &[&str]) -> Self {
        Self::new(Reason::NotAcceptable, format!("only the following media types are accepted: {}", served.join(", ")))
    }

    /// The body is over the limit: 413.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        Self::new(Reason::RequestEntityTooLarge, format!("Request entity too large: limit is {limit}"))
    }

    /// Too many requests are being served: 429, come back in a second.
    #[must_use]
    pub fn too_many_requests() -> Self {
        Self::new(Reason::TooManyRequests, "Too many requests, please try again later.").retry_after(1)
    }

    /// Something the server needs is missing now: 503.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Reason::ServiceUnavailable, message)
    }

    /// A defect or a broken store: 500. The client reads only that it happened; `chain` goes to the log.
    #[must_use]
    pub fn internal(chain: &(dyn std::error::Error + 'static)) -> Self {
        let mut error = Self::new(
            Reason::InternalError,
            "Internal error occurred: the request could not be completed; the server's log has the reason under this audit id",
        );
        error.0.internal = Some(chain_of(chain));
        error
    }

    /// [`StatusError::internal`] for a broken invariant that no error value describes.
    #[must_use]
    pub fn broken(what: &str) -> Self {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Broken(String);
        Self::internal(&Broken(what.to_owned()))
    }

    /// The client asks for a version that does not exist yet: 504, as the Kubernetes watch cache answers.
    #[must_use]
    pub fn version_in_future(asked: u64, current: u64) -> Self {
        let mut error = Self::new(Reason::Timeout, format!("Too large resource version: {asked}, current: {current}"))
            .retry_after(1);
        error.0.causes.push(Cause {
            reason: "ResourceVersionTooLarge",
            message: "Too large resource version".to_owned(),
            field: String::new(),
        });
        error
    }

    /// Server-side apply met fields that others own: 409 with one cause per field.
    #[must_use]
    pub fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        let mut error = Self::new(Reason::Conflict, message);
        error.0.causes = causes;
        error
    }

    /// The same error, naming the object it is about.
    #[must_use]
    pub fn about(mut self, subject: Subject<'_>, name: &str) -> Self {
        subject.group.clone_into(&mut self.0.group);
        subject.kind.clone_into(&mut self.0.kind);
        name.clone_into(&mut self.0.name);
        self
    }

    /// The same error with `details.retryAfterSeconds` (and the `Retry-After` header).
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// What kind of refusal this is.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// HTTP status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.0.reason.code()
    }

    /// Seconds after which a client may try again.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// What only the log may say.
    #[must_use]
    pub fn internal_message(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }

    /// The `metav1.Status` that the client reads.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.0.message, "reason": self.0.reason.as_str(), "code": self.code(),
        });
        let details = self.details();
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }

    fn details(&self) -> serde_json::Map<String, Value> {
        let mut details = serde_json::Map::new();
        for (key, value) in
            [("name", &self.0.name), ("group", &self.0.group), ("kind", &self.0.kind), ("uid", &self.0.uid)]
        {
            if !value.is_empty() {
                details.insert(key.to_owned(), Value::from(value.as_str()));
            }
        }
        if !self.0.causes.is_empty() {
            let causes = self.0.causes.iter().map(cause_json).collect();
            details.insert("causes".to_owned(), Value::Array(causes));
        }
        if let Some(seconds) = self.0.retry_after {
            details.insert("retryAfterSeconds".to_owned(), Value::from(seconds));
        }
        details
    }
}

fn cause_json(cause: &Cause) -> Value {
    let mut value = json!({"reason": cause.reason, "message": cause.message});
    if !cause.field.is_empty() {
        value["field"] = Value::from(cause.field.as_str());
    }
    value
}

fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut chain = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        chain.push_str(": ");
        chain.push_str(&source.to_string());
        next = source.source();
    }
    chain
}
