//! What everybody holds, and what was taken away between two states.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Subject;
use crate::revocation::Revoked;

/// A state of the access index, reduced to what running streams depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    /// Users who may do anything at all.
    pub(crate) users: BTreeSet<String>,
    /// Who is administrator.
    pub(crate) admins: BTreeSet<Subject>,
    /// (who, cluster) → role templates.
    pub(crate) bound: BTreeMap<(Subject, String), BTreeSet<String>>,
}

impl Grants {
    /// What is no longer there in `after`. Somebody who keeps a part of their roles in a cluster is named as well: a stream
    /// that runs by the lost part must end, and the others are quickly made again.
    pub(crate) fn lost(&self, after: &Self) -> Vec<Revoked> {
        let users = self.users.difference(&after.users).cloned().map(Revoked::User);
        let admins = self.admins.difference(&after.admins).map(|subject| match subject {
            Subject::User(user) => Revoked::User(user.clone()),
            Subject::Group(group) => Revoked::Group(group.clone()),
        });
        let bound = self
            .bound
            .iter()
            .filter(|(key, held)| after.bound.get(key).map_or(!held.is_empty(), |now| !held.is_subset(now)));
        let bound = bound.map(|((subject, cluster), _)| match subject {
            Subject::User(user) => Revoked::UserInCluster { user: user.clone(), cluster: cluster.clone() },
            Subject::Group(group) => Revoked::GroupInCluster { group: group.clone(), cluster: cluster.clone() },
        });
        users.chain(admins).chain(bound).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::AccessIndex;
    use super::super::facts::Kind;
    use super::super::tests::{bind, bind_global, object, template, world};
    use super::*;
    use serde_json::json;

    fn lost(change: impl FnOnce(&mut AccessIndex)) -> Vec<Revoked> {
        let mut index = world();
        let before = index.grants();
        change(&mut index);
        before.lost(&index.grants())
    }

    fn in_cluster(user: &str, cluster: &str) -> Revoked {
        Revoked::UserInCluster { user: user.to_owned(), cluster: cluster.to_owned() }
    }

    #[test]
    fn whatever_takes_a_right_away_is_told() {
        let crtb = Kind::ClusterRoleTemplateBinding;
        assert_eq!(lost(|index| index.delete(crtb, Some("c-one"), "crtb-2")), [in_cluster("u-mia", "c-one")]);
        let moved = |index: &mut AccessIndex| bind(index, "c-one", "crtb-1", "u-olga", "cluster-member");
        assert_eq!(lost(moved), [in_cluster("u-olga", "c-one")], "a smaller role");
        let gone = lost(|index| index.delete(Kind::RoleTemplate, None, "cluster-member"));
        assert_eq!(gone, [in_cluster("u-mia", "c-one")]);
        let disabled = json!({ "username": "mia", "enabled": false });
        let user = lost(|index| index.apply(Kind::User, &object(None, "u-mia", disabled.clone())));
        assert_eq!(user, [Revoked::User("u-mia".to_owned())]);
        let must_change = json!({ "username": "mia", "mustChangePassword": true });
        let user = lost(|index| index.apply(Kind::User, &object(None, "u-mia", must_change.clone())));
        assert_eq!(user, [Revoked::User("u-mia".to_owned())]);
        let admin = lost(|index| index.delete(Kind::GlobalRoleBinding, None, "grb-1"));
        assert_eq!(admin, [Revoked::User("u-root".to_owned())]);
    }

    #[test]
    fn what_changes_nothing_or_adds_is_not_told() {
        assert_eq!(lost(|_| {}), []);
        assert_eq!(lost(|index| bind(index, "c-two", "crtb-9", "u-mia", "cluster-owner")), []);
        assert_eq!(lost(|index| bind_global(index, "grb-9", "u-mia", "admin")), []);
        assert_eq!(lost(|index| index.delete(Kind::GlobalRoleBinding, None, "grb-2")), [], "`user` opens no stream");
        let second = |index: &mut AccessIndex| {
            bind(index, "c-one", "crtb-9", "u-mia", "cluster-member");
            index.delete(Kind::ClusterRoleTemplateBinding, Some("c-one"), "crtb-2");
        };
        assert_eq!(lost(second), [], "another binding still gives it");
        let inherited = |index: &mut AccessIndex| {
            template(index, "wide", json!({ "roleTemplateNames": ["cluster-member"] }));
            bind(index, "c-one", "crtb-2", "u-mia", "wide");
        };
        assert_eq!(lost(inherited), []);
    }
}
