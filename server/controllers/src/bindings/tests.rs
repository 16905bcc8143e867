use cattle_api::management::{ClusterRoleTemplateBindingFields, GlobalRoleBindingFields, RoleTemplateFields};
use proptest::prelude::*;

use super::*;

fn templates() -> BTreeMap<String, RoleTemplate> {
    let owner = RoleTemplate::new("cluster-owner", RoleTemplateFields::default());
    let inherits = vec!["view".to_owned()];
    let member =
        RoleTemplate::new("cluster-member", RoleTemplateFields { role_template_names: inherits, ..Default::default() });
    let view = RoleTemplate::new("view", RoleTemplateFields { external: true, ..Default::default() });
    [owner, member, view].into_iter().map(|template| (template.name_any(), template)).collect()
}

fn member(name: &str, user: &str, template: &str) -> ClusterRoleTemplateBinding {
    let fields = ClusterRoleTemplateBindingFields {
        cluster_name: "c-abcde".into(),
        role_template_name: template.into(),
        user_name: user.into(),
        ..Default::default()
    };
    let mut binding = ClusterRoleTemplateBinding::new(name, fields);
    binding.metadata.namespace = Some("c-abcde".into());
    binding
}

fn group(name: &str, group: &str) -> ClusterRoleTemplateBinding {
    let mut binding = member(name, "", "cluster-owner");
    binding.spec.group_principal_name = group.into();
    binding
}

fn admin(user: &str, group: &str, role: &str) -> GlobalRoleBinding {
    let fields = GlobalRoleBindingFields {
        global_role_name: role.into(),
        user_name: user.into(),
        group_principal_name: group.into(),
    };
    GlobalRoleBinding::new("grb", fields)
}

fn all(members: &[ClusterRoleTemplateBinding], admins: &[GlobalRoleBinding]) -> BTreeMap<String, ClusterRoleBinding> {
    desired(&templates(), members, admins, &BTreeSet::new())
}

fn live(bindings: &BTreeMap<String, ClusterRoleBinding>) -> Vec<ClusterRoleBinding> {
    let with_uid = |binding: &ClusterRoleBinding| {
        let mut binding = binding.clone();
        binding.metadata.uid = Some(format!("uid-{}", binding.name_any()));
        binding
    };
    bindings.values().map(with_uid).collect()
}

#[test]
fn one_binding_for_each_template_of_the_closure() {
    let bindings = all(&[member("m1", "u-alice", "cluster-member")], &[]);
    let roles: BTreeSet<_> = bindings.values().map(|binding| binding.role_ref.name.as_str()).collect();
    assert_eq!(roles, BTreeSet::from(["cluster-member", "view"]));
    for (name, binding) in &bindings {
        assert!(name.starts_with("crb-") && name.len() == 14, "{name}");
        assert_eq!(ownership::label(&binding.metadata, names::BINDING_OWNER_LABEL), Some("c-abcde_m1"));
        let subject = &binding.subjects.as_ref().unwrap()[0];
        assert_eq!((subject.kind.as_str(), subject.name.as_str()), ("User", "u-alice"));
    }
    // Rancher's name: base32(sha256("" "ClusterRole" "view" "User" "u-alice")), ten characters.
    assert!(bindings.contains_key(&format!("crb-{}", hash10(&["ClusterRoleviewUseru-alice"]))));
}

#[test]
fn a_template_in_conflict_is_not_bound() {
    let members = [member("m1", "u-alice", "cluster-member")];
    let bindings = desired(&templates(), &members, [], &BTreeSet::from(["cluster-member".to_owned()]));
    assert_eq!(bindings.values().map(|binding| binding.role_ref.name.as_str()).collect::<Vec<_>>(), ["view"]);
}

#[test]
fn administrators_are_bound_in_every_cluster() {
    let bindings =
        all(&[], &[admin("u-root", "", "admin"), admin("", "okta://ops", "admin"), admin("u-joe", "", "user")]);
    let names: BTreeSet<_> = bindings.keys().cloned().collect();
    let group = format!("globaladmin-u-{}", hash10(&["okta://ops"]));
    assert_eq!(names, BTreeSet::from([group, "globaladmin-u-root".to_owned()]));
    assert!(bindings.values().all(|binding| binding.role_ref.name == "cluster-admin"));
}

#[test]
fn kubernetes_own_subjects_are_never_bound() {
    for name in ["system:masters", "system:nodes", "system:serviceaccounts", "system:unauthenticated"] {
        assert!(all(&[group("g", name)], &[admin("", name, "admin")]).is_empty(), "{name}");
    }
    for name in ["system:kube-controller-manager", "system:node:n1", "a:b", "U", ""] {
        assert!(all(&[member("m", name, "cluster-owner")], &[admin(name, "", "admin")]).is_empty(), "{name}");
    }
    assert_eq!(all(&[group("g", "system:cattle:authenticated")], &[]).len(), 1);
}

#[test]
fn the_owner_label_fits_into_63_characters() {
    let bindings = all(&[member(&"m".repeat(200), "u-alice", "cluster-owner")], &[]);
    let binding = bindings.values().next().unwrap();
    assert_eq!(ownership::label(&binding.metadata, names::BINDING_OWNER_LABEL).unwrap().len(), 63);
}

#[test]
fn drift_is_repaired_and_a_changed_role_reference_replaced() {
    let want = all(&[member("m1", "u-alice", "cluster-owner")], &[]);
    assert_eq!(decide(&want, &live(&want)), BindingPlan::default());

    let mut drifted = live(&want);
    drifted[0].subjects.as_mut().unwrap()[0].name = "u-mallory".into();
    assert_eq!(decide(&want, &drifted).steps, [BindingStep::Update(live(&want)[0].clone())]);

    let mut pointed_elsewhere = live(&want);
    pointed_elsewhere[0].role_ref.name = "cluster-admin".into();
    let steps = decide(&want, &pointed_elsewhere).steps;
    assert_eq!(steps[0], BindingStep::Delete(pointed_elsewhere[0].metadata.clone()));
    assert!(matches!(steps[1], BindingStep::Create(_)));
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let want = all(&[member("m1", "u-alice", "cluster-owner")], &[]);
    let mut foreign = live(&want);
    foreign[0].metadata.labels = None;
    let plan = decide(&want, &foreign);
    assert_eq!((plan.steps.len(), plan.conflicts.len()), (0, 1));
    // The manifest's own bindings are ours, but no member's.
    let metadata = ObjectMeta {
        name: Some("cattle-server".into()),
        labels: Some(cattle_manifest::labels()),
        ..ObjectMeta::default()
    };
    let manifest = ClusterRoleBinding { metadata, ..ClusterRoleBinding::default() };
    assert_eq!(decide(&BTreeMap::new(), &[manifest]), BindingPlan::default());
}

proptest! {
    #![proptest_config(cattle_matrix::proptest_config(10_000))]

    /// Model-based: whatever happened to memberships and to the objects, doing the steps leads to exactly the desired set,
    /// and a second decision finds nothing to do.
    #[test]
    fn converges(
        members in prop::collection::vec((0..4_usize, 0..3_usize), 0..6),
        before in prop::collection::vec((0..4_usize, 0..3_usize), 0..6),
        admins in prop::collection::vec(0..4_usize, 0..3), broken in prop::collection::vec(0..8_usize, 0..4),
    ) {
        let user = |index: usize| ["u-alice", "u-bob", "u-carol", "u-dave"][index];
        let template = |index: usize| ["cluster-owner", "cluster-member", "gone"][index];
        let build = |list: &[(usize, usize)], admins: &[usize]| {
            let members: Vec<_> = list.iter().enumerate().map(|(n, (u, t))| member(&format!("m{n}"), user(*u), template(*t))).collect();
            let admins: Vec<_> = admins.iter().map(|index| admin(user(*index), "", "admin")).collect();
            all(&members, &admins)
        };
        let mut world = live(&build(&before, &[]));
        for index in broken {
            if let Some(binding) = world.get_mut(index) {
                match index % 3 {
                    0 => binding.subjects = None,
                    1 => binding.role_ref.name = "other".into(),
                    _ => drop(binding.metadata.labels.as_mut().unwrap().insert(names::BINDING_OWNER_LABEL.into(), "x".into())),
                }
            }
        }
        let want = build(&members, &admins);
        for step in decide(&want, &world).steps {
            match step {
                BindingStep::Create(binding) => {
                    prop_assert!(!world.iter().any(|have| have.name_any() == binding.name_any()));
                    world.push(binding);
                }
                BindingStep::Update(binding) => {
                    let have = world.iter_mut().find(|have| have.name_any() == binding.name_any()).unwrap();
                    *have = binding;
                }
                BindingStep::Delete(meta) => world.retain(|have| have.metadata.name != meta.name),
            }
        }
        prop_assert_eq!(decide(&want, &world), BindingPlan::default());
        prop_assert_eq!(world.len(), want.len());
    }
}
