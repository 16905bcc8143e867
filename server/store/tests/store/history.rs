//! Lists at one revision, and watches.

use std::collections::BTreeMap;

use crate::fixture::{commit, create, crtb, delete, name, next, put, revision, update, user};
use cattle_api::resource;
use cattle_store::sqlite::Options;
use cattle_store::testing::{TestStore, memory, with_options};
use cattle_store::{Continue, EventKind, Page, Revision, Store, StoreError, WatchError};
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;

async fn page(store: &TestStore, limit: u32, from: Option<Continue>) -> Result<cattle_store::Listing, StoreError> {
    store.list(&resource::USER, None, Page { limit: Some(limit), from }).await
}

fn names(listing: &cattle_store::Listing) -> Vec<&str> {
    listing.items.iter().map(name).collect()
}

#[tokio::test]
async fn pages_show_one_revision_whatever_is_written() {
    let store = memory();
    for name in ["a", "b", "c", "d", "e", "f"] {
        put(&*store, create(user(name))).await;
    }
    let first = page(&store, 2, None).await.expect("a page");
    assert_eq!((names(&first), first.remaining, first.revision), (vec!["a", "b"], Some(4), Revision(6)));

    put(&*store, delete("c")).await;
    put(&*store, create(user("c"))).await;
    put(&*store, delete("c")).await;
    let mut changed = store.get(&crate::fixture::key("d")).await.expect("readable").expect("there");
    for username in ["one", "two"] {
        changed.data["username"] = json!(username);
        changed = put(&*store, update(changed)).await;
    }
    put(&*store, create(user("da"))).await;
    put(&*store, delete("da")).await;
    put(&*store, create(user("db"))).await;
    put(&*store, delete("a")).await;

    let second = page(&store, 2, first.next.clone()).await.expect("a page");
    assert_eq!((names(&second), second.remaining, second.revision), (vec!["c", "d"], Some(2), Revision(6)));
    assert_eq!(second.items[1].data["username"], "somebody");
    assert_eq!(revision(&second.items[1]), Revision(4));
    let third = page(&store, 2, second.next).await.expect("a page");
    assert_eq!((names(&third), third.next.is_none(), third.remaining), (vec!["e", "f"], true, None));

    for everything in [Page::ALL, Page { limit: Some(0), from: None }] {
        let now = store.list(&resource::USER, None, everything).await.expect("a list");
        assert_eq!((names(&now), now.next.is_none()), (vec!["b", "d", "db", "e", "f"], true));
    }
}

/// Against a model: random writes while pages are read, each of which must be what the model was at the first page.
#[tokio::test]
async fn pages_under_random_writes() {
    let store = memory();
    let matrix = cattle_matrix::Matrix::of_this_run("pages under writes");
    let mut random = matrix.random();
    let mut roll = move |sides: u64| random.u64(..sides);
    let mut model = BTreeMap::new();
    for _ in 0..matrix.pick(1000, 30) {
        let snapshot = model.clone();
        let mut seen = BTreeMap::new();
        let mut from = None;
        loop {
            let listing = page(&store, 1 + roll(5) as u32, from).await.expect("a page");
            let left = snapshot.len() - seen.len() - listing.items.len();
            assert_eq!(listing.remaining.unwrap_or_default(), left as u64);
            seen.extend(listing.items.iter().map(|item| (name(item).to_owned(), revision(item))));
            for _ in 0..roll(8) {
                write(&store, &mut model, &format!("u{}", roll(24)), roll(3)).await;
            }
            from = listing.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(seen, snapshot);
    }
    assert!(store.revision() > Revision(300), "the model was written to");
}

async fn write(store: &TestStore, model: &mut BTreeMap<String, Revision>, name: &str, kind: u64) {
    let current = store.get(&crate::fixture::key(name)).await.expect("readable");
    match (current, kind) {
        (None, _) => {
            let made = put(store, create(user(name))).await;
            model.insert(name.to_owned(), revision(&made));
        }
        (Some(_), 0) => {
            put(store, delete(name)).await;
            model.remove(name);
        }
        (Some(mut object), _) => {
            object.data["username"] = json!(store.revision().to_string());
            let changed = put(store, update(object)).await;
            model.insert(name.to_owned(), revision(&changed));
        }
    }
}

#[tokio::test]
async fn a_page_of_history_that_is_gone_is_expired() {
    let store = with_options(&Options::default().without_sync().with_history(10));
    for number in 0..5 {
        put(&*store, create(user(&format!("u{number}")))).await;
    }
    let first = page(&store, 2, None).await.expect("a page");
    for number in 5..30 {
        put(&*store, create(user(&format!("u{number}")))).await;
    }
    assert!(matches!(page(&store, 2, first.next).await, Err(StoreError::Expired)));
}

#[tokio::test]
async fn a_watch_tells_all_changes_in_order() {
    let store = memory();
    put(&*store, create(user("before"))).await;
    let mut watch = store.watch(&resource::USER, None, Revision(1)).await.expect("a watch");
    let made = put(&*store, create(user("a"))).await;
    put(&*store, create(crtb("c-aaaaa", "other"))).await;
    let mut changed = made.clone();
    changed.data["username"] = json!("changed");
    let changed = put(&*store, update(changed)).await;
    let gone = put(&*store, delete("a")).await;

    let added = next(&mut watch).await;
    assert_eq!((added.kind, &*added.object, added.previous.is_none()), (EventKind::Added, &made, true));
    let modified = next(&mut watch).await;
    assert_eq!((modified.kind, &*modified.object), (EventKind::Modified, &changed));
    assert_eq!(modified.previous.as_deref(), Some(&made));
    let deleted = next(&mut watch).await;
    assert_eq!((deleted.kind, &*deleted.object), (EventKind::Deleted, &gone));
    assert_eq!((deleted.previous.as_deref(), deleted.revision), (Some(&changed), Revision(5)));
    assert!(watch.next().now_or_never().is_none());
    assert_eq!(watch.position(), Revision(5));
}

#[tokio::test]
async fn a_watch_goes_on_where_another_ended() {
    let store = memory();
    for number in 0..300 {
        put(&*store, create(user(&format!("u{number}")))).await;
    }
    let mut watch = store.watch(&resource::USER, None, Revision(0)).await.expect("a watch");
    for expected in 1..=150 {
        assert_eq!(next(&mut watch).await.revision, Revision(expected));
    }
    let position = watch.position();
    drop(watch);
    put(&*store, delete("u7")).await;
    let mut watch = store.watch(&resource::USER, None, position).await.expect("a watch");
    for expected in 151..=301 {
        assert_eq!(next(&mut watch).await.revision, Revision(expected));
    }
}

#[tokio::test]
async fn bookmarks_move_on_with_changes_of_others() {
    let store = memory();
    let mut watch = store.watch(&resource::USER, None, Revision(0)).await.expect("a watch");
    put(&*store, create(crtb("c-aaaaa", "other"))).await;
    put(&*store, create(crtb("c-bbbbb", "other"))).await;
    assert!(watch.next().now_or_never().is_none());
    assert_eq!(watch.position(), Revision(2));
}

#[tokio::test]
async fn a_watch_of_a_namespace_sees_it_only() {
    let store = memory();
    let resource = &resource::CLUSTER_ROLE_TEMPLATE_BINDING;
    put(&*store, create(crtb("c-aaaaa", "early"))).await;
    let mut watch = store.watch(resource, Some("c-bbbbb"), Revision(0)).await.expect("a watch");
    put(&*store, create(crtb("c-aaaaa", "late"))).await;
    put(&*store, create(crtb("c-bbbbb", "mine"))).await;
    assert_eq!(name(&next(&mut watch).await.object), "mine");
}

#[tokio::test]
async fn a_slow_watch_reads_from_the_table_and_misses_nothing() {
    let store = with_options(&Options::default().without_sync().with_live(4));
    let mut watch = store.watch(&resource::USER, None, Revision(0)).await.expect("a watch");
    for number in 0..500 {
        put(&*store, create(user(&format!("u{number}")))).await;
    }
    for expected in 1..=500 {
        assert_eq!(next(&mut watch).await.revision, Revision(expected));
    }
}

#[tokio::test]
async fn a_watch_that_is_slower_than_history_is_kept_is_expired() {
    let store = with_options(&Options::default().without_sync().with_live(4).with_history(20));
    let mut watch = store.watch(&resource::USER, None, Revision(0)).await.expect("a watch");
    for number in 0..100 {
        put(&*store, create(user(&format!("u{number}")))).await;
    }
    assert!(matches!(watch.next().await, Some(Err(WatchError::Expired))));
    assert!(watch.next().await.is_none());
    let late = store.watch(&resource::USER, None, Revision(5)).await;
    assert!(matches!(late, Err(StoreError::Expired)), "{late:?}");
    store.watch(&resource::USER, None, Revision(95)).await.expect("this is kept");
}

#[tokio::test]
async fn a_revision_from_the_future_is_expired() {
    let store = memory();
    put(&*store, create(user("a"))).await;
    let future = store.watch(&resource::USER, None, Revision(2)).await;
    assert!(matches!(future, Err(StoreError::Expired)), "{future:?}");
}

#[tokio::test]
async fn watches_that_start_while_others_write_miss_nothing() {
    let store = memory();
    let writer = async {
        for number in 0..400 {
            commit(&*store, create(user(&format!("u{number}")))).await;
        }
    };
    let watcher = |after: u64| {
        let store = &store;
        async move {
            while store.revision() < Revision(after) {
                tokio::task::yield_now().await;
            }
            let mut watch = store.watch(&resource::USER, None, Revision(after)).await.expect("a watch");
            for expected in after + 1..=400 {
                assert_eq!(next(&mut watch).await.revision, Revision(expected));
            }
        }
    };
    tokio::join!(writer, futures_util::future::join_all((0..20).map(|number| watcher(number * 20))));
}

#[tokio::test]
async fn a_watch_ends_when_the_store_closes() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = cattle_store::SqliteStore::open(directory.path()).expect("opens");
    let mut watch = store.watch(&resource::USER, None, Revision(0)).await.expect("a watch");
    drop(store);
    assert!(watch.next().await.is_none());
}
