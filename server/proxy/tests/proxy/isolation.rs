//! Clusters that look the same never meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use crate::fake::{Fake, always, handler, ok};
use crate::rig::{CLUSTER, Rig, soon, until};

#[tokio::test]
async fn two_thousand_interleaved_requests_never_meet_the_other_cluster() {
    let rig = Rig::start(always(ok("first"))).await;
    let second = Fake::start(always(ok("second"))).await;
    rig.add("c-bbbbb", &second, 1);
    let rig = Arc::new(rig);
    let clients = (0..20).map(|number| {
        let rig = Arc::clone(&rig);
        async move {
            let mut client = rig.connect().await;
            for turn in 0..100 {
                let (cluster, text) = if (number + turn) % 2 == 0 { (CLUSTER, "first") } else { ("c-bbbbb", "second") };
                let target = format!("GET /k8s/clusters/{cluster}/api HTTP/1.1\r\nHost: same\r\n");
                client.write(format!("{target}Authorization: Bearer u-alice\r\n\r\n")).await;
                let answer = soon("answer", client.answer()).await.unwrap();
                assert_eq!((answer.status, answer.body.as_str()), (200, text));
            }
        }
    });
    join_all(clients).await;
    for (fake, cluster) in [(&rig.fake, CLUSTER), (&second, "c-bbbbb")] {
        let seen = fake.seen();
        assert_eq!(seen.len(), 1_000);
        let token = format!("Bearer token-of-u-alice-in-{cluster}");
        assert!(seen.iter().all(|seen| seen.values("authorization") == [token.as_str()]));
        assert!(fake.opened() <= 20, "connections are reused: {}", fake.opened());
    }
}

#[tokio::test]
async fn the_wrong_api_server_gets_nothing() {
    let rig = Rig::start(always(ok("{}"))).await;
    let other = Fake::start(always(ok("{}"))).await;
    // The tunnel of the first cluster ends at the other's API server.
    rig.world.clusters.lock().get_mut(&CLUSTER.parse().unwrap()).unwrap().0 = other.address;
    let answer = rig.get("/api").await;
    assert_eq!(answer.status, 502);
    assert!(answer.message().contains("does not prove itself"), "{}", answer.message());
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn another_name_of_the_same_ca_is_refused() {
    let rig = Rig::start(always(ok("{}"))).await;
    rig.world.clusters.lock().get_mut(&CLUSTER.parse().unwrap()).unwrap().1.server_name = "kubernetes".to_owned();
    assert_eq!(rig.get("/api").await.status, 502);
    assert!(rig.fake.seen().is_empty());
}

#[tokio::test]
async fn a_new_ca_generation_uses_no_old_connection() {
    let rig = Rig::start(always(ok("old"))).await;
    assert_eq!(rig.get("/api").await.body, "old");
    let new = Fake::start(always(ok("new"))).await;
    rig.add(CLUSTER, &new, 2);
    assert_eq!(rig.get("/api").await.body, "new");
    // The same CA in a new generation is a new trust as well.
    rig.add(CLUSTER, &new, 3);
    assert_eq!(rig.get("/api").await.body, "new");
    assert_eq!((rig.fake.opened(), new.opened()), (1, 2));
}

#[tokio::test]
async fn a_connection_with_surplus_bytes_is_not_used_again() {
    let evil = [ok("{}"), ok("injected")].concat();
    let rig = Rig::start(always(evil)).await;
    let mut client = rig.connect().await;
    for _ in 0..10 {
        client.request("GET /api", "", "").await;
        assert_eq!(soon("answer", client.answer()).await.unwrap().body, "{}");
    }
    // Surplus may only be noticed when the connection is taken again; it is never an answer to anybody.
    let after_204 = b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\ninjected".to_vec();
    rig.fake.answer(always(after_204));
    for _ in 0..10 {
        client.request("GET /api", "", "").await;
        assert_eq!(soon("answer", client.answer()).await.unwrap().status, 204);
    }
}

#[tokio::test]
async fn a_warm_connection_that_was_closed_costs_no_request() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let rig = Rig::start(handler(move |mut connection, _| {
        let counted = Arc::clone(&counted);
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            // Says nothing about closing, and closes.
            connection.write(ok("{}")).await;
            None
        }
    }))
    .await;
    for _ in 0..20 {
        assert_eq!(rig.get("/api").await.status, 200);
        until("the close is noticed", || rig.metrics.connections().0 == rig.metrics.connections().1).await;
    }
    assert_eq!(count.load(Ordering::SeqCst), 20, "none was sent twice");
}

#[tokio::test]
async fn renewed_connections_are_dialled_anew() {
    let rig = Rig::start(always(ok("{}"))).await;
    for _ in 0..3 {
        assert_eq!(rig.get("/api").await.status, 200);
    }
    assert_eq!(rig.fake.opened(), 1);
    rig.proxy.renew_connections(&CLUSTER.parse().unwrap());
    until("the old one is closed", || rig.metrics.connections() == (1, 1)).await;
    assert_eq!(rig.get("/api").await.status, 200);
    assert_eq!(rig.fake.opened(), 2);

    // One in use is not cut; it is closed when its request is done.
    let go = Arc::new(tokio::sync::Notify::new());
    let went = Arc::clone(&go);
    rig.fake.answer(handler(move |mut connection, _| {
        let went = Arc::clone(&went);
        async move {
            went.notified().await;
            connection.write(ok("late")).await.then_some(connection)
        }
    }));
    let mut client = rig.connect().await;
    client.request("GET /api", "", "").await;
    until("it runs", || rig.fake.seen().len() == 5).await;
    rig.proxy.renew_connections(&CLUSTER.parse().unwrap());
    go.notify_one();
    assert_eq!(soon("answer", client.answer()).await.unwrap().body, "late");
    until("closed after its request", || rig.metrics.connections() == (2, 2)).await;
}
