//! Watches: nothing lost, nothing twice, and an end that says why.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use cattle_store::sqlite::Options;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::support::{ADMIN, BOB, DEADLINE, MANAGEMENT, World, cluster, eventually};

/// An open watch, read event by event.
struct Watch {
    body: Body,
    rest: String,
}

impl Watch {
    async fn open(world: &World, user: &str, query: &str) -> Self {
        Self::open_as(world, user, query, "application/json").await
    }

    async fn open_as(world: &World, user: &str, query: &str, accept: &str) -> Self {
        let uri = format!("{MANAGEMENT}/clusters?watch=1&{query}");
        let request = Request::get(uri).header("accept", accept).body(Body::empty()).unwrap();
        let response = world.raw(user, request).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), rest: String::new() }
    }

    /// The next event, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(DEADLINE, self.read()).await.expect("an event or the end")
    }

    async fn read(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let event = serde_json::from_str(line).unwrap();
                self.rest = rest.to_owned();
                return Some(event);
            }
            let frame = self.body.frame().await?.unwrap();
            self.rest.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let event = self.next().await.expect("an event");
        assert_eq!(
            (event["type"].as_str(), event["object"]["metadata"]["name"].as_str()),
            (Some(kind), Some(name)),
            "{event}"
        );
        event["object"].clone()
    }
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn label(world: &World, name: &str, value: &Value) {
    let body = json!({"metadata": {"labels": {"env": value}}});
    world.merge(ADMIN, &format!("{MANAGEMENT}/clusters/{name}"), &body).await.expect(200);
}

#[tokio::test]
async fn changes_come_in_order_from_the_version_asked_for() {
    let world = World::new().await;
    let first = world.cluster("c-aaaaa").await;
    let mut watch = Watch::open(&world, ADMIN, &format!("resourceVersion={}", version(&first))).await;
    world.cluster("c-bbbbb").await;
    label(&world, "c-aaaaa", &json!("x")).await;
    world.delete(ADMIN, &format!("{MANAGEMENT}/clusters/c-bbbbb")).await.expect(200);
    let added = watch.expect("ADDED", "c-bbbbb").await;
    let modified = watch.expect("MODIFIED", "c-aaaaa").await;
    let deleted = watch.expect("DELETED", "c-bbbbb").await;
    assert!(version(&added) < version(&modified) && version(&modified) < version(&deleted));
}

#[tokio::test]
async fn without_a_version_the_present_comes_first() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    for query in
        ["", "resourceVersion=0", "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"]
    {
        let mut watch = Watch::open(&world, ADMIN, query).await;
        watch.expect("ADDED", "c-aaaaa").await;
        if query.starts_with("send") {
            let end = watch.next().await.unwrap();
            assert_eq!((&end["type"], &end["object"]["kind"]), (&json!("BOOKMARK"), &json!("Cluster")));
            assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
            assert_eq!(version(&end["object"]), cattle_store::Store::revision(world.store.as_ref()).0);
        }
        label(&world, "c-aaaaa", &json!(query.len().to_string())).await;
        watch.expect("MODIFIED", "c-aaaaa").await;
    }
}

#[tokio::test]
async fn an_object_enters_and_leaves_a_selection() {
    let world = World::new().await;
    let first = world.cluster("c-aaaaa").await;
    let mut watch =
        Watch::open(&world, ADMIN, &format!("resourceVersion={}&labelSelector=env%3Dprod", version(&first))).await;
    for value in [json!("dev"), json!("prod"), json!("prod2"), json!("prod")] {
        label(&world, "c-aaaaa", &value).await;
    }
    watch.expect("ADDED", "c-aaaaa").await;
    watch.expect("DELETED", "c-aaaaa").await;
    watch.expect("ADDED", "c-aaaaa").await;
    world.delete(ADMIN, &format!("{MANAGEMENT}/clusters/c-aaaaa")).await.expect(200);
    watch.expect("DELETED", "c-aaaaa").await;
}

#[tokio::test]
async fn a_timeout_ends_a_watch_quietly() {
    let world = World::new().await;
    let mut watch = Watch::open(&world, ADMIN, "timeoutSeconds=1").await;
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_without_news_says_how_far_it_has_come() {
    let world = World::new().await;
    let mut watch = Watch::open(&world, ADMIN, "allowWatchBookmarks=true&fieldSelector=metadata.name%3Dc-bbbbb").await;
    // Nothing that it is to show.
    world.cluster("c-aaaaa").await;
    let now = cattle_store::Store::revision(world.store.as_ref()).0;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(30)).await;
    let mark = watch.next().await.unwrap();
    assert_eq!((&mark["type"], &mark["object"]["kind"]), (&json!("BOOKMARK"), &json!("Cluster")));
    assert_eq!((version(&mark["object"]), mark["object"]["metadata"]["annotations"].is_null()), (now, true));
}

#[tokio::test]
async fn computed_fields_wake_watchers() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    let mut watch = Watch::open(&world, ADMIN, "").await;
    let object = watch.expect("ADDED", "c-aaaaa").await;
    assert_eq!(object["status"]["conditions"][0]["status"], "False");
    world.computed.set_ready("c-aaaaa", true);
    let object = watch.expect("MODIFIED", "c-aaaaa").await;
    assert_eq!(object["status"]["conditions"][0]["status"], "True");
    // Announced again, and for all, without a change: no event until there is one.
    world.computed.set_ready("c-aaaaa", true);
    world.computed.announce_all();
    world.cluster("c-bbbbb").await;
    watch.expect("ADDED", "c-bbbbb").await;
}

#[tokio::test]
async fn what_changes_all_the_time_is_shown_and_is_no_news() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    let mut watch = Watch::open(&world, ADMIN, "").await;
    watch.expect("ADDED", "c-aaaaa").await;
    world.computed.streams.store(7, Ordering::SeqCst);
    world.computed.announce_all();
    world.computed.set_ready("c-aaaaa", true);
    let object = watch.expect("MODIFIED", "c-aaaaa").await;
    assert_eq!(object["status"]["conditions"][0]["status"], "True", "the change before was no event");
    assert_eq!(object["status"]["agents"][0]["streams"], 7);
}

#[tokio::test]
async fn tables_are_watched_with_one_header() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    world.cluster("c-bbbbb").await;
    let mut watch = Watch::open_as(&world, ADMIN, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let (one, two) = (watch.next().await.unwrap(), watch.next().await.unwrap());
    assert!(!one["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    assert!(two["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    assert_eq!(two["object"]["rows"][0]["cells"][0], "c-bbbbb");
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_over_resumptions_under_writes() {
    const OBJECTS: usize = 8;
    const CHANGES: usize = 40;
    let world = World::new().await;
    for at in 0..OBJECTS {
        world.cluster(&format!("c-aaa{at:02}")).await;
    }
    let mut from = cattle_store::Store::revision(world.store.as_ref()).0;
    let writers = futures_util::future::join_all((0..OBJECTS).map(|at| {
        let world = &world;
        async move {
            for change in 0..CHANGES {
                label(world, &format!("c-aaa{at:02}"), &json!(format!("v{change}"))).await;
            }
        }
    }));
    let reader = async {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while seen.values().map(Vec::len).sum::<usize>() < OBJECTS * CHANGES {
            // A few events, then away, then again from the last version seen.
            let mut watch = Watch::open(&world, ADMIN, &format!("resourceVersion={from}")).await;
            for _ in 0..7 {
                if seen.values().map(Vec::len).sum::<usize>() == OBJECTS * CHANGES {
                    break;
                }
                let event = watch.next().await.unwrap();
                assert_eq!(event["type"], "MODIFIED", "{event}");
                let object = &event["object"];
                assert!(version(object) > from, "versions only grow");
                from = version(object);
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                seen.entry(name).or_default().push(object["metadata"]["labels"]["env"].as_str().unwrap().to_owned());
            }
        }
        seen
    };
    let (_, seen) = tokio::join!(writers, reader);
    let wanted: Vec<String> = (0..CHANGES).map(|change| format!("v{change}")).collect();
    assert_eq!(seen.len(), OBJECTS);
    for (name, values) in seen {
        assert_eq!(values, wanted, "{name}");
    }
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_to_list_again() {
    let options = Options::default().without_sync().with_history(20).with_live(4);
    let world = World::over(cattle_store::testing::with_options(&options)).await;
    let first = world.cluster("c-aaaaa").await;
    let mut slow = Watch::open(&world, ADMIN, &format!("resourceVersion={}", version(&first))).await;
    for at in 0..200 {
        label(&world, "c-aaaaa", &json!(format!("v{at}"))).await;
    }
    let mut last = slow.next().await;
    while let Some(event) = last.as_ref().filter(|event| event["type"] != "ERROR") {
        assert_eq!(event["type"], "MODIFIED");
        last = slow.next().await;
    }
    let error = last.expect("an error before the end");
    assert_eq!(
        (&error["object"]["kind"], &error["object"]["code"], &error["object"]["reason"]),
        (&json!("Status"), &json!(410), &json!("Expired"))
    );
    assert_eq!(slow.next().await, None);
    let uri = format!("{MANAGEMENT}/clusters?watch=1&resourceVersion={}", version(&first));
    world.get(ADMIN, &uri).await.refused(410, "Expired");
}

#[tokio::test]
async fn roles_that_change_end_what_they_no_longer_allow() {
    let world = World::new().await;
    world.cluster("c-aaaaa").await;
    world.cluster("c-bbbbb").await;
    world.bind(BOB, "c-aaaaa", "cluster-member").await;
    let mut watch = Watch::open(&world, BOB, "").await;
    watch.expect("ADDED", "c-aaaaa").await;
    label(&world, "c-bbbbb", &json!("hidden")).await;
    label(&world, "c-aaaaa", &json!("shown")).await;
    watch.expect("MODIFIED", "c-aaaaa").await;
    world.bind(BOB, "c-bbbbb", "cluster-member").await;
    let end = watch.next().await.unwrap();
    assert_eq!(end["object"]["code"], 410, "{end}");

    let mut watch = Watch::open(&world, BOB, "").await;
    watch.expect("ADDED", "c-aaaaa").await;
    watch.expect("ADDED", "c-bbbbb").await;
    let binding = format!("{MANAGEMENT}/namespaces/c-bbbbb/clusterroletemplatebindings/{BOB}-cluster-member");
    world.delete(ADMIN, &binding).await.expect(200);
    let end = watch.next().await.unwrap();
    assert_eq!(end["object"]["code"], 410, "{end}");

    let mut watch = Watch::open(&world, BOB, "").await;
    watch.expect("ADDED", "c-aaaaa").await;
    world.delete(ADMIN, &format!("{MANAGEMENT}/users/{BOB}")).await.expect(200);
    let end = watch.next().await.unwrap();
    assert!(matches!(end["object"]["code"].as_u64(), Some(403 | 410)), "{end}");
}

#[tokio::test]
async fn a_new_cluster_reaches_its_owners_watch() {
    let world = World::new().await;
    let mut watch = Watch::open(&world, BOB, "").await;
    world.post(BOB, &format!("{MANAGEMENT}/clusters"), &cluster("c-mine0", "mine")).await.expect(201);
    // The event may come before the role is known: then the watch ends, and the next one begins with the object.
    let event = watch.next().await.unwrap();
    if event["type"] == "ERROR" {
        assert_eq!(event["object"]["code"], 410, "{event}");
        watch = Watch::open(&world, BOB, "").await;
        watch.expect("ADDED", "c-mine0").await;
    } else {
        assert_eq!(event["object"]["metadata"]["name"], "c-mine0");
    }
    eventually("the list", || async {
        world.get(BOB, &format!("{MANAGEMENT}/clusters")).await.body["items"]
            .as_array()
            .is_some_and(|items| items.len() == 1)
    })
    .await;
}
