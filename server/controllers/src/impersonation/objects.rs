//! The objects of one impersonator as they should be.

use std::collections::{BTreeMap, BTreeSet};

use cattle_manifest::names;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::identity::Identity;

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
/// Kubernetes' annotation that makes a Secret hold a token of that account.
pub(crate) const ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";
/// Kubernetes' annotation with the UID of the account that the token is for.
pub(crate) const ACCOUNT_UID_ANNOTATION: &str = "kubernetes.io/service-account.uid";
/// Rancher's label on the Secret: the account's name.
const ACCOUNT_LABEL: &str = "cattle.io/service-account.name";

/// Name of a user's ClusterRole, ClusterRoleBinding and ServiceAccount.
#[must_use]
pub fn object_name(user: &str) -> String {
    format!("cattle-impersonation-{user}")
}

/// What the names of a user's Secrets begin with; a random part follows.
#[must_use]
pub fn secret_prefix(user: &str) -> String {
    format!("{}-token-", object_name(user))
}

/// The user of an object that is named [`object_name`].
pub(crate) fn user_of(name: &str) -> Option<&str> {
    name.strip_prefix("cattle-impersonation-").filter(|user| cattle_api::names::is_label(user))
}

/// One impersonator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonator(Identity);

impl Impersonator {
    /// The impersonator of this identity.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self(identity)
    }

    /// Whom it speaks for.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0
    }

    /// The role: impersonate exactly this user, these groups and these extras.
    #[must_use]
    pub fn role(&self) -> ClusterRole {
        let mut rules = vec![
            rule("", "users".to_owned(), &BTreeSet::from([self.0.user().to_owned()])),
            rule("", "groups".to_owned(), self.0.groups()),
        ];
        let extras = self.0.extras().iter();
        rules.extend(extras.map(|(key, values)| rule(AUTHENTICATION, format!("userextras/{key}"), values)));
        ClusterRole { metadata: self.metadata(None, None), rules: Some(rules), ..ClusterRole::default() }
    }

    /// The account; no pod runs as it.
    #[must_use]
    pub fn account(&self, owner: Option<OwnerReference>) -> ServiceAccount {
        ServiceAccount {
            metadata: self.metadata(Some(names::IMPERSONATION_NAMESPACE), owner),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }
    }

    /// The account's role.
    #[must_use]
    pub fn binding(&self, owner: Option<OwnerReference>) -> ClusterRoleBinding {
        let name = object_name(self.0.user());
        ClusterRoleBinding {
            metadata: self.metadata(None, owner),
            role_ref: RoleRef { api_group: Some(RBAC.into()), kind: "ClusterRole".into(), name: name.clone() },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".into(),
                name,
                namespace: Some(names::IMPERSONATION_NAMESPACE.into()),
                ..Subject::default()
            }]),
        }
    }

    /// The Secret that Kubernetes puts the account's token into. The API server completes its name.
    #[must_use]
    pub fn secret(&self, owner: Option<OwnerReference>) -> Secret {
        let account = object_name(self.0.user());
        let mut metadata = self.metadata(Some(names::IMPERSONATION_NAMESPACE), owner);
        metadata.name = None;
        metadata.generate_name = Some(secret_prefix(self.0.user()));
        metadata.annotations = Some(BTreeMap::from([(ACCOUNT_ANNOTATION.to_owned(), account.clone())]));
        // A label's value has at most 63 characters; the annotation is what Kubernetes reads.
        if account.len() <= 63 {
            metadata.labels.get_or_insert_default().insert(ACCOUNT_LABEL.to_owned(), account);
        }
        Secret { metadata, type_: Some("kubernetes.io/service-account-token".into()), ..Secret::default() }
    }

    fn metadata(&self, namespace: Option<&str>, owner: Option<OwnerReference>) -> ObjectMeta {
        let mut labels = cattle_manifest::labels();
        labels.insert(names::IMPERSONATOR_LABEL.to_owned(), "true".to_owned());
        ObjectMeta {
            name: Some(object_name(self.0.user())),
            namespace: namespace.map(str::to_owned),
            labels: Some(labels),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }
}

fn rule(group: &str, resource: String, names: &BTreeSet<String>) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource]),
        resource_names: Some(names.iter().cloned().collect()),
        verbs: vec!["impersonate".to_owned()],
        ..PolicyRule::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden() {
        let impersonator = Impersonator::new(Identity::local("u-abc12", "alice").unwrap());
        let objects = serde_json::json!([
            impersonator.role(),
            impersonator.account(None),
            impersonator.binding(None),
            impersonator.secret(None),
        ]);
        let actual = serde_json::to_string_pretty(&objects).unwrap() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/impersonator.json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &actual).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), actual, "UPDATE_GOLDEN=1 rewrites {path}");
    }

    proptest! {
        #![proptest_config(cattle_matrix::proptest_config(10_000))]

        /// Whatever the strings: either no identity, or rules for exactly these names. An empty list of names means all.
        #[test]
        fn exactly_these_names(
            user in "(u-[a-z0-9]{5}|.{0,12})", groups in prop::collection::vec("(ops|system:masters|\\*|.{0,12})", 0..4),
            extras in prop::collection::vec(("(username|principalid|.{0,8})", ".{0,12}"), 0..4),
        ) {
            let extras: Vec<_> = extras.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let identity = Identity::new(&user, groups.iter().map(String::as_str), extras.iter().copied());
            let Ok(identity) = identity else { return Ok(()) };
            let mut seen = BTreeMap::new();
            for rule in Impersonator::new(identity).role().rules.unwrap() {
                let [resource] = rule.resources.unwrap().try_into().unwrap();
                prop_assert_eq!(rule.verbs, ["impersonate"]);
                prop_assert!(rule.non_resource_urls.is_none());
                let group = if resource.starts_with("userextras/") { "authentication.k8s.io" } else { "" };
                prop_assert_eq!(rule.api_groups.unwrap(), [group]);
                let names = rule.resource_names.unwrap();
                prop_assert!(!names.is_empty() && names.iter().all(|name| !name.is_empty()));
                seen.insert(resource, names.into_iter().collect::<BTreeSet<_>>());
            }
            let mut want = BTreeMap::from([
                ("users".to_owned(), BTreeSet::from([user])),
                ("groups".to_owned(), groups.into_iter().collect()),
            ]);
            for (key, value) in extras.into_iter().filter(|(_, value)| !value.is_empty()) {
                want.entry(format!("userextras/{key}")).or_default().insert(value.to_owned());
            }
            prop_assert_eq!(seen, want);
        }
    }
}
