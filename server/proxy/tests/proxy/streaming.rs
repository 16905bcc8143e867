//! Bodies flow frame by frame; a slow reader costs itself only; a client that leaves ends its request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::fake::{Handler, always, handler, ok};
use crate::rig::{CLUSTER, Rig, soon, until};

const MEBI: usize = 1024 * 1024;

/// Sends so many bytes and counts what it could get rid of.
fn bulk(length: usize, sent: Arc<AtomicUsize>) -> Handler {
    handler(move |mut connection, seen| {
        let sent = Arc::clone(&sent);
        async move {
            if !seen.request_line().contains("/bulk") {
                return connection.write(ok("small")).await.then_some(connection);
            }
            connection.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
            let block = vec![b'x'; 64 * 1024];
            for _ in 0..length / block.len() {
                if !connection.write(&block).await {
                    return None;
                }
                sent.fetch_add(block.len(), Ordering::SeqCst);
            }
            Some(connection)
        }
    })
}

#[tokio::test]
async fn every_frame_is_flushed() {
    let go = Arc::new(Notify::new());
    let went = Arc::clone(&go);
    let rig = Rig::start(handler(move |mut connection, _| {
        let went = Arc::clone(&went);
        async move {
            connection
                .write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            for number in 0..20 {
                // The next event is only sent when the client has the one before.
                went.notified().await;
                connection.write(format!("3\r\n{number:02}\n\r\n")).await;
            }
            connection.write("0\r\n\r\n").await.then_some(connection)
        }
    }))
    .await;
    let mut client = rig.connect().await;
    client.request("GET /api/v1/pods?watch=true", "", "").await;
    soon("head", client.head()).await.unwrap();
    for number in 0..20 {
        go.notify_one();
        assert_eq!(soon("event", client.chunk()).await.unwrap(), format!("{number:02}\n").into_bytes());
    }
    assert_eq!(soon("end", client.chunk()).await, None);
}

#[tokio::test]
async fn two_hundred_megabytes_pass_and_a_stalled_reader_holds_little() {
    let sent = Arc::new(AtomicUsize::new(0));
    let rig = Rig::start(bulk(200 * MEBI, Arc::clone(&sent))).await;
    let mut stalled = rig.connect().await;
    stalled.request("GET /bulk", "", "").await;
    soon("head", stalled.head()).await.unwrap();
    // It reads nothing more. The sender stops when windows and buffers on the way are full, wherever they are.
    let mut before = usize::MAX;
    while sent.load(Ordering::SeqCst) != before {
        before = sent.load(Ordering::SeqCst);
        // Other requests are not held up meanwhile; their duration is what paces this loop.
        let others = join_all((0..50).map(|_| rig.get("/small"))).await;
        assert!(others.iter().all(|answer| answer.body == "small"));
    }
    assert!(before < 32 * MEBI, "{before} bytes are held for one stalled reader");
    // The same answer goes on where it stopped, and arrives whole.
    let mut read = stalled.buffer.len();
    while read < 200 * MEBI {
        stalled.buffer.clear();
        assert!(soon("bytes", stalled.fill()).await);
        read += stalled.buffer.len();
    }
    assert_eq!(read, 200 * MEBI);
    assert_eq!(sent.load(Ordering::SeqCst), 200 * MEBI);
}

#[tokio::test]
async fn the_first_byte_arrives_before_the_last_is_sent() {
    let go = Arc::new(Notify::new());
    let went = Arc::clone(&go);
    let rig = Rig::start(handler(move |mut connection, _| {
        let went = Arc::clone(&went);
        async move {
            connection.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await;
            went.notified().await;
            connection.write("b").await.then_some(connection)
        }
    }))
    .await;
    let mut client = rig.connect().await;
    client.request("GET /x", "", "").await;
    soon("head", client.head()).await.unwrap();
    while client.buffer.is_empty() {
        soon("first byte", client.fill()).await;
    }
    assert_eq!(client.buffer, b"a");
    go.notify_one();
    while client.buffer.len() < 2 {
        soon("second byte", client.fill()).await;
    }
}

#[tokio::test]
async fn uploads_are_streamed() {
    let rig = Rig::start(handler(|mut connection, seen| async move {
        if seen.request_line().contains("/count") {
            let read = connection.drain_body(&seen).await;
            return connection.write(ok(&read.to_string())).await.then_some(connection);
        }
        // Answers the first part before there is a second.
        let first = connection.read_some().await;
        assert!(String::from_utf8_lossy(&first).contains("one"));
        connection.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
        let second = connection.read_some().await;
        assert!(String::from_utf8_lossy(&second).contains("two"));
        connection.write("3\r\ntwo\r\n0\r\n\r\n").await;
        None
    }))
    .await;
    let mut client = rig.connect().await;
    client.request("POST /x", "Transfer-Encoding: chunked\r\n", "").await;
    client.write("3\r\none\r\n").await;
    soon("head", client.head()).await.unwrap();
    assert_eq!(soon("one", client.chunk()).await.unwrap(), b"one");
    client.write("3\r\ntwo\r\n0\r\n\r\n").await;
    assert_eq!(soon("two", client.chunk()).await.unwrap(), b"two");

    let answer = rig.request("PUT /count", "", &"x".repeat(20 * MEBI)).await;
    assert_eq!(answer.body, (20 * MEBI).to_string());
}

#[tokio::test]
async fn a_client_that_asks_first_is_answered_by_the_api_server() {
    let rig = Rig::start(handler(|mut connection, seen| async move {
        assert_eq!(seen.values("expect"), ["100-continue"]);
        if seen.request_line().contains("/refused") {
            connection.write("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            return None;
        }
        connection.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        let body = connection.read_body(&seen).await;
        connection.write(ok(&String::from_utf8(body).unwrap())).await.then_some(connection)
    }))
    .await;
    let mut client = rig.connect().await;
    client.request("POST /x", "Expect: 100-continue\r\nContent-Length: 5\r\n", "").await;
    assert_eq!(soon("continue", client.answer()).await.unwrap().status, 100);
    client.write("hello").await;
    assert_eq!(soon("answer", client.answer()).await.unwrap().body, "hello");
    let mut client = rig.connect().await;
    client.request("POST /refused", "Expect: 100-continue\r\nContent-Length: 5\r\n", "").await;
    assert_eq!(soon("refused", client.answer()).await.unwrap().status, 413);
}

/// Tells when a connection was closed by the proxy.
fn tells_closing(head: &'static str, closed: Arc<Notify>) -> Handler {
    handler(move |mut connection, _| {
        let closed = Arc::clone(&closed);
        async move {
            connection.write(head).await;
            connection.closed().await;
            closed.notify_one();
            None
        }
    })
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_at_the_api_server() {
    let body = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
    for head in ["", body] {
        let closed = Arc::new(Notify::new());
        let rig = Rig::start(tells_closing(head, Arc::clone(&closed))).await;
        let mut client = rig.connect().await;
        client.request("GET /api/v1/pods?watch=true", "", "").await;
        if head.is_empty() {
            until("it runs", || !rig.fake.seen().is_empty()).await;
        } else {
            soon("head", client.head()).await.unwrap();
            soon("chunk", client.chunk()).await.unwrap();
        }
        drop(client);
        soon("closed at the API server", closed.notified()).await;
        until("nothing is left", || rig.proxy.streams().is_empty() && rig.metrics.connections() == (1, 1)).await;
    }
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_ends_its_request_only() {
    let closed = Arc::new(Notify::new());
    let body = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
    let rig = Rig::start(tells_closing(body, Arc::clone(&closed))).await;
    let io = TcpStream::connect(rig.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = |path: &str| {
        let uri = format!("http://front/k8s/clusters/{CLUSTER}{path}");
        let request = Request::builder().uri(uri).version(Version::HTTP_2).header("authorization", "Bearer u-alice");
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    let mut watch = soon("watch", sender.send_request(request("/api/v1/pods?watch=true"))).await.unwrap();
    assert_eq!(soon("frame", watch.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap(), "x");
    drop(watch);
    soon("closed at the API server", closed.notified()).await;
    rig.fake.answer(always(ok("{}")));
    let other = soon("other", sender.send_request(request("/api"))).await.unwrap();
    assert_eq!(other.status(), 200);
}

#[tokio::test]
async fn many_watches_and_requests_do_not_meet() {
    let rig = Rig::start(handler(|mut connection, seen| async move {
        if seen.request_line().contains("watch=true") {
            connection.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n").await;
            connection.closed().await;
            return None;
        }
        connection.write(ok("small")).await.then_some(connection)
    }))
    .await;
    let mut watches = Vec::new();
    for _ in 0..100 {
        let mut client = rig.connect().await;
        client.request("GET /api/v1/pods?watch=true", "", "").await;
        soon("head", client.head()).await.unwrap();
        soon("event", client.chunk()).await.unwrap();
        watches.push(client);
    }
    let opened = rig.fake.opened();
    for _ in 0..200 {
        assert_eq!(rig.get("/small").await.body, "small");
    }
    assert!(rig.fake.opened() <= opened + 2, "requests share a warm connection");
    drop(watches);
    until("watches end", || rig.proxy.streams().is_empty()).await;
}

#[tokio::test]
async fn answers_without_a_body_free_their_connection() {
    let rig = Rig::start(always("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")).await;
    for _ in 0..5 {
        let mut client = rig.connect().await;
        client.request("HEAD /x", "Connection: close\r\n", "").await;
        let head = soon("head", client.head()).await.unwrap();
        assert!(head.contains("content-length: 10"), "{head}");
        until("given back", || rig.proxy.streams().is_empty()).await;
    }
    rig.fake.answer(always("HTTP/1.1 304 Not Modified\r\n\r\n"));
    assert_eq!(rig.get("/x").await.status, 304);
    assert!(rig.fake.opened() <= 2, "{}", rig.fake.opened());
}
