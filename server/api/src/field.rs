//! What is wrong with an object, by field: the causes of a 422.

use std::fmt;

use serde::Serialize;

/// The kind of problem; its [`Display`](fmt::Display) is the `reason` of Kubernetes' `StatusCause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum FieldProblem {
    /// The field must have a value.
    Required,
    /// The value is malformed or out of range.
    Invalid,
    /// The value is not one of a closed list.
    NotSupported,
    /// The value may not be set or changed.
    Forbidden,
    /// The value is too long.
    TooLong,
    /// The value is there twice.
    Duplicate,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::Duplicate => "FieldValueDuplicate",
        })
    }
}

/// One field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field in the object's JSON, such as `spec.displayName` or `rules[0].verbs`.
    pub path: String,
    /// What is wrong.
    pub problem: FieldProblem,
    /// One sentence for the user, without the path. It never repeats a secret value.
    pub detail: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.detail)
    }
}

/// Everything that is wrong with one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Adds an error.
    pub fn push(&mut self, path: impl Into<String>, problem: FieldProblem, detail: impl Into<String>) {
        self.0.push(FieldError { path: path.into(), problem, detail: detail.into() });
    }

    /// Adds `Required` when `value` is empty.
    pub fn required(&mut self, path: &str, value: &str) {
        if value.is_empty() {
            self.push(path, FieldProblem::Required, "must be set");
        }
    }

    /// Adds `TooLong` when `value` has more than `max` bytes.
    pub fn at_most(&mut self, path: &str, value: &str, max: usize) {
        if value.len() > max {
            self.push(path, FieldProblem::TooLong, format!("must have at most {max} bytes, has {}", value.len()));
        }
    }

    /// Adds `Forbidden` when a field that must stay what it was has changed.
    pub fn unchanged<T: PartialEq>(&mut self, path: &str, old: &T, new: &T) {
        if old != new {
            self.push(path, FieldProblem::Forbidden, "cannot be changed after creation");
        }
    }

    /// The errors, in the order in which they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[FieldError] {
        &self.0
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` when nothing is wrong.
    ///
    /// # Errors
    /// Itself, when something is.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}
