//! Who may do what: the trait this API asks before anything is read, and its implementation by [`cattle_auth::Access`].

use cattle_auth::{Access, Attributes, Decision, Denied, ObjectRef, UserInfo};

use crate::status::{StatusError, Subject};

/// Decides each request. Called often and from request paths: an answer comes from memory, without waiting.
///
/// A running watch asks again for every event and once a second, so an answer that changes ends what it no longer allows.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the user may do this.
    fn authorize(&self, user: &UserInfo, wanted: &Attributes<'_>) -> Decision;

    /// Whether an object may appear in an answer to this user; asked after [`Decision::Filtered`].
    fn visible(&self, user: &UserInfo, object: &ObjectRef<'_>) -> bool;

    /// A number that is another one whenever any answer may have become another one.
    fn generation(&self) -> u64;

    /// Whether the user may send anything to a cluster's API.
    fn may_enter(&self, user: &UserInfo, cluster: &str) -> bool;

    /// Whether the user may give somebody this role template in this cluster.
    ///
    /// # Errors
    /// Why not.
    fn may_grant(&self, user: &UserInfo, cluster: &str, template: &str) -> Result<(), Denied>;

    /// Whether the user may give somebody a global role, and change what roles mean.
    ///
    /// # Errors
    /// Why not.
    fn may_grant_global(&self, user: &UserInfo) -> Result<(), Denied>;
}

impl Authorizer for Access {
    fn authorize(&self, user: &UserInfo, wanted: &Attributes<'_>) -> Decision {
        Self::authorize(self, user, wanted)
    }

    fn visible(&self, user: &UserInfo, object: &ObjectRef<'_>) -> bool {
        Self::visible(self, user, object)
    }

    fn generation(&self) -> u64 {
        Self::generation(self)
    }

    fn may_enter(&self, user: &UserInfo, cluster: &str) -> bool {
        Self::may_enter(self, user, cluster)
    }

    fn may_grant(&self, user: &UserInfo, cluster: &str, template: &str) -> Result<(), Denied> {
        Self::may_grant(self, user, cluster, template)
    }

    fn may_grant_global(&self, user: &UserInfo) -> Result<(), Denied> {
        Self::may_grant_global(self, user)
    }
}

/// A refusal in the words of Kubernetes' RBAC. The same for what exists and what does not.
pub(crate) fn refusal(user: &UserInfo, wanted: &Attributes<'_>, denied: Denied) -> StatusError {
    let subject = Subject { group: wanted.group, kind: wanted.resource };
    if denied == Denied::NotReady {
        return StatusError::unavailable(denied.to_string()).retry_after(1);
    }
    let resource = match wanted.subresource {
        Some(subresource) => format!("{}/{subresource}", wanted.resource),
        None => wanted.resource.to_owned(),
    };
    let scope = match wanted.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    let mut why = format!(
        "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}",
        user.name(),
        wanted.verb,
        wanted.group
    );
    if denied != Denied::Forbidden {
        why = format!("{why}: {denied}");
    }
    StatusError::forbidden(subject, wanted.name.unwrap_or_default(), &why)
}
