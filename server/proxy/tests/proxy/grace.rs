//! Refusals of the impersonator are never shown to the user.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cattle_proxy::Diagnosis;
use futures_util::future::join_all;

use crate::fake::{Handler, handler, ok};
use crate::rig::{Rig, soon};

fn refusal(account: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"users \"u-alice\" is forbidden: User \"{account}\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope","reason":"Forbidden","code":403}}"#
    );
    let length = body.len();
    format!("HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn own_refusal() -> Vec<u8> {
    refusal("system:serviceaccount:cattle-impersonation-system:cattle-impersonation-u-alice")
}

/// An API server whose RBAC cache knows the impersonator after so many refusals. Like a real one it decides before it asks for the
/// body.
fn learns_after(refusals: usize) -> Handler {
    let left = Arc::new(AtomicUsize::new(refusals));
    handler(move |mut connection, seen| {
        let left = Arc::clone(&left);
        async move {
            if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                connection.write(own_refusal()).await;
                return None;
            }
            if seen.values("expect") == ["100-continue"] {
                connection.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            }
            let body = connection.read_body(&seen).await;
            connection.write(ok(&String::from_utf8(body).unwrap())).await.then_some(connection)
        }
    })
}

#[tokio::test]
async fn a_request_without_a_body_is_repeated() {
    let rig = Rig::start(learns_after(3)).await;
    rig.world.recently_written.store(true, Ordering::SeqCst);
    assert_eq!(rig.get("/api/v1/pods").await.status, 200);
    assert_eq!(rig.fake.seen().len(), 4);
}

#[tokio::test]
async fn a_request_with_a_body_waits_before_its_first_byte() {
    let rig = Rig::start(learns_after(3)).await;
    rig.world.recently_written.store(true, Ordering::SeqCst);
    let answer = rig.request("POST /api/v1/namespaces/a/pods", "", "the body").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "the body"));
    assert_eq!(rig.fake.seen().len(), 4);
    assert!(rig.fake.seen().iter().all(|seen| seen.values("expect") == ["100-continue"]));
    // When nothing was written lately nobody has to wait.
    rig.world.recently_written.store(false, Ordering::SeqCst);
    rig.request("POST /api/v1/namespaces/a/pods", "", "the body").await;
    assert!(rig.fake.seen()[4].values("expect").is_empty());
}

#[tokio::test]
async fn fifty_first_requests_of_a_user_all_succeed() {
    let rig = Rig::start(learns_after(120)).await;
    rig.world.recently_written.store(true, Ordering::SeqCst);
    let requests = (0..50).map(|number| {
        let rig = &rig;
        async move {
            let answer = if number % 2 == 0 { rig.get("/api").await } else { rig.request("POST /x", "", "b").await };
            answer.status
        }
    });
    assert_eq!(soon("all", join_all(requests)).await, [200; 50]);
}

#[tokio::test]
async fn two_api_servers_of_which_one_knows_less_are_no_matter() {
    // A load balancer sends every other connection to the one that has not caught up.
    let count = Arc::new(AtomicUsize::new(0));
    let rig = Rig::start(handler(move |mut connection, seen| {
        let lags = count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        async move {
            if lags {
                connection.write(own_refusal()).await;
                return None;
            }
            connection.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            let body = connection.read_body(&seen).await;
            connection.write(ok(&String::from_utf8(body).unwrap())).await;
            None
        }
    }))
    .await;
    rig.world.recently_written.store(true, Ordering::SeqCst);
    for number in 0..10 {
        let answer = rig.request("POST /api/v1/namespaces/a/pods", "", &format!("body {number}")).await;
        assert_eq!((answer.status, answer.body), (200, format!("body {number}")));
    }
    assert_eq!(rig.fake.seen().len(), 20);
}

#[tokio::test]
async fn what_was_deleted_by_hand_is_written_again_and_the_request_repeated() {
    let rig = Rig::start(learns_after(2)).await;
    *rig.world.diagnosis.lock() = Some(Diagnosis::Rewritten);
    assert_eq!(rig.get("/api").await.status, 200);
    assert_eq!(rig.world.diagnosed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_cannot_be_written_is_named_at_the_end() {
    let rig = Rig::start(learns_after(usize::MAX)).await;
    let missing = "ClusterRoleBinding cattle-impersonation-u-alice is missing: the server may not create it";
    *rig.world.diagnosis.lock() = Some(Diagnosis::Missing(missing.to_owned()));
    let answer = rig.get("/api").await;
    assert_eq!(answer.status, 503);
    assert!(answer.message().ends_with(missing), "{}", answer.message());
    assert!(!answer.body.contains("serviceaccount"));
}

#[tokio::test]
async fn a_body_that_has_left_is_not_sent_twice() {
    // This one reads the body before it refuses.
    let rig = Rig::start(handler(|mut connection, seen| async move {
        connection.read_body(&seen).await;
        connection.write(own_refusal()).await;
        None
    }))
    .await;
    *rig.world.diagnosis.lock() = Some(Diagnosis::Rewritten);
    let answer = rig.request("POST /x", "", "once").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(rig.fake.seen().len(), 1);
}

#[tokio::test]
async fn a_token_that_the_api_server_does_not_know_is_not_the_users_fault() {
    let count = Arc::new(AtomicUsize::new(0));
    let rig = Rig::start(handler(move |mut connection, _| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let body =
                r#"{"kind":"Status","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#;
            let refused = format!(
                "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            connection.write(if first { refused.into_bytes() } else { ok("{}") }).await.then_some(connection)
        }
    }))
    .await;
    *rig.world.diagnosis.lock() = Some(Diagnosis::Rewritten);
    assert_eq!(rig.get("/api").await.status, 200);
}

#[tokio::test]
async fn the_users_own_refusals_pass_untouched() {
    for account in ["u-alice", "system:serviceaccount:cattle-impersonation-system:cattle-impersonation-u-alicex"] {
        let text = refusal(account);
        let answer = text.clone();
        let rig = Rig::start(handler(move |mut connection, _| {
            let answer = answer.clone();
            async move { connection.write(answer).await.then_some(connection) }
        }))
        .await;
        rig.world.recently_written.store(true, Ordering::SeqCst);
        let answer = rig.get("/api").await;
        assert_eq!(answer.status, 403);
        assert!(String::from_utf8(text).unwrap().ends_with(&answer.body));
        assert_eq!(rig.fake.seen().len(), 1);
    }
}
