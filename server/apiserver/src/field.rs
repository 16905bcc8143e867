//! What is wrong with one field of an object, in the words and with the causes of Kubernetes.

use std::fmt;

use cattle_api::FieldProblem;

use crate::status::Cause;

/// One wrong field. Never carries the value of a secret: its wording goes to the client and to logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    field: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    Required(String),
    Invalid {
        value: String,
        detail: String,
    },
    Type {
        value: String,
        detail: String,
    },
    NotSupported {
        value: String,
        supported: String,
    },
    Duplicate(String),
    Forbidden(String),
    TooLong {
        limit: usize,
    },
    /// Too long or otherwise wrong by a rule of the kind, which has its own sentence.
    Stated {
        reason: &'static str,
        detail: String,
    },
    TooMany {
        count: usize,
        limit: usize,
    },
}

impl FieldError {
    /// The field is missing.
    #[must_use]
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(field, Problem::Required(detail.into()))
    }

    /// The field's value is not one that is allowed. `value` is shown as JSON: quote strings.
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: &serde_json::Value, detail: impl Into<String>) -> Self {
        let (value, detail) = (value.to_string(), detail.into());
        Self::new(field, Problem::Invalid { value, detail })
    }

    /// The field has the wrong JSON type.
    #[must_use]
    pub fn wrong_type(field: impl Into<String>, found: &str, wanted: &str) -> Self {
        let problem =
            Problem::Type { value: format!("\"{found}\""), detail: format!("must be of type {wanted}: \"{found}\"") };
        Self::new(field, problem)
    }

    /// The field's value is not in a closed list.
    #[must_use]
    pub fn not_supported(field: impl Into<String>, value: &serde_json::Value, supported: &[String]) -> Self {
        let supported = supported.iter().map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(", ");
        let value = value.to_string();
        Self::new(field, Problem::NotSupported { value, supported })
    }

    /// The value occurs twice where it must be unique.
    #[must_use]
    pub fn duplicate(field: impl Into<String>, value: &serde_json::Value) -> Self {
        Self::new(field, Problem::Duplicate(value.to_string()))
    }

    /// The field must not be set, or not be changed, like this.
    #[must_use]
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(field, Problem::Forbidden(detail.into()))
    }

    /// The text is longer than `limit` bytes.
    #[must_use]
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        Self::new(field, Problem::TooLong { limit })
    }

    /// The list or map has more than `limit` entries.
    #[must_use]
    pub fn too_many(field: impl Into<String>, count: usize, limit: usize) -> Self {
        Self::new(field, Problem::TooMany { count, limit })
    }

    /// Path of the field, such as `spec.displayName` or `metadata.labels`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The entry for `details.causes`.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause { reason: self.reason(), message: self.problem(), field: self.field.clone() }
    }

    fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), problem }
    }

    fn reason(&self) -> &'static str {
        match self.problem {
            Problem::Required(_) => "FieldValueRequired",
            Problem::Invalid { .. } => "FieldValueInvalid",
            Problem::Type { .. } => "FieldValueTypeInvalid",
            Problem::NotSupported { .. } => "FieldValueNotSupported",
            Problem::Duplicate(_) => "FieldValueDuplicate",
            Problem::Forbidden(_) => "FieldValueForbidden",
            Problem::TooLong { .. } => "FieldValueTooLong",
            Problem::Stated { reason, .. } => reason,
            Problem::TooMany { .. } => "FieldValueTooMany",
        }
    }

    fn problem(&self) -> String {
        match &self.problem {
            Problem::Required(detail) => with_detail("Required value", detail),
            Problem::Invalid { value, detail } => with_detail(&format!("Invalid value: {value}"), detail),
            Problem::Type { value, detail } => with_detail(&format!("Invalid value: {value}"), detail),
            Problem::NotSupported { value, supported } => {
                format!("Unsupported value: {value}: supported values: {supported}")
            }
            Problem::Duplicate(value) => format!("Duplicate value: {value}"),
            Problem::Forbidden(detail) => with_detail("Forbidden", detail),
            Problem::Stated { detail, .. } => detail.clone(),
            Problem::TooLong { limit } => format!("Too long: may not be more than {limit} bytes"),
            Problem::TooMany { count, limit } => {
                format!("Too many: {count}: must have at most {limit} items")
            }
        }
    }
}

impl From<&cattle_api::FieldError> for FieldError {
    fn from(error: &cattle_api::FieldError) -> Self {
        let (field, detail) = (error.path.clone(), error.detail.clone());
        let stated = |reason, what| Problem::Stated { reason, detail: with_detail(what, &error.detail) };
        let problem = match error.problem {
            FieldProblem::Required => Problem::Required(detail),
            FieldProblem::Forbidden => Problem::Forbidden(detail),
            FieldProblem::NotSupported => stated("FieldValueNotSupported", "Unsupported value"),
            FieldProblem::TooLong => stated("FieldValueTooLong", "Too long"),
            FieldProblem::Duplicate => stated("FieldValueDuplicate", "Duplicate value"),
            FieldProblem::Invalid => stated("FieldValueInvalid", "Invalid value"),
            // The list may grow; what is not known here is at least invalid.
            _ => stated("FieldValueInvalid", "Invalid value"),
        };
        Self::new(field, problem)
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem())
    }
}

fn with_detail(what: &str, detail: &str) -> String {
    if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") }
}
