//! Access that ends, ends what runs.

use cattle_proxy::Selector;

use crate::fake::{Handler, handler};
use crate::rig::{CLUSTER, Rig, soon, until};
use tokio::io::AsyncReadExt;

/// Sends these bytes as one chunk of an endless answer, and waits until it is closed.
fn endless(kind: &'static str, text: &'static str) -> Handler {
    handler(move |mut connection, _| async move {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
        connection.write(format!("{head}{:x}\r\n{text}\r\n", text.len())).await;
        connection.closed().await;
        None
    })
}

#[tokio::test]
async fn a_watch_ends_between_two_events() {
    let rig = Rig::start(endless("application/json", "{\"type\":\"ADDED\"}\n")).await;
    let mut client = rig.connect().await;
    client.request("GET /api/v1/pods?watch=true", "", "").await;
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"{\"type\":\"ADDED\"}\n");
    assert_eq!(rig.proxy.streams().close(&Selector::User("u-bob".to_owned())), 0);
    assert_eq!(rig.proxy.streams().close(&Selector::User("u-alice".to_owned())), 1);
    // The last chunk, and a connection that can be used again.
    assert_eq!(soon("end", client.chunk()).await, None);
    rig.fake.answer(crate::fake::always(crate::fake::ok("again")));
    client.request("GET /api", "", "").await;
    assert_eq!(soon("again", client.answer()).await.unwrap().body, "again");
}

#[tokio::test]
async fn a_protobuf_watch_ends_between_two_events() {
    let rig = Rig::start(endless("application/vnd.kubernetes.protobuf;stream=watch", "\0\0\0\x03abc")).await;
    let mut client = rig.connect().await;
    client.request("GET /api/v1/pods?watch=true", "", "").await;
    client.head().await.unwrap();
    client.chunk().await.unwrap();
    rig.proxy.streams().close(&Selector::All);
    assert_eq!(soon("end", client.chunk()).await, None);
    rig.fake.answer(crate::fake::always(crate::fake::ok("again")));
    client.request("GET /api", "", "").await;
    assert_eq!(soon("again", client.answer()).await.unwrap().body, "again");
}

#[tokio::test]
async fn a_watch_in_the_middle_of_an_event_is_cut_off() {
    let rig = Rig::start(endless("application/json", "{\"type\":\"ADDED\"}\n{\"ty")).await;
    let mut client = rig.connect().await;
    client.request("GET /api/v1/pods?watch=true", "", "").await;
    client.head().await.unwrap();
    client.chunk().await.unwrap();
    rig.proxy.streams().close(&Selector::Cluster(CLUSTER.parse().unwrap()));
    let mut rest = Vec::new();
    drop(soon("cut", client.io.read_to_end(&mut rest)).await);
    assert!(rest.is_empty(), "no end that could be taken for the end: {rest:?}");
}

#[tokio::test]
async fn other_answers_are_cut_off() {
    let rig = Rig::start(endless("text/plain", "a line\n")).await;
    let mut client = rig.connect().await;
    client.request("GET /api/v1/namespaces/a/pods/b/log?follow=true", "", "").await;
    client.head().await.unwrap();
    client.chunk().await.unwrap();
    rig.proxy.streams().close(&Selector::Member("u-alice".to_owned(), CLUSTER.parse().unwrap()));
    let mut rest = Vec::new();
    drop(soon("cut", client.io.read_to_end(&mut rest)).await);
    assert!(rest.is_empty());
    until("none runs", || rig.proxy.streams().is_empty()).await;
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_is_told() {
    let rig = Rig::start(handler(|mut connection, _| async move {
        connection.closed().await;
        None
    }))
    .await;
    let mut client = rig.connect().await;
    client.request("GET /api", "", "").await;
    until("it runs", || !rig.fake.seen().is_empty()).await;
    rig.proxy.streams().close_where(|user, _| user.token().as_str() == "token-u-alice");
    assert_eq!(soon("told", client.answer()).await.unwrap().status, 401);
    until("the connection is closed", || rig.metrics.connections() == (1, 1)).await;
}

#[tokio::test]
async fn an_upgraded_connection_is_closed_on_both_sides() {
    let rig = Rig::start(handler(|mut connection, _| async move {
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\nhello";
        connection.write(switch).await;
        connection.closed().await;
        None
    }))
    .await;
    let mut client = rig.connect().await;
    client.request("POST /api/v1/namespaces/a/pods/b/exec", "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n", "").await;
    assert_eq!(soon("switch", client.answer()).await.unwrap().status, 101);
    while client.buffer != b"hello" {
        assert!(client.fill().await);
    }
    rig.proxy.streams().close(&Selector::User("u-alice".to_owned()));
    let mut rest = Vec::new();
    drop(soon("closed", client.io.read_to_end(&mut rest)).await);
    until("both are closed", || rig.metrics.connections() == (1, 1) && rig.proxy.streams().is_empty()).await;
    let last = rig.audit.lines().pop().unwrap();
    assert_eq!(
        (&last["stage"], &last["responseStatus"]["reason"]),
        (&"ResponseComplete".into(), &"AccessEnded".into())
    );
}

#[tokio::test]
async fn a_forgotten_cluster_leaves_nothing_open() {
    let rig = Rig::start(endless("application/json", "{}\n")).await;
    let mut client = rig.connect().await;
    client.request("GET /api/v1/pods?watch=true", "", "").await;
    client.head().await.unwrap();
    client.chunk().await.unwrap();
    rig.world.clusters.lock().clear();
    rig.proxy.forget(&CLUSTER.parse().unwrap());
    assert_eq!(soon("end", client.chunk()).await, None);
    until("closed", || rig.metrics.connections() == (1, 1)).await;
    soon("shutdown", rig.proxy.shutdown()).await;
}

#[tokio::test]
async fn a_token_that_expires_ends_what_it_opened() {
    let rig = Rig::start(endless("application/json", "{}\n")).await;
    let mut client = rig.connect().await;
    let target = format!("GET /k8s/clusters/{CLUSTER}/api/v1/pods?watch=true HTTP/1.1\r\nHost: x\r\n");
    client.write(format!("{target}Authorization: Bearer u-short\r\n\r\n")).await;
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"{}\n");
    assert_eq!(soon("end", client.chunk()).await, None);
    until("closed", || rig.metrics.connections() == (1, 1)).await;
}

#[tokio::test]
async fn a_revocation_between_authentication_and_registration_is_not_missed() {
    let rig = Rig::start(endless("application/json", "{}\n")).await;
    let mut client = rig.connect().await;
    let target = format!("GET /k8s/clusters/{CLUSTER}/api/v1/pods?watch=true HTTP/1.1\r\nHost: x\r\n");
    client.write(format!("{target}Authorization: Bearer u-late\r\n\r\n")).await;
    let answer = soon("refused", client.answer()).await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(rig.fake.seen().is_empty() && rig.proxy.streams().is_empty());
}

#[tokio::test]
async fn a_server_that_stops_ends_watches_and_nothing_else() {
    let rig = Rig::start(endless("application/json", "{\"type\":\"ADDED\"}\n")).await;
    let mut watch = rig.connect().await;
    watch.request("GET /api/v1/pods?watch=true", "", "").await;
    watch.head().await.unwrap();
    watch.chunk().await.unwrap();
    let (release, released) = tokio::sync::watch::channel(false);
    rig.fake.answer(handler(move |mut connection, _| {
        let mut released = released.clone();
        async move {
            connection.write("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n").await;
            connection.write("5\r\nbegun\r\n").await;
            released.wait_for(|go| *go).await.unwrap();
            connection.write("4\r\ndone\r\n0\r\n\r\n").await;
            Some(connection)
        }
    }));
    let mut logs = rig.connect().await;
    logs.request("GET /api/v1/namespaces/a/pods/b/log?follow=true", "", "").await;
    logs.head().await.unwrap();
    assert_eq!(logs.chunk().await.unwrap(), b"begun");

    rig.proxy.streams().drain();
    assert_eq!(soon("the watch's end", watch.chunk()).await, None);
    until("the watch is over", || rig.proxy.streams().len() == 1).await;
    watch.request("GET /api/v1/pods?watch=true", "", "").await;
    assert_eq!(soon("a new watch's refusal", watch.answer()).await.unwrap().status, 503);
    release.send(true).unwrap();
    assert_eq!(soon("the rest of the log", logs.chunk()).await.unwrap(), b"done");
    assert_eq!(soon("the log's end", logs.chunk()).await, None);
    until("none runs", || rig.proxy.streams().is_empty()).await;
}
