//! What happens when a connection ends under a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fake::{Handler, handler, ok};
use crate::rig::{Answer, Rig, soon, until};

/// Answers the first request, so that its connection is warm; reads the next ones, as many as told, and says `farewell` instead of
/// answering them.
fn leaves(times: usize, farewell: &'static str) -> Handler {
    let count = Arc::new(AtomicUsize::new(0));
    handler(move |mut connection, seen| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            connection.read_body(&seen).await;
            if (1..=times).contains(&number) {
                connection.write(farewell).await;
                return None;
            }
            connection.write(ok("{}")).await.then_some(connection)
        }
    })
}

/// A request on a warm connection that ends like this.
async fn after_a_warm_one(handler: Handler, line: &str, body: &str) -> (Rig, Answer) {
    let rig = Rig::start(handler).await;
    assert_eq!(rig.get("/api").await.status, 200);
    until("the connection is warm", || rig.proxy.streams().is_empty()).await;
    let answer = soon("answer", rig.request(line, "", body)).await;
    (rig, answer)
}

#[tokio::test]
async fn a_read_is_repeated_once_on_a_new_connection() {
    for line in ["GET /api/v1/pods", "HEAD /api/v1/pods", "OPTIONS /api/v1/pods", "GET /api/v1/pods?watch=true"] {
        let rig = Rig::start(leaves(1, "")).await;
        assert_eq!(rig.get("/api").await.status, 200);
        // HEAD has no body to wait for, so only its head is read.
        let mut client = rig.connect().await;
        client.request(line, "", "").await;
        let head = soon(line, client.head()).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{line}: {head}");
        let seen = rig.fake.seen();
        assert_eq!(seen.len(), 3, "{line}");
        assert_eq!(seen[1].head, seen[2].head, "{line}: it is the same request");
        assert_eq!(rig.fake.opened(), 2);
    }
}

#[tokio::test]
async fn a_read_is_not_repeated_twice() {
    let (rig, answer) = after_a_warm_one(leaves(2, ""), "GET /api/v1/pods", "").await;
    assert_eq!((answer.status, answer.cause()), (502, None));
    assert_eq!(rig.fake.seen().len(), 3);
}

#[tokio::test]
async fn a_change_is_never_repeated_and_its_outcome_is_called_unknown() {
    for line in ["POST /api/v1/namespaces", "PUT /x", "PATCH /x", "DELETE /api/v1/namespaces/a"] {
        for body in ["", "{}"] {
            let (rig, answer) = after_a_warm_one(leaves(1, ""), line, body).await;
            assert_eq!((answer.status, answer.cause().as_deref()), (502, Some("OutcomeUnknown")), "{line}");
            assert!(answer.message().contains("is not known"), "{}", answer.message());
            assert_eq!(answer.header("retry-after"), None);
            assert_eq!(rig.fake.seen().len(), 2, "{line}");
        }
    }
}

#[tokio::test]
async fn a_read_with_a_body_or_with_an_answer_that_makes_no_sense_is_not_repeated() {
    let (rig, answer) = after_a_warm_one(leaves(1, ""), "GET /x", "{}").await;
    assert_eq!((answer.status, rig.fake.seen().len()), (502, 2));
    let (rig, answer) = after_a_warm_one(leaves(1, "SSH-2.0-OpenSSH\r\n\r\n"), "GET /x", "").await;
    assert_eq!((answer.status, rig.fake.seen().len()), (502, 2));
}
