use cattle_manifest::{impersonation_namespace, names};
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::identity::Identity;

fn alice() -> Impersonator {
    Impersonator::new(Identity::local("u-alice", "alice").unwrap())
}

/// An API server of one page: does a step, and gives out UIDs and names.
#[derive(Default, Clone)]
struct World {
    observed: Observed,
    made: u32,
    log: Vec<String>,
}

impl World {
    fn finish(&mut self, meta: &mut ObjectMeta) {
        self.made += 1;
        meta.uid.get_or_insert_with(|| format!("uid-{}", self.made));
        if let (None, Some(prefix)) = (&meta.name, &meta.generate_name) {
            meta.name = Some(format!("{prefix}{}", self.made));
        }
    }

    fn act(&mut self, step: Step) {
        self.log.push(format!("{step:?}").split(['(', ' ']).next().unwrap().to_owned());
        match step {
            Step::CreateNamespace => self.observed.namespace = Some(impersonation_namespace()),
            Step::CreateOwnRights => self.observed.own_rights = Some(cattle_manifest::access::impersonation_binding()),
            Step::CreateRole(mut object) | Step::UpdateRole(mut object) => {
                self.finish(&mut object.metadata);
                self.observed.role = Some(object);
            }
            Step::CreateAccount(mut object) | Step::UpdateAccount(mut object) => {
                self.finish(&mut object.metadata);
                self.observed.account = Some(object);
            }
            Step::CreateBinding(mut object) | Step::UpdateBinding(mut object) => {
                self.finish(&mut object.metadata);
                self.observed.binding = Some(object);
            }
            Step::CreateSecret(mut object) => {
                self.finish(&mut object.metadata);
                self.observed.secrets.push(object);
            }
            Step::DeleteBinding(_) => self.observed.binding = None,
            Step::DeleteRole(_) => self.observed.role = None,
            Step::DeleteAccount(_) => self.observed.account = None,
            Step::DeleteSecret(meta) => self.observed.secrets.retain(|secret| secret.metadata.name != meta.name),
        }
    }

    /// Kubernetes' token controller.
    fn fill_tokens(&mut self) {
        for secret in &mut self.observed.secrets {
            let token = format!("token of {}", secret.metadata.name.as_deref().unwrap());
            secret.data.get_or_insert_default().insert("token".into(), ByteString(token.into_bytes()));
        }
    }

    fn run(&mut self, desired: Option<&Impersonator>) -> Next {
        for _ in 0..20 {
            match decide(desired, &self.observed) {
                Next::Do(step) => self.act(step),
                Next::Wait(_) if self.observed.secrets.iter().any(|secret| token(secret).is_none()) => {
                    self.fill_tokens()
                }
                end @ (Next::Wait(_) | Next::Done(_) | Next::Conflict(_)) => return end,
            }
        }
        panic!("no end: {:?}", self.log);
    }
}

fn built() -> World {
    let mut world = World::default();
    assert!(matches!(world.run(Some(&alice())), Next::Done(Some(_))));
    world.log.clear();
    world
}

#[test]
fn made_in_order_and_then_left_alone() {
    let mut world = World::default();
    let Next::Done(Some(first)) = world.run(Some(&alice())) else { panic!("not built") };
    assert_eq!(
        world.log,
        ["CreateNamespace", "CreateOwnRights", "CreateRole", "CreateAccount", "CreateBinding", "CreateSecret"]
    );
    world.log.clear();
    assert_eq!(world.run(Some(&alice())), Next::Done(Some(first)));
    assert!(world.log.is_empty());
    let owner = |meta: &ObjectMeta| meta.owner_references.as_ref().unwrap()[0].kind.clone();
    assert_eq!(owner(&world.observed.account.as_ref().unwrap().metadata), "ClusterRole");
    assert_eq!(owner(&world.observed.binding.as_ref().unwrap().metadata), "ClusterRole");
    assert_eq!(owner(&world.observed.secrets[0].metadata), "ServiceAccount");
}

#[test]
fn whatever_is_deleted_by_hand_comes_back() {
    let deletions: [fn(&mut Observed); 5] = [
        |observed| observed.role = None,
        |observed| observed.account = None,
        |observed| observed.binding = None,
        |observed| observed.secrets.clear(),
        |observed| *observed = Observed::default(),
    ];
    for delete in deletions {
        let mut world = built();
        let old = world.observed.secrets[0].metadata.name.clone();
        delete(&mut world.observed);
        let gone = world.observed.secrets.is_empty();
        assert!(matches!(world.run(Some(&alice())), Next::Done(Some(_))), "{:?}", world.log);
        assert!(!world.log.is_empty());
        // A token that was deleted because it leaked must not come back under its name.
        assert_eq!(gone, world.observed.secrets[0].metadata.name != old);
    }
}

#[test]
fn whatever_is_changed_by_hand_is_repaired() {
    let changes: [fn(&mut Observed); 6] = [
        |observed| observed.role.as_mut().unwrap().rules = None,
        |observed| {
            observed.role.as_mut().unwrap().rules.as_mut().unwrap()[0].resource_names = Some(vec!["u-bob".into()])
        },
        |observed| {
            drop(observed.role.as_mut().unwrap().metadata.labels.as_mut().unwrap().remove(names::IMPERSONATOR_LABEL))
        },
        |observed| observed.binding.as_mut().unwrap().role_ref.name = "cluster-admin".into(),
        |observed| observed.binding.as_mut().unwrap().subjects = None,
        |observed| observed.account.as_mut().unwrap().automount_service_account_token = Some(true),
    ];
    for change in changes {
        let mut world = built();
        change(&mut world.observed);
        assert!(matches!(world.run(Some(&alice())), Next::Done(Some(_))));
        assert!(!world.log.is_empty());
        assert_eq!(world.observed.role.as_ref().unwrap().rules, alice().role().rules);
        assert_eq!(world.observed.binding.as_ref().unwrap().role_ref, alice().binding(None).role_ref);
    }
}

#[test]
fn an_account_that_was_made_again_gets_a_new_token() {
    let mut world = built();
    let uid = world.observed.account.as_ref().unwrap().metadata.uid.clone().unwrap();
    let meta = &mut world.observed.secrets[0].metadata;
    meta.annotations.as_mut().unwrap().insert(ACCOUNT_UID_ANNOTATION.into(), uid);
    let old = meta.name.clone();
    world.observed.account.as_mut().unwrap().metadata.uid = Some("another".into());
    assert!(matches!(world.run(Some(&alice())), Next::Done(Some(_))));
    assert!(world.observed.secrets.len() == 1 && world.observed.secrets[0].metadata.name != old, "{:?}", world.log);
}

#[test]
fn an_answer_that_got_lost_leaves_one_secret() {
    let mut world = built();
    let mut twin = world.observed.secrets[0].clone();
    twin.metadata.name = Some("cattle-impersonation-u-alice-token-zzzzz".into());
    world.observed.secrets.push(twin);
    let kept = world.observed.secrets[0].metadata.name.clone();
    assert!(matches!(world.run(Some(&alice())), Next::Done(Some(_))));
    assert_eq!(world.log, ["DeleteSecret"]);
    assert_eq!(world.observed.secrets[0].metadata.name, kept);
}

#[test]
fn access_that_ends_takes_the_rights_first_and_leaves_nothing() {
    let mut world = built();
    assert_eq!(world.run(None), Next::Done(None));
    assert_eq!(world.log, ["DeleteBinding", "DeleteRole", "DeleteSecret", "DeleteAccount"]);
    world.log.clear();
    assert_eq!(world.run(None), Next::Done(None));
    assert!(world.log.is_empty());
}

#[test]
fn rights_that_were_taken_from_the_server_come_back_before_they_are_needed() {
    for desired in [Some(alice()), None] {
        let mut world = built();
        world.observed.own_rights = None;
        world.run(desired.as_ref());
        assert!(world.log.contains(&"CreateOwnRights".to_owned()), "{:?}", world.log);
    }
    let mut world = built();
    (world.observed.namespace, world.observed.own_rights) = (None, None);
    (world.observed.account, world.observed.secrets) = (None, Vec::new());
    assert_eq!(world.run(None), Next::Done(None));
    assert_eq!(world.log, ["DeleteBinding", "DeleteRole"]);
}

#[test]
fn somebody_elses_objects_are_never_touched() {
    let mut world = built();
    world.observed.role.as_mut().unwrap().metadata.labels = None;
    let conflict = Conflict { kind: "ClusterRole", name: "cattle-impersonation-u-alice".into() };
    assert_eq!(decide(Some(&alice()), &world.observed), Next::Conflict(conflict));
    let mut world = built();
    for meta in [
        &mut world.observed.role.as_mut().unwrap().metadata,
        &mut world.observed.account.as_mut().unwrap().metadata,
        &mut world.observed.binding.as_mut().unwrap().metadata,
        &mut world.observed.secrets[0].metadata,
    ] {
        meta.labels = None;
    }
    assert_eq!(decide(None, &world.observed), Next::Done(None));
}

#[test]
fn what_is_being_deleted_is_waited_for() {
    let mut world = built();
    let now = Time(jiff::Timestamp::UNIX_EPOCH);
    world.observed.namespace.as_mut().unwrap().metadata.deletion_timestamp = Some(now);
    let Next::Wait(why) = decide(Some(&alice()), &world.observed) else { panic!("did not wait") };
    assert!(why.contains("cattle-impersonation-system"));
}

#[test]
fn the_token_is_the_secrets() {
    let mut world = built();
    let Next::Done(Some(bytes)) = world.run(Some(&alice())) else { panic!("not built") };
    assert_eq!(bytes, format!("token of {}", world.observed.secrets[0].metadata.name.as_deref().unwrap()).into_bytes());
    world.observed.secrets[0].data = None;
    assert!(matches!(decide(Some(&alice()), &world.observed), Next::Wait(why) if why.contains("controller manager")));
}
