//! Malformed and oversized input of every kind, again and again: each gets a clear answer, nothing is lost, and the server
//! does not grow.

#[path = "identity/wire.rs"]
#[expect(dead_code, reason = "shared with the test of identities, which sends HTTP/2 too")]
mod wire;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cattle_matrix::Matrix;
use cattle_tests::{Memory, Server};
use serde_json::{Value, json};

use wire::Wire;

const CLUSTERS: &str = "/apis/management.cattle.io/v3/clusters";
const MIB: usize = 1024 * 1024;
/// What all of it together may cost, however often it comes: less than one of the larger inputs for each time.
const GROWTH: u64 = 24 * MIB as u64;
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_answered_and_costs_nothing_that_stays() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let cluster = server.add_cluster("kept").await?;
    let wire = Wire::new(server.url(), server.ca_pem())?;
    // The first time, tables and pools come to their size.
    everything(&server, &wire).await?;
    let memory = Memory::watch(server.process().id())?;
    let rounds = Matrix::of_this_run("bad input").pick(40, 3);
    for round in 0..rounds {
        everything(&server, &wire).await.with_context(|| format!("round {round}"))?;
    }
    let grown = memory.grown()?;
    println!("{rounds} rounds: the server grew by {} KiB", grown / 1024);
    ensure!(grown < GROWTH, "the server grew by {grown} bytes");
    let kept = server.get(&format!("{CLUSTERS}/{cluster}"), server.admin()).await?;
    ensure!(kept.status() == 200, "{}", kept.text().await?);
    Ok(())
}

async fn everything(server: &Server, wire: &Wire) -> anyhow::Result<()> {
    bodies(server).await?;
    names(server, wire).await?;
    heads(server, wire).await?;
    handshakes(wire).await
}

/// Bodies that are no JSON or YAML, too large, too deep, or grow when they are read.
async fn bodies(server: &Server) -> anyhow::Result<()> {
    let aliases: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    let cluster = r#"{"apiVersion":"management.cattle.io/v3","kind":"Cluster","metadata":{"generateName":"c-"}"#;
    for (what, kind, body) in [
        ("no JSON", "application/json", "{".to_owned()),
        ("no UTF-8", "application/json", "\u{fffd}\u{0}".to_owned()),
        ("too large", "application/json", format!(r#"{cluster},"spec":{{"displayName":"{}"}}}}"#, "x".repeat(2 * MIB))),
        ("too deep", "application/json", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("a text for an object", "application/json", r#""text""#.to_owned()),
        ("another kind", "application/json", cluster.replace("Cluster", "Pod") + "}"),
        ("no YAML", "application/yaml", "a: [b\n- c".to_owned()),
        ("YAML that grows", "application/yaml", format!("a0: &a0 [x]\n{aliases}")),
        ("YAML that is deep", "application/yaml", "- ".repeat(50_000)),
        ("no type", "text/html", "<html>".to_owned()),
    ] {
        let request = server.http().post(format!("{}{CLUSTERS}", server.url())).bearer_auth(&server.admin().token);
        let answer = tokio::time::timeout(SOON, request.header("content-type", kind).body(body).send()).await;
        // A body that is far too large may be refused before it was sent.
        let Ok(answer) = answer.with_context(|| format!("{what}: no answer"))? else { continue };
        let code = answer.status().as_u16();
        ensure!((400..500).contains(&code), "{what}: {code}");
        let status: Value = answer.json().await.with_context(|| format!("{what}: {code} without a Status"))?;
        let message = status["message"].as_str().unwrap_or_default();
        ensure!(status["kind"] == "Status" && !message.is_empty() && message.len() < 1000, "{what}: {status}");
    }
    let wrong = json!({ "op": "copy", "from": "", "path": "/spec/x" });
    let patch = Value::Array(vec![wrong; 2000]).to_string();
    let request = server.http().patch(format!("{}{CLUSTERS}/c-none0", server.url())).bearer_auth(&server.admin().token);
    let answer = request.header("content-type", "application/json-patch+json").body(patch).send().await?;
    ensure!(answer.status().is_client_error(), "a long patch: {}", answer.status());
    Ok(())
}

/// Names that climb, in every place that has one.
async fn names(server: &Server, wire: &Wire) -> anyhow::Result<()> {
    let token = &server.admin().token;
    for name in
        ["..", "%2e%2e", "..%2f..%2fetc", "c-abcde%00", "c-abcde/..", "C-ABCDE", "c-\u{202e}abc", &"c".repeat(5000)]
    {
        for path in
            [format!("/k8s/clusters/{name}/api"), format!("{CLUSTERS}/{name}"), format!("/v3/import/token_{name}.yaml")]
        {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", wire.address());
            let answer = send(wire, format!("{head}Authorization: Bearer {token}\r\n\r\n").into_bytes()).await?;
            let code = code(&answer);
            ensure!(matches!(code, None | Some(400..500)), "{path}: {}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(())
}

/// Heads of requests beyond every limit.
async fn heads(server: &Server, wire: &Wire) -> anyhow::Result<()> {
    let (host, token) = (wire.address(), &server.admin().token);
    let many: String = (0..5000).map(|n| format!("X-Header-{n}: {n}\r\n")).collect();
    for (what, head) in [
        ("a long header", format!("GET /ping HTTP/1.1\r\nHost: {host}\r\nX-Long: {}\r\n\r\n", "x".repeat(2 * MIB))),
        ("many headers", format!("GET /ping HTTP/1.1\r\nHost: {host}\r\n{many}\r\n")),
        ("a long target", format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "x".repeat(MIB))),
        (
            "a long token",
            format!("GET {CLUSTERS} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\r\n", "x".repeat(60_000)),
        ),
        (
            "a long selector",
            format!(
                "GET {CLUSTERS}?labelSelector={} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n",
                "a".repeat(60_000)
            ),
        ),
        ("no HTTP", "\u{0}\u{1}\u{2}\u{3}".repeat(10_000)),
    ] {
        let answer = send(wire, head.into_bytes()).await?;
        let code = code(&answer);
        ensure!(
            matches!(code, None | Some(400..500)),
            "{what}: {}",
            String::from_utf8_lossy(&answer[..answer.len().min(500)])
        );
    }
    Ok(())
}

/// Agents that send no handshake, one that is announced far too large, or frames that no WebSocket has.
async fn handshakes(wire: &Wire) -> anyhow::Result<()> {
    let head = format!(
        "GET /v3/connect HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: cattle.v1\r\n\r\n",
        wire.address()
    );
    let frame = |body: &[u8]| [&[0x82, 0x80 | u8::try_from(body.len()).unwrap_or(125), 0, 0, 0, 0], body].concat();
    for (what, bytes) in [
        ("noise", b"\xff\xfe\xfd".repeat(1000)),
        ("a message of 2^62 bytes", vec![0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("a frame of 4 GiB", frame(&[0xff, 0xff, 0xff, 0xff])),
        ("a frame that is none", frame(&[0, 0, 0, 4, 1, 2, 3, 4])),
        ("text", vec![0x81, 0x81, 0, 0, 0, 0, b'x']),
        ("a farewell", vec![0x88, 0x80, 0, 0, 0, 0]),
    ] {
        let answer = send(wire, [head.as_bytes(), &bytes].concat()).await?;
        ensure!(code(&answer) == Some(101), "{what}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// The answer to these bytes; a server that closes the connection while they are sent has answered with nothing.
async fn send(wire: &Wire, bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let wire = wire.clone();
    let sending = tokio::task::spawn_blocking(move || wire.http1(&bytes));
    Ok(tokio::time::timeout(SOON, sending).await.context("no end")??.unwrap_or_default())
}

/// The status of an HTTP/1.1 answer; none when the connection was closed without one.
fn code(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
