//! One permission rule, and whether it covers a request.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// What a request to the server's own API wants to do, as Kubernetes' authorizers put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'a str,
    /// API group, empty for the core group.
    pub group: &'a str,
    /// Plural resource name, `clusters`.
    pub resource: &'a str,
    /// `status` and the like.
    pub subresource: Option<&'a str>,
    /// Namespace of a namespaced resource; `None` is cluster-scoped, or a list over all namespaces.
    pub namespace: Option<&'a str>,
    /// Object name; `None` for list, watch and create with a generated name.
    pub name: Option<&'a str>,
}

/// The part of an RBAC PolicyRule that concerns resources. Rules for URLs give nothing at the server's API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

impl From<PolicyRule> for Rule {
    fn from(rule: PolicyRule) -> Self {
        Self {
            verbs: rule.verbs,
            api_groups: rule.api_groups.unwrap_or_default(),
            resources: rule.resources.unwrap_or_default(),
            resource_names: rule.resource_names.unwrap_or_default(),
        }
    }
}

impl Rule {
    /// Kubernetes' RBAC semantics: `*` covers everything of its column, `pods/*` every subresource of `pods`, and a
    /// list of names excludes requests without one.
    pub(crate) fn covers(&self, wanted: &Attributes<'_>) -> bool {
        let any = |values: &[String], value: &str| values.iter().any(|have| have == "*" || have == value);
        any(&self.verbs, wanted.verb)
            && any(&self.api_groups, wanted.group)
            && self.covers_resource(wanted)
            && (self.resource_names.is_empty()
                || wanted.name.is_some_and(|name| self.resource_names.iter().any(|have| have == name)))
    }

    /// Whether the rule makes its holder an owner of `cluster`: the pseudo-verb `own` on `clusters`, written out.
    /// (`*` alone does not: a downstream super-user is not for that reason master of the cluster's record.)
    pub(crate) fn owns_cluster(&self, cluster: &str) -> bool {
        let has = |values: &[String], value: &str| values.iter().any(|have| have == value);
        has(&self.verbs, "own")
            && (has(&self.api_groups, super::MANAGEMENT) || has(&self.api_groups, "*"))
            && has(&self.resources, "clusters")
            && (self.resource_names.is_empty() || has(&self.resource_names, cluster))
    }

    fn covers_resource(&self, wanted: &Attributes<'_>) -> bool {
        self.resources.iter().any(|have| match (have.split_once('/'), wanted.subresource) {
            _ if have == "*" => true,
            (None, None) => have == wanted.resource,
            (Some((resource, sub)), Some(wanted_sub)) => {
                (resource == "*" || resource == wanted.resource) && (sub == "*" || sub == wanted_sub)
            }
            (None, Some(_)) | (Some(_), None) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Rule {
        fn new(verbs: &[&str], group: &str, resources: &[&str]) -> Self {
            let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
            Self {
                verbs: owned(verbs),
                api_groups: vec![group.to_owned()],
                resources: owned(resources),
                resource_names: Vec::new(),
            }
        }
    }

    fn get<'a>(resource: &'a str, subresource: Option<&'a str>, name: Option<&'a str>) -> Attributes<'a> {
        Attributes { verb: "get", group: super::super::MANAGEMENT, resource, subresource, namespace: None, name }
    }

    #[test]
    fn stars_names_and_subresources_follow_rbac() {
        let rule = |resources: &[&str]| Rule::new(&["get"], "management.cattle.io", resources);
        assert!(rule(&["clusters"]).covers(&get("clusters", None, Some("c-abcde"))));
        assert!(!rule(&["clusters"]).covers(&get("clusters", Some("status"), Some("c-abcde"))));
        assert!(rule(&["clusters/*"]).covers(&get("clusters", Some("status"), None)));
        assert!(rule(&["*/status"]).covers(&get("clusters", Some("status"), None)));
        assert!(!rule(&["clusters/status"]).covers(&get("clusters", None, None)));
        assert!(rule(&["*"]).covers(&get("clusters", Some("status"), None)));
        assert!(!Rule::new(&["list"], "management.cattle.io", &["*"]).covers(&get("clusters", None, None)));
        assert!(!Rule::new(&["*"], "apps", &["*"]).covers(&get("clusters", None, None)));
        let named = Rule { resource_names: vec!["one".to_owned()], ..rule(&["settings"]) };
        assert!(named.covers(&get("settings", None, Some("one"))));
        assert!(!named.covers(&get("settings", None, Some("two"))));
        assert!(!named.covers(&get("settings", None, None)), "a list has no name and must not slip through");
    }

    #[test]
    fn only_the_written_verb_own_makes_an_owner() {
        assert!(Rule::new(&["own"], "management.cattle.io", &["clusters"]).owns_cluster("c-abcde"));
        assert!(!Rule::new(&["*"], "*", &["*"]).owns_cluster("c-abcde"));
        assert!(!Rule::new(&["own"], "management.cattle.io", &["projects"]).owns_cluster("c-abcde"));
    }
}
