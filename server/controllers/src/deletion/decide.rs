//! The next step of a removal. No I/O.

use std::fmt;

use cattle_manifest::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What of ours is left in a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leftovers {
    /// ClusterRoleBindings that are ours.
    pub bindings: Vec<ObjectMeta>,
    /// ClusterRoles that are ours.
    pub roles: Vec<ObjectMeta>,
    /// The agent's PriorityClass.
    pub priority_class: Option<ObjectMeta>,
    /// Namespace `cattle-impersonation-system`.
    pub impersonation: Option<ObjectMeta>,
    /// Namespace `cattle-system`.
    pub system: Option<ObjectMeta>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Removal {
    /// Delete these bindings.
    Bindings(Vec<ObjectMeta>),
    /// Delete these roles.
    Roles(Vec<ObjectMeta>),
    /// Delete the namespace of the impersonators.
    Impersonators(ObjectMeta),
    /// Kubernetes is deleting that namespace.
    AwaitImpersonators,
    /// Delete the agent's PriorityClass.
    PriorityClass(ObjectMeta),
    /// Make the namespace the owner of the server's own role and binding.
    HandOver {
        /// The namespace.
        to: ObjectMeta,
        /// The server's binding, unless it is handed over already.
        binding: Option<ObjectMeta>,
        /// The server's role, unless it is handed over already.
        role: Option<ObjectMeta>,
    },
    /// Delete `cattle-system`.
    System(ObjectMeta),
    /// Nothing is left that Kubernetes is not removing by itself.
    Done,
}

/// How far a removal is, for people who wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Removing so many bindings.
    Bindings(usize),
    /// Removing so many roles.
    Roles(usize),
    /// Removing the impersonators.
    Impersonators,
    /// Removing the agent.
    Agent,
    /// Everything downstream is removed.
    Done,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bindings(left) => write!(f, "removing bindings ({left} left)"),
            Self::Roles(left) => write!(f, "removing roles ({left} left)"),
            Self::Impersonators => f.write_str("removing impersonators"),
            Self::Agent => f.write_str("removing the agent and the server's own rights"),
            Self::Done => f.write_str("everything in the cluster is removed"),
        }
    }
}

impl Removal {
    /// How far the removal is with this step.
    #[must_use]
    pub fn progress(&self) -> Progress {
        match self {
            Self::Bindings(left) => Progress::Bindings(left.len()),
            Self::Roles(left) => Progress::Roles(left.len()),
            Self::Impersonators(_) | Self::AwaitImpersonators => Progress::Impersonators,
            Self::PriorityClass(_) | Self::HandOver { .. } | Self::System(_) => Progress::Agent,
            Self::Done => Progress::Done,
        }
    }
}

/// Decides what is next.
#[must_use]
pub fn decide(left: &Leftovers) -> Removal {
    let others = |metas: &[ObjectMeta]| -> Vec<ObjectMeta> {
        metas.iter().filter(|meta| meta.name.as_deref() != Some(names::SERVER_ROLE)).cloned().collect()
    };
    // The role for the impersonation namespace is needed until that namespace is gone.
    let is_needed =
        |meta: &ObjectMeta| left.impersonation.is_some() && meta.name.as_deref() == Some(names::IMPERSONATION_ROLE);
    let bindings = others(&left.bindings);
    if !bindings.is_empty() {
        return Removal::Bindings(bindings);
    }
    let roles: Vec<_> = others(&left.roles).into_iter().filter(|meta| !is_needed(meta)).collect();
    if !roles.is_empty() {
        return Removal::Roles(roles);
    }
    match &left.impersonation {
        Some(namespace) if namespace.deletion_timestamp.is_none() => return Removal::Impersonators(namespace.clone()),
        Some(_) => return Removal::AwaitImpersonators,
        None => {}
    }
    if let Some(class) = &left.priority_class {
        return Removal::PriorityClass(class.clone());
    }
    let Some(system) = left.system.as_ref().filter(|system| system.deletion_timestamp.is_none()) else {
        return Removal::Done;
    };
    let pending = |metas: &[ObjectMeta]| metas.iter().find(|meta| !is_owned(meta, system)).cloned();
    match (pending(&left.bindings), pending(&left.roles)) {
        (None, None) => Removal::System(system.clone()),
        (binding, role) => Removal::HandOver { to: system.clone(), binding, role },
    }
}

fn is_owned(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    meta.owner_references.iter().flatten().any(|reference| Some(&reference.uid) == owner.uid.as_ref())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

    use super::*;

    fn meta(name: &str) -> ObjectMeta {
        ObjectMeta { name: Some(name.into()), uid: Some(format!("uid-{name}")), ..ObjectMeta::default() }
    }

    fn full() -> Leftovers {
        let metas = |names: &[&str]| names.iter().map(|name| meta(name)).collect();
        Leftovers {
            bindings: metas(&[
                "crb-1",
                "globaladmin-u-root",
                "cattle-impersonation-u-a",
                "cattle-cluster-agent",
                "cattle-server",
            ]),
            roles: metas(&[
                "cluster-owner",
                "cattle-impersonation-u-a",
                "cattle-server-impersonation",
                "cattle-server",
            ]),
            priority_class: Some(meta("cattle-cluster-agent-priority-class")),
            impersonation: Some(meta("cattle-impersonation-system")),
            system: Some(meta("cattle-system")),
        }
    }

    fn without(metas: &mut Vec<ObjectMeta>, gone: &[ObjectMeta]) {
        metas.retain(|meta| !gone.contains(meta));
    }

    #[test]
    fn rights_first_and_the_servers_own_last() {
        let mut left = full();
        let deleted = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        let mut steps = Vec::new();
        for _ in 0..20 {
            let step = decide(&left);
            steps.push(format!("{step:?}").split(['(', ' ']).next().unwrap().to_owned());
            match step {
                Removal::Bindings(gone) => without(&mut left.bindings, &gone),
                Removal::Roles(gone) => without(&mut left.roles, &gone),
                Removal::Impersonators(_) => left.impersonation.as_mut().unwrap().deletion_timestamp = deleted.clone(),
                Removal::AwaitImpersonators => left.impersonation = None,
                Removal::PriorityClass(_) => left.priority_class = None,
                Removal::HandOver { to, .. } => {
                    let owner = OwnerReference { uid: to.uid.unwrap(), ..OwnerReference::default() };
                    for meta in left.bindings.iter_mut().chain(&mut left.roles) {
                        meta.owner_references = Some(vec![owner.clone()]);
                    }
                }
                Removal::System(_) => left.system.as_mut().unwrap().deletion_timestamp = deleted.clone(),
                Removal::Done => break,
            }
        }
        let expected = [
            "Bindings",
            "Roles",
            "Impersonators",
            "AwaitImpersonators",
            "Roles",
            "PriorityClass",
            "HandOver",
            "System",
            "Done",
        ];
        assert_eq!(steps, expected);
        // What is left is the server's own, owned by a namespace that is on its way out.
        let names: Vec<_> = left.bindings.iter().chain(&left.roles).map(|meta| meta.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["cattle-server", "cattle-server"]);
    }

    #[test]
    fn the_namespace_is_not_deleted_before_it_owns_both() {
        let mut left =
            Leftovers { bindings: vec![meta("cattle-server")], roles: vec![meta("cattle-server")], ..full() };
        (left.impersonation, left.priority_class) = (None, None);
        let owner = OwnerReference { uid: "uid-cattle-system".into(), ..OwnerReference::default() };
        left.bindings[0].owner_references = Some(vec![owner]);
        let Removal::HandOver { binding, role, .. } = decide(&left) else { panic!("not handed over") };
        assert_eq!((binding, role), (None, Some(meta("cattle-server"))));
    }

    #[test]
    fn an_empty_cluster_is_done() {
        assert_eq!(decide(&Leftovers::default()), Removal::Done);
    }
}
