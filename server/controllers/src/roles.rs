//! Role templates as ClusterRoles downstream.
//!
//! A template that is not external becomes a ClusterRole of the same name with the template's own rules; inheritance is not
//! flattened, there is one binding for each template of the closure. An external template stands for a ClusterRole that
//! exists downstream: it is bound to and never touched.

use std::collections::{BTreeMap, BTreeSet};

use cattle_api::management::RoleTemplate;
use cattle_manifest::names;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::ownership;

/// A closure larger than this is a mistake: it gives nothing, as the server's own access index has it.
const MAX_CLOSURE: usize = 500;

/// The templates that `start` includes, itself among them; those that do not exist are left out.
///
/// Empty when the closure has more than `MAX_CLOSURE` templates. A circle is not an error: it adds nothing.
#[must_use]
pub fn closure<'a>(templates: &'a BTreeMap<String, RoleTemplate>, start: &str) -> BTreeMap<&'a str, &'a RoleTemplate> {
    let mut found = BTreeMap::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        let Some((name, template)) = templates.get_key_value(name) else { continue };
        if found.insert(name.as_str(), template).is_some() {
            continue;
        }
        if found.len() > MAX_CLOSURE {
            return BTreeMap::new();
        }
        open.extend(template.spec.role_template_names.iter().map(String::as_str));
    }
    found
}

/// The ClusterRole of a template that is not external.
#[must_use]
pub fn cluster_role(template: &RoleTemplate) -> ClusterRole {
    let name = template.name_any();
    ClusterRole {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::from([(names::ROLE_OWNER_ANNOTATION.to_owned(), name.clone())])),
            labels: Some(cattle_manifest::labels()),
            name: Some(name),
            ..ObjectMeta::default()
        },
        rules: Some(template.spec.rules.iter().map(normal).collect()),
        ..ClusterRole::default()
    }
}

/// Whether a ClusterRole was made from a template. Roles of the manifest and of impersonators are ours as well, but are not
/// a template's to change.
pub(crate) fn is_of_template(role: &ClusterRole) -> bool {
    let owner = ownership::annotation(&role.metadata, names::ROLE_OWNER_ANNOTATION);
    ownership::is_ours(&role.metadata) && owner.is_some_and(|owner| Some(owner) == role.metadata.name.as_deref())
}

/// Resources and verbs in lower case, as Kubernetes compares them.
fn normal(rule: &PolicyRule) -> PolicyRule {
    let lower = |words: &[String]| -> Vec<String> { words.iter().map(|word| word.to_lowercase()).collect() };
    // The API server leaves empty lists out; a list that is empty here would differ for ever.
    let given = |words: &Option<Vec<String>>| words.clone().filter(|words| !words.is_empty());
    PolicyRule {
        resources: given(&rule.resources).as_deref().map(lower),
        verbs: lower(&rule.verbs),
        api_groups: given(&rule.api_groups),
        resource_names: given(&rule.resource_names),
        non_resource_urls: given(&rule.non_resource_urls),
    }
}

/// What to do about the ClusterRoles of templates.
#[derive(Debug, Clone, PartialEq)]
pub enum RoleStep {
    /// Make it; if something of that name is there that was not observed, that is a conflict.
    Create(ClusterRole),
    /// Bring the observed one (by UID) to this state.
    Update(ClusterRole),
    /// Remove exactly this one.
    Delete(ObjectMeta),
}

/// What is to be done, and the names that belong to somebody else.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RolePlan {
    /// In the order to do it.
    pub steps: Vec<RoleStep>,
    /// Templates whose ClusterRole exists and is not ours. They are not bound either: a binding would give other rights
    /// than the template says.
    pub conflicts: BTreeSet<String>,
}

/// Decides what to do, given every ClusterRole that is ours and every one with a desired name.
#[must_use]
pub fn decide(desired: &BTreeMap<String, ClusterRole>, observed: &[ClusterRole]) -> RolePlan {
    let by_name: BTreeMap<&str, &ClusterRole> =
        observed.iter().filter_map(|role| Some((role.metadata.name.as_deref()?, role))).collect();
    let mut plan = RolePlan::default();
    for (name, want) in desired {
        match by_name.get(name.as_str()) {
            None => plan.steps.push(RoleStep::Create(want.clone())),
            Some(have) if !is_of_template(have) => drop(plan.conflicts.insert(name.clone())),
            // An aggregated role's rules are not ours to write: it is made anew.
            Some(have) if have.aggregation_rule.is_some() => {
                plan.steps.push(RoleStep::Delete(have.metadata.clone()));
                plan.steps.push(RoleStep::Create(want.clone()));
            }
            Some(have) if same_rules(want, have) && ownership::meta_holds(&want.metadata, &have.metadata) => {}
            Some(have) => {
                let mut want = want.clone();
                want.metadata.uid.clone_from(&have.metadata.uid);
                plan.steps.push(RoleStep::Update(want));
            }
        }
    }
    let surplus = observed.iter().filter(|role| is_of_template(role) && !desired.contains_key(&role.name_any()));
    plan.steps.extend(surplus.map(|role| RoleStep::Delete(role.metadata.clone())));
    plan
}

pub(crate) fn same_rules(want: &ClusterRole, have: &ClusterRole) -> bool {
    want.rules.as_deref().unwrap_or_default() == have.rules.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use cattle_api::management::RoleTemplateFields;

    use super::*;

    fn template(name: &str, verbs: &[&str], inherits: &[&str]) -> RoleTemplate {
        let rule = PolicyRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec!["Pods".into()]),
            verbs: verbs.iter().map(|&verb| verb.into()).collect(),
            ..PolicyRule::default()
        };
        let role_template_names = inherits.iter().map(|&name| name.into()).collect();
        RoleTemplate::new(name, RoleTemplateFields { rules: vec![rule], role_template_names, ..Default::default() })
    }

    fn map(templates: &[RoleTemplate]) -> BTreeMap<String, RoleTemplate> {
        templates.iter().map(|template| (template.name_any(), template.clone())).collect()
    }

    fn existing(template: &RoleTemplate) -> ClusterRole {
        let mut role = cluster_role(template);
        role.metadata.uid = Some("uid-1".into());
        role
    }

    #[test]
    fn closures_end() {
        let templates =
            map(&[template("a", &[], &["b", "gone"]), template("b", &[], &["a", "c"]), template("c", &[], &[])]);
        let names = |start| closure(&templates, start).into_keys().collect::<Vec<_>>();
        assert_eq!(names("a"), ["a", "b", "c"]);
        assert_eq!(names("c"), ["c"]);
        assert!(names("gone").is_empty());
    }

    #[test]
    fn rules_are_lower_case() {
        let rules = cluster_role(&template("a", &["GET", "own"], &[])).rules.unwrap();
        assert_eq!(rules[0].resources, Some(vec!["pods".to_owned()]));
        assert_eq!(rules[0].verbs, ["get", "own"]);
    }

    #[test]
    fn made_repaired_removed_and_then_left_alone() {
        let view = template("viewer", &["get"], &[]);
        let desired = BTreeMap::from([("viewer".to_owned(), cluster_role(&view))]);
        assert_eq!(decide(&desired, &[]).steps, [RoleStep::Create(cluster_role(&view))]);
        assert_eq!(decide(&desired, &[existing(&view)]), RolePlan::default());

        let mut aggregated = existing(&view);
        aggregated.aggregation_rule = Some(Default::default());
        let steps = decide(&desired, &[aggregated.clone()]).steps;
        assert_eq!(steps, [RoleStep::Delete(aggregated.metadata), RoleStep::Create(cluster_role(&view))]);

        let mut drifted = existing(&view);
        drifted.rules.as_mut().unwrap()[0].verbs.push("delete".into());
        assert_eq!(decide(&desired, &[drifted]).steps, [RoleStep::Update(existing(&view))]);

        let gone = existing(&template("old", &["get"], &[]));
        assert_eq!(decide(&desired, &[existing(&view), gone.clone()]).steps, [RoleStep::Delete(gone.metadata)]);
    }

    #[test]
    fn what_is_not_ours_is_never_touched() {
        let edit = template("edit", &["get"], &[]);
        let desired = BTreeMap::from([("edit".to_owned(), cluster_role(&edit))]);
        let named = |name: &str| ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        let foreign = ClusterRole { metadata: named("edit"), ..ClusterRole::default() };
        let plan = decide(&desired, std::slice::from_ref(&foreign));
        assert_eq!((plan.steps.len(), plan.conflicts.contains("edit")), (0, true));

        // A role of our own manifest is not a template's either, in both directions.
        let mut manifest = ClusterRole { metadata: named("cattle-server"), ..ClusterRole::default() };
        manifest.metadata.labels = Some(cattle_manifest::labels());
        assert_eq!(decide(&BTreeMap::new(), &[foreign, manifest.clone()]), RolePlan::default());
        let server = template("cattle-server", &["get"], &[]);
        let plan = decide(&BTreeMap::from([("cattle-server".to_owned(), cluster_role(&server))]), &[manifest]);
        assert_eq!((plan.steps.len(), plan.conflicts.len()), (0, 1));
    }
}
