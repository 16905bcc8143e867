//! Who a request comes from.

use std::collections::BTreeMap;
use std::fmt;

use cattle_api::names;
use jiff::Timestamp;

/// Every signed-in user is in this Kubernetes group.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// Every user signed in at this server is in this group; downstream roles name it to mean "comes through the server".
pub const GROUP_CATTLE_AUTHENTICATED: &str = "system:cattle:authenticated";
/// Extra that holds the principal, `local://u-xxxxx`.
pub const EXTRA_PRINCIPAL_ID: &str = "principalid";
/// Extra that holds the name a person signs in with.
pub const EXTRA_USERNAME: &str = "username";

/// The name of a Token object: the public half of a bearer token, safe to log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenName(String);

impl TokenName {
    /// Accepts what the name of an object may be.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        names::is_subdomain(name).then(|| Self(name.to_owned()))
    }

    /// The name as the object has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An authenticated identity. Only the [`Authenticator`](crate::Authenticator) makes one, so holding it is the proof
/// that a credential was checked; there is no anonymous, empty or default value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    name: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
    token: TokenName,
    cluster_scope: Option<String>,
    expires_at: Option<Timestamp>,
}

impl UserInfo {
    pub(crate) fn local(user: &str, login: &str, token: TokenName) -> Self {
        let extra = BTreeMap::from([
            (EXTRA_PRINCIPAL_ID.to_owned(), vec![format!("local://{user}")]),
            (EXTRA_USERNAME.to_owned(), vec![login.to_owned()]),
        ]);
        Self {
            name: user.to_owned(),
            groups: vec![GROUP_AUTHENTICATED.to_owned(), GROUP_CATTLE_AUTHENTICATED.to_owned()],
            extra,
            token,
            cluster_scope: None,
            expires_at: None,
        }
    }

    pub(crate) fn scoped(mut self, cluster: Option<String>) -> Self {
        self.cluster_scope = cluster;
        self
    }

    pub(crate) fn expiring(mut self, at: Option<Timestamp>) -> Self {
        self.expires_at = at;
        self
    }

    /// An identity out of thin air, for the tests of crates that take one.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn for_test(user: &str, login: &str) -> Self {
        Self::local(user, login, TokenName(format!("token-{user}")))
    }

    /// The same identity in more groups; tests only.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_groups(mut self, groups: &[&str]) -> Self {
        self.groups.extend(groups.iter().map(|group| (*group).to_owned()));
        self
    }

    /// The same identity by a token that is good for one cluster; tests only.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_cluster_scope(self, cluster: &str) -> Self {
        self.scoped(Some(cluster.to_owned()))
    }

    /// The same identity by another token; tests only.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = TokenName(token.to_owned());
        self
    }

    /// The same identity by a token that ends then; tests only.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_expiry(self, at: Timestamp) -> Self {
        self.expiring(Some(at))
    }

    /// The user's id, `u-xxxxx`: the name of the User object, and the user name downstream.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Groups, always with [`GROUP_AUTHENTICATED`] and [`GROUP_CATTLE_AUTHENTICATED`].
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Extras, always with [`EXTRA_PRINCIPAL_ID`] and [`EXTRA_USERNAME`].
    #[must_use]
    pub fn extra(&self) -> &BTreeMap<String, Vec<String>> {
        &self.extra
    }

    /// What the person signs in with; shown to people, never used to decide.
    #[must_use]
    pub fn username(&self) -> &str {
        self.extra.get(EXTRA_USERNAME).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// The token that proved this identity. Running streams are indexed by it, so that revoking it ends them.
    #[must_use]
    pub fn token(&self) -> &TokenName {
        &self.token
    }

    /// The one cluster this token is good for; `None` is every cluster the user may enter. A scoped token is good for
    /// nothing of the server's own API.
    #[must_use]
    pub fn cluster_scope(&self) -> Option<&str> {
        self.cluster_scope.as_deref()
    }

    /// When the token ends by itself; `None` is never.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_always_has_the_documented_groups_and_extras() {
        let user = UserInfo::for_test("u-abcde", "ann");
        assert_eq!(user.groups(), ["system:authenticated", "system:cattle:authenticated"]);
        assert_eq!(user.extra()["principalid"], ["local://u-abcde"]);
        assert_eq!(user.extra()["username"], ["ann"]);
        assert_eq!(user.username(), "ann");
    }

    #[test]
    fn token_names_are_object_names() {
        for good in ["token-abcde", "kubeconfig-u-abcde.c-xyz12abcde", "a"] {
            assert!(TokenName::parse(good).is_some(), "{good}");
        }
        let long = "a".repeat(254);
        for bad in ["", "-a", "a-", ".a", "A", "a/b", "a:b", "a\0", "ä", "../x", long.as_str()] {
            assert!(TokenName::parse(bad).is_none(), "{bad:?}");
        }
    }
}
