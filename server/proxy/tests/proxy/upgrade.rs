//! Switching protocols: nothing reaches the API server raw before it has agreed.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{Handler, always, handler, ok};
use crate::rig::{CLUSTER, Client, Rig, soon, until};

const EXEC: &str = "/api/v1/namespaces/a/pods/b/exec?command=sh";
const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";

/// Agrees to whatever is asked and sends back every byte.
fn echo() -> Handler {
    handler(|mut connection, seen| async move {
        let [protocol] = seen.values("upgrade")[..] else { return None };
        let more = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: v5.channel.k8s.io\r\nset-cookie: a=b\r\n";
        connection
            .write(format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\n{more}\r\n"
            ))
            .await;
        loop {
            let bytes = connection.read_some().await;
            if bytes.is_empty() {
                connection.write("bye").await;
                return None;
            }
            connection.write(bytes).await;
        }
    })
}

async fn read(client: &mut Client, length: usize) -> Vec<u8> {
    while client.buffer.len() < length {
        assert!(soon("bytes", client.fill()).await, "ended early: {:?}", client.buffer);
    }
    client.buffer.drain(..length).collect()
}

#[tokio::test]
async fn both_protocols_are_carried_untouched_with_half_close() {
    let rig = Rig::start(echo()).await;
    for (method, headers, protocol) in [("POST", SPDY, "SPDY/3.1"), ("GET", WEBSOCKET, "websocket")] {
        let mut client = rig.connect().await;
        client.request(&format!("{method} {EXEC}"), headers, "").await;
        let answer = soon("switch", client.answer()).await.unwrap();
        assert_eq!((answer.status, answer.header("upgrade")), (101, Some(protocol)));
        assert_eq!(answer.header("connection"), Some("Upgrade"));
        assert_eq!(answer.header("sec-websocket-protocol"), Some("v5.channel.k8s.io"));
        assert_eq!(answer.header("set-cookie"), None);
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        client.write(&bytes).await;
        assert_eq!(read(&mut client, bytes.len()).await, bytes);
        // We have said everything; the other side has not.
        client.io.shutdown().await.unwrap();
        assert_eq!(read(&mut client, 3).await, b"bye");
        assert!(!client.fill().await);
    }
    let seen = rig.fake.seen();
    assert_eq!(seen[0].values("x-stream-protocol-version"), ["v4.channel.k8s.io"]);
    assert_eq!(seen[0].values("connection"), ["Upgrade"]);
    assert_eq!(seen[1].values("sec-websocket-protocol"), ["v5.channel.k8s.io"]);
    assert_eq!(seen[1].values("impersonate-user"), ["u-alice"]);
    until("audited to the end", || rig.audit.lines().len() == 6).await;
    let stages: Vec<_> =
        rig.audit.lines().iter().take(3).map(|line| line["stage"].as_str().unwrap().to_owned()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
}

#[tokio::test]
async fn without_a_101_nothing_is_spliced() {
    let rig = Rig::start(always(ok("{}"))).await;
    for status in
        ["200 OK", "204 No Content", "301 Moved", "400 Bad", "401 No", "403 Forbidden", "404 Not Found", "500 Error"]
    {
        let length = if status.starts_with("204") { "" } else { "content-length: 2\r\n" };
        let body = if status.starts_with("204") { "" } else { "{}" };
        let answer = format!("HTTP/1.1 {status}\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n{length}\r\n{body}");
        rig.fake.answer(always(answer));
        rig.fake.seen.lock().clear();
        let mut client = rig.connect().await;
        client.request(&format!("POST {EXEC}"), SPDY, "").await;
        let got = soon(status, client.answer()).await.unwrap();
        assert!(status.starts_with(&got.status.to_string()), "{status}: {}", got.status);
        assert_eq!(got.header("upgrade"), None);
        // A second request, as the API server would understand it on a spliced connection.
        drop(
            client
                .io
                .write_all(b"GET /api/v1/secrets HTTP/1.1\r\nHost: kubernetes\r\nAuthorization: Bearer u-alice\r\n\r\n")
                .await,
        );
        let second = soon("second", client.answer()).await;
        assert!(second.is_none_or(|answer| answer.status == 404), "{status}");
        assert_eq!(rig.fake.seen().len(), 1, "{status}");
    }
    let (opened, _) = rig.metrics.connections();
    assert_eq!(opened, 8, "a connection for an upgrade is used once");
}

#[tokio::test]
async fn early_bytes_go_nowhere_without_a_101() {
    let rig = Rig::start(handler(|mut connection, _| async move {
        connection.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
        connection.closed().await;
        None
    }))
    .await;
    let mut client = rig.connect().await;
    let early = format!("GET /k8s/clusters/{CLUSTER}/hidden HTTP/1.1\r\nHost: x\r\n\r\n");
    client.request(&format!("POST {EXEC}"), &format!("{SPDY}\r\n{early}"), "").await;
    assert_eq!(soon("refused", client.answer()).await.unwrap().status, 403);
    until("closed", || rig.metrics.connections() == (1, 1)).await;
    assert!(rig.fake.seen().iter().all(|seen| !seen.head.contains("hidden")));
}

#[tokio::test]
async fn early_bytes_arrive_after_a_101() {
    let rig = Rig::start(echo()).await;
    let mut client = rig.connect().await;
    client.request(&format!("POST {EXEC}"), &format!("{SPDY}\r\nearly"), "").await;
    assert_eq!(soon("switch", client.answer()).await.unwrap().status, 101);
    // What stands after the blank line that ends the head is the first of the new protocol.
    assert_eq!(read(&mut client, 7).await, b"early\r\n");
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_a_bad_gateway() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n";
    let rig = Rig::start(handler(move |mut connection, _| async move {
        connection.write(switch).await;
        connection.closed().await;
        None
    }))
    .await;
    let answer = rig.get("/api").await;
    assert_eq!(answer.status, 502);
    let other = rig.request(&format!("GET {EXEC}"), WEBSOCKET, "").await;
    assert_eq!(other.status, 502, "SPDY instead of WebSocket");
    assert!(other.message().contains("protocol"));
    until("all closed", || rig.metrics.connections() == (2, 2)).await;
}

#[tokio::test]
async fn malformed_upgrades_are_refused() {
    let rig = Rig::start(echo()).await;
    for (line, headers, body) in [
        (format!("POST {EXEC}"), WEBSOCKET.to_owned(), ""),
        (format!("POST {EXEC}"), SPDY.to_owned(), "a body"),
        (format!("GET {EXEC}"), "Connection: Upgrade\r\nUpgrade: websocket, SPDY/3.1\r\n".to_owned(), ""),
        (format!("GET {EXEC}"), "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: SPDY/3.1\r\n".to_owned(), ""),
    ] {
        let answer = rig.request(&line, &headers, body).await;
        assert_eq!(answer.status, 400, "{line} {headers:?}");
    }
    assert!(rig.fake.seen().is_empty());
}

#[tokio::test]
async fn a_side_that_breaks_ends_the_other() {
    let rig = Rig::start(echo()).await;
    let mut client = rig.connect().await;
    client.request(&format!("POST {EXEC}"), SPDY, "").await;
    assert_eq!(soon("switch", client.answer()).await.unwrap().status, 101);
    client.write("x").await;
    read(&mut client, 1).await;
    drop(client);
    until("the API server's side is closed", || rig.metrics.connections() == (1, 1)).await;

    rig.fake.answer(handler(|mut connection, _| async move {
        connection.write("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n").await;
        None
    }));
    let mut client = rig.connect().await;
    client.request(&format!("POST {EXEC}"), SPDY, "").await;
    soon("switch", client.answer()).await.unwrap();
    let mut rest = Vec::new();
    drop(soon("closed", client.io.read_to_end(&mut rest)).await);
}

#[tokio::test]
async fn a_refusal_that_never_ends_is_cut() {
    let rig = Rig::start(handler(|mut connection, _| async move {
        connection.write("HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\nno").await;
        connection.closed().await;
        None
    }))
    .await;
    let mut client = rig.connect().await;
    client.request(&format!("POST {EXEC}"), SPDY, "").await;
    let answer = soon("the end of the refusal", client.answer()).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (400, "no"));
    until("nothing runs", || rig.proxy.streams().is_empty()).await;
}
