//! Who may be impersonated: one user with their groups and extras, checked.

use std::collections::{BTreeMap, BTreeSet};

use cattle_auth::{EXTRA_PRINCIPAL_ID, EXTRA_USERNAME, GROUP_AUTHENTICATED, GROUP_CATTLE_AUTHENTICATED, UserInfo};

/// A user, their groups and their extras as they are sent to a cluster.
///
/// There is always exactly one user and at least one group, and no set is empty: in RBAC an empty list of names allows
/// every name. Kubernetes' own identities cannot be built, except for the two groups that every signed-in user is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    user: String,
    groups: BTreeSet<String>,
    extras: BTreeMap<String, BTreeSet<String>>,
}

/// Why an identity cannot be impersonated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The user's name is not one of this server's users.
    #[error("the user's name is not a name of this server's users")]
    User,
    /// A group belongs to Kubernetes, is empty, or holds control characters.
    #[error("a group's name belongs to Kubernetes or cannot be used")]
    Group,
    /// An extra's key or value cannot be used.
    #[error("an extra's key or value cannot be used")]
    Extra,
}

impl Identity {
    /// Checks the parts. Empty values of extras are left out.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn new<'a>(
        user: &str,
        groups: impl IntoIterator<Item = &'a str>,
        extras: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, IdentityError> {
        if !cattle_api::names::is_label(user) {
            return Err(IdentityError::User);
        }
        let groups: BTreeSet<String> = groups.into_iter().map(str::to_owned).collect();
        if groups.is_empty() || !groups.iter().all(|group| is_group(group)) {
            return Err(IdentityError::Group);
        }
        let mut checked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, value) in extras {
            if !is_extra_key(key) || value.len() > 1024 || value.chars().any(char::is_control) {
                return Err(IdentityError::Extra);
            }
            if !value.is_empty() {
                checked.entry(key.to_owned()).or_default().insert(value.to_owned());
            }
        }
        Ok(Self { user: user.to_owned(), groups, extras: checked })
    }

    /// The identity of an authenticated user.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn of(user: &UserInfo) -> Result<Self, IdentityError> {
        let extras =
            user.extra().iter().flat_map(|(key, values)| values.iter().map(|value| (key.as_str(), value.as_str())));
        Self::new(user.name(), user.groups().iter().map(String::as_str), extras)
    }

    /// The identity that the authenticator gives a local user who signs in as `login`.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn local(user: &str, login: &str) -> Result<Self, IdentityError> {
        let principal = format!("local://{user}");
        let extras = [(EXTRA_PRINCIPAL_ID, principal.as_str()), (EXTRA_USERNAME, login)];
        Self::new(user, [GROUP_AUTHENTICATED, GROUP_CATTLE_AUTHENTICATED], extras)
    }

    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn groups(&self) -> &BTreeSet<String> {
        &self.groups
    }

    pub(crate) fn extras(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.extras
    }
}

fn is_group(name: &str) -> bool {
    let known = [GROUP_AUTHENTICATED, GROUP_CATTLE_AUTHENTICATED].contains(&name);
    let plain = !name.is_empty() && name.len() <= 1024 && !name.chars().any(char::is_control);
    known || (plain && !name.trim().to_ascii_lowercase().starts_with("system:"))
}

/// Lower case, since header names carry no case; `[a-z0-9.-]`, since the key becomes a part of a resource's name.
fn is_extra_key(key: &str) -> bool {
    (1..=64).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authenticators_identity_and_ours_are_the_same() {
        let by_request = Identity::of(&UserInfo::for_test("u-alice", "alice")).unwrap();
        assert_eq!(by_request, Identity::local("u-alice", "alice").unwrap());
        assert_eq!(by_request.groups().len(), 2);
        assert_eq!(by_request.extras()["principalid"], BTreeSet::from(["local://u-alice".to_owned()]));
    }

    #[test]
    fn kubernetes_identities_cannot_be_built() {
        let ours = [GROUP_AUTHENTICATED];
        for user in
            ["system:admin", "system:node:n", "system:serviceaccount:a:b", "system:anonymous", "", "a:b", "A", "*"]
        {
            assert_eq!(Identity::new(user, ours, []), Err(IdentityError::User), "{user}");
        }
        let groups = [
            "system:masters",
            "system:nodes",
            "system:unauthenticated",
            "SYSTEM:masters",
            " system:masters",
            "",
            "a\nb",
        ];
        for group in groups {
            assert_eq!(Identity::new("u-a", [group], []), Err(IdentityError::Group), "{group}");
        }
        assert_eq!(Identity::new("u-a", [], []), Err(IdentityError::Group));
        for key in ["", "Username", "a/b", "a*", "scopes\n"] {
            assert_eq!(Identity::new("u-a", ours, [(key, "x")]), Err(IdentityError::Extra), "{key}");
        }
    }
}
