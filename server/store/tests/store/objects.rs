//! Objects, transactions, names, finalizers, sealed values.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::fixture::{commit, create, crtb, delete, key, name, object, put, revision, seal, unsealed, update, user};
use cattle_api::management::{Cluster, ClusterSpec};
use cattle_api::resource;
use cattle_store::testing::memory;
use cattle_store::{Invalid, Key, Page, Revision, Secret, Store, StoreError, Transaction, Typed, Write};
use serde_json::json;

#[tokio::test]
async fn the_store_sets_the_metadata() {
    let store = memory();
    let mut forged = user("u-aaaaa");
    forged.metadata.uid = Some("forged".to_owned());
    forged.metadata.generation = Some(99);
    let made = put(&*store, create(forged)).await;
    assert_ne!(made.metadata.uid.as_deref(), Some("forged"));
    assert_eq!((made.metadata.generation, revision(&made)), (Some(1), Revision(1)));
    assert!(made.metadata.creation_timestamp.is_some());
    assert_eq!(store.get(&key("u-aaaaa")).await.expect("readable"), Some(made));
    assert_eq!(store.get(&key("u-bbbbb")).await.expect("readable"), None);
    assert_eq!(store.revision(), Revision(1));
}

#[tokio::test]
async fn of_two_updates_of_one_revision_one_is_a_conflict() {
    let store = memory();
    let made = put(&*store, create(user("u-aaaaa"))).await;
    let with = |name: &str| {
        let mut changed = made.clone();
        changed.data["username"] = json!(name);
        update(changed)
    };
    let (one, two) = tokio::join!(store.commit(with("one")), store.commit(with("two")));
    let conflicts = [&one, &two].into_iter().filter(|result| matches!(result, Err(StoreError::Conflict(_)))).count();
    assert_eq!(conflicts, 1, "{one:?} {two:?}");
    let stored = store.get(&key("u-aaaaa")).await.expect("readable").expect("there");
    assert_eq!(stored.metadata.generation, Some(2));
}

#[tokio::test]
async fn of_many_creates_of_one_name_one_wins() {
    let store = memory();
    let results = futures_util::future::join_all((0..20).map(|_| store.commit(create(user("u-aaaaa"))))).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 19));
    assert!(lost.iter().all(|result| matches!(result, Err(StoreError::AlreadyExists(_)))));
    assert_eq!(store.revision(), Revision(1), "who lost left no revision");
}

#[tokio::test]
async fn a_generated_name_is_free_and_has_the_prefix() {
    let store = memory();
    let mut names = BTreeSet::new();
    for _ in 0..50 {
        let made = put(&*store, create(object(json!({"generateName": "u-"}), "x"))).await;
        assert!(name(&made).starts_with("u-") && name(&made).len() == 7, "{}", name(&made));
        names.insert(name(&made).to_owned());
    }
    assert_eq!(names.len(), 50);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused() {
    let store = memory();
    let refused = async |object| match store.commit(create(object)).await {
        Err(StoreError::Invalid(invalid)) => invalid,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(object(json!({}), "x")).await, Invalid::Name);
    for bad in ["..", "a/b", "A", "", "-a"] {
        assert_eq!(refused(user(bad)).await, Invalid::Name, "{bad}");
    }
    assert_eq!(refused(object(json!({"name": "a", "namespace": "b"}), "x")).await, Invalid::Namespace);
    let mut lost = crtb("c-aaaaa", "one");
    lost.metadata.namespace = None;
    assert_eq!(refused(lost).await, Invalid::Namespace);
    let mut unknown = user("a");
    unknown.types.as_mut().expect("types").kind = "Unknown".to_owned();
    assert_eq!(refused(unknown).await, Invalid::UnknownKind);
    assert_eq!(refused(object(json!({"name": "a", "resourceVersion": "1"}), "x")).await, Invalid::Revision);
    let mut secret = user("a");
    secret.data["password"] = json!("secret");
    assert_eq!(refused(secret).await, Invalid::Transient("/password"));
    assert_eq!(store.revision(), Revision(0));
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let store = memory();
    put(&*store, create(user("u-aaaaa"))).await;
    let both = |second: &str| {
        let sealed = vec![("password-hash".to_owned(), Secret::from("hash".to_owned()))];
        Transaction::new(vec![
            Write::Create { object: user("u-bbbbb"), sealed },
            Write::Delete { key: key("u-aaaaa"), uid: None, revision: None },
            Write::Create { object: user(second), sealed: Vec::new() },
        ])
    };
    let error = store.commit(both("u-bbbbb")).await.expect_err("twice the same");
    assert!(matches!(error, StoreError::AlreadyExists(_)), "{error}");
    assert!(store.get(&key("u-aaaaa")).await.expect("readable").is_some());
    assert!(store.get(&key("u-bbbbb")).await.expect("readable").is_none());
    assert_eq!(store.revision(), Revision(1));

    let committed = commit(&*store, both("u-ccccc")).await;
    assert_eq!(committed.objects.iter().map(name).collect::<Vec<_>>(), ["u-bbbbb", "u-aaaaa", "u-ccccc"]);
    assert_eq!(committed.revision, Revision(4));
    assert_eq!(unsealed(&*store, "u-bbbbb", "password-hash").await.expect("opens").as_deref(), Some("hash"));
}

#[tokio::test]
async fn a_requirement_fails_the_transaction() {
    let store = memory();
    let made = put(&*store, create(user("u-aaaaa"))).await;
    let requires = |name: &str, uid: Option<&str>, revision: Option<u64>| {
        Transaction::new(vec![
            Write::Require { key: key(name), uid: uid.map(str::to_owned), revision: revision.map(Revision) },
            Write::Create { object: user("u-bbbbb"), sealed: Vec::new() },
        ])
    };
    let uid = made.metadata.uid.as_deref();
    assert!(matches!(store.commit(requires("u-ccccc", None, None)).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.commit(requires("u-aaaaa", Some("other"), None)).await, Err(StoreError::Conflict(_))));
    assert!(matches!(store.commit(requires("u-aaaaa", uid, Some(2))).await, Err(StoreError::Conflict(_))));
    commit(&*store, requires("u-aaaaa", uid, Some(1))).await;
}

#[tokio::test]
async fn a_dry_run_answers_and_keeps_nothing() {
    let store = memory();
    let dry = |name: &str| Transaction::dry(vec![Write::Create { object: user(name), sealed: Vec::new() }]);
    let committed = commit(&*store, dry("u-aaaaa")).await;
    assert!(committed.objects[0].metadata.uid.is_some());
    assert_eq!((committed.revision, store.revision()), (Revision(0), Revision(0)));
    assert!(store.get(&key("u-aaaaa")).await.expect("readable").is_none());
    put(&*store, create(user("u-aaaaa"))).await;
    assert!(matches!(store.commit(dry("u-aaaaa")).await, Err(StoreError::AlreadyExists(_))));
}

#[tokio::test]
async fn finalizers_hold_a_deleted_object() {
    let store = memory();
    let made = put(&*store, create(object(json!({"name": "u-aaaaa", "finalizers": ["a/a"]}), "x"))).await;
    commit(&*store, seal("u-aaaaa", "password-hash", Some("hash"))).await;
    let marked = put(&*store, delete("u-aaaaa")).await;
    assert!(marked.metadata.deletion_timestamp.is_some() && revision(&marked) > revision(&made));
    assert_eq!(revision(&put(&*store, delete("u-aaaaa")).await), revision(&marked), "twice is once");
    let mut free = marked.clone();
    free.metadata.finalizers = None;
    let last = put(&*store, update(free)).await;
    assert!(revision(&last) > revision(&marked));
    assert!(store.get(&key("u-aaaaa")).await.expect("readable").is_none());
    assert!(matches!(store.commit(delete("u-aaaaa")).await, Err(StoreError::NotFound(_))));

    put(&*store, create(user("u-aaaaa"))).await;
    assert_eq!(unsealed(&*store, "u-aaaaa", "password-hash").await.expect("opens"), None, "gone with its object");
}

#[tokio::test]
async fn an_update_without_a_change_writes_nothing() {
    let store = memory();
    let made = put(&*store, create(user("u-aaaaa"))).await;
    let same = put(&*store, update(made.clone())).await;
    assert_eq!((same, store.revision()), (made, Revision(1)));
}

#[tokio::test]
async fn sealed_values_are_set_replaced_and_removed() {
    let store = memory();
    put(&*store, create(user("u-aaaaa"))).await;
    assert_eq!(unsealed(&*store, "u-aaaaa", "a").await.expect("opens"), None);
    for value in [Some("one"), Some("two"), None] {
        commit(&*store, seal("u-aaaaa", "a", value)).await;
        assert_eq!(unsealed(&*store, "u-aaaaa", "a").await.expect("opens").as_deref(), value);
    }
    assert!(matches!(store.commit(seal("u-bbbbb", "a", Some("x"))).await, Err(StoreError::NotFound(_))));
    assert_eq!(store.revision(), Revision(1), "the object is what it was");
}

#[tokio::test]
async fn namespaces_are_apart() {
    let store = memory();
    for namespace in ["c-aaaaa", "c-bbbbb"] {
        put(&*store, create(crtb(namespace, "owner"))).await;
    }
    let in_one =
        store.list(&resource::CLUSTER_ROLE_TEMPLATE_BINDING, Some("c-aaaaa"), Page::ALL).await.expect("a list");
    assert_eq!(in_one.items.len(), 1);
    let all = store.list(&resource::CLUSTER_ROLE_TEMPLATE_BINDING, None, Page::ALL).await.expect("a list");
    assert_eq!(all.items.len(), 2);
    let other = Key::namespaced(&resource::CLUSTER_ROLE_TEMPLATE_BINDING, "c-ccccc", "owner");
    assert_eq!(store.get(&other).await.expect("readable"), None);
}

#[tokio::test]
async fn typed_objects_are_changed_by_many_at_once() {
    let store: Arc<dyn Store> = memory();
    let clusters = Typed::<Cluster>::new(store);
    let spec = ClusterSpec { display_name: "0".to_owned(), ..ClusterSpec::default() };
    clusters.create(&Cluster::new("c-aaaaa", spec), Vec::new()).await.expect("made");
    let add = || {
        clusters.modify(None, "c-aaaaa", |cluster| {
            let number: u32 = cluster.spec.display_name.parse().expect("a number");
            cluster.spec.display_name = (number + 1).to_string();
        })
    };
    let results = futures_util::future::join_all((0..8).map(|_| add())).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let (all, _) = clusters.list(None).await.expect("a list");
    assert_eq!(all[0].spec.display_name, "8");
    assert!(clusters.delete(None, "c-aaaaa").await.expect("deleted"));
    assert!(!clusters.delete(None, "c-aaaaa").await.expect("gone"));
    assert!(clusters.get(None, "c-aaaaa").await.expect("readable").is_none());
}
