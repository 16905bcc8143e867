//! `User`: somebody who signs in. Its name (`u-xxxxx`) is the user id everywhere.

use std::fmt;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::field::{FieldErrors, FieldProblem};
use crate::names;
use crate::resource::{self, Kind, Resource};
use crate::secret::Secret;

/// The longest login name, in bytes.
pub const MAX_USERNAME_LENGTH: usize = 253;

/// The user's fields, which stand at the top level.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "management.cattle.io",
    version = "v3",
    kind = "User",
    doc = "Somebody who signs in.",
    no_spec,
    derive = "PartialEq",
    derive = "Default",
    category = "cattle",
    printcolumn(name = "Username", type_ = "string", json_path = ".username"),
    printcolumn(name = "Display Name", type_ = "string", json_path = ".displayName"),
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".enabled"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct UserFields {
    /// The login name; empty for a user of an identity provider. Unique among users, compared without case.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The name that people see.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// Who it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The password to set, on create only: it is hashed, sealed and never shown or stored.
    #[serde(default, skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub password: Option<InputPassword>,
    /// The next sign-in is good for one thing: to set another password.
    #[serde(default)]
    pub must_change_password: bool,
    /// Who the user is at identity providers; `local://u-xxxxx` is always among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub principal_ids: Vec<String>,
    /// `false`: may not sign in, and tokens are refused. Absent means `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl UserFields {
    /// Whether the user may sign in and use tokens.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// A password on its way in. Cannot be printed or serialized.
#[derive(Clone)]
pub struct InputPassword(Secret);

impl InputPassword {
    /// The password.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for InputPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(password)")
    }
}

/// Never equal, not even to itself: nothing may learn by comparison what it is.
impl PartialEq for InputPassword {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl<'de> Deserialize<'de> for InputPassword {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::from(text)))
    }
}

impl Kind for User {
    fn resource() -> &'static Resource {
        &resource::USER
    }

    fn validate(&self, old: Option<&Self>, errors: &mut FieldErrors) {
        let spec = &self.spec;
        errors.at_most("username", &spec.username, MAX_USERNAME_LENGTH);
        if spec.username.chars().any(|c| c.is_control() || c.is_whitespace() || c == ':') {
            errors.push("username", FieldProblem::Invalid, "must not have spaces, colons or control characters");
        }
        errors.at_most("displayName", &spec.display_name, 253);
        errors.at_most("description", &spec.description, 4096);
        if self.metadata.name.as_ref().is_some_and(|name| !names::is_label(name)) {
            let detail = "must be lower-case letters, digits and `-`; leave it out and set generateName `u-`";
            errors.push("metadata.name", FieldProblem::Invalid, detail);
        }
        for (index, principal) in spec.principal_ids.iter().enumerate() {
            if !principal.contains("://") {
                let detail = "must be a principal such as `local://u-abcde`";
                errors.push(format!("principalIds[{index}]"), FieldProblem::Invalid, detail);
            }
        }
        let Some(old) = old else { return };
        if !old.spec.username.is_empty() {
            errors.unchanged("username", &old.spec.username, &spec.username);
        }
        if spec.password.is_some() {
            errors.push("password", FieldProblem::Forbidden, "is set on create only; change it through the login API");
        }
    }
}
