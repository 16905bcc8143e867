//! No bytes that a client can send make an API server see another identity than the client's, or another cluster than the
//! one that was authorised.
//!
//! Requests are written byte by byte. What the API server saw is read twice: in its answer to a `SelfSubjectReview`, and in
//! its audit log, which has every request that reached it, also those whose answer nobody got.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]

#[path = "identity/address.rs"]
mod address;
#[path = "identity/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use cattle_harness::{ControlPlane, ControlPlaneOptions, wait_for};
use cattle_tests::{Member, Relay, Server, User};
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use address::one_address;
use wire::{Field, Wire};

const SOON: Duration = Duration::from_secs(60);
const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const BODY: &str = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
/// Requests to two clusters that cannot be told apart by name or address.
const INTERLEAVED: usize = 2_000;

/// What must come of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// The API server answers, to exactly the sender.
    Own,
    /// The API server is not asked.
    Refused,
    /// Either: HTTP allows both.
    Either,
}
use Expected::{Either, Own, Refused};

/// Two clusters of the same names, one server, and somebody who owns the first.
struct Rig {
    server: Server,
    first: Member,
    second: Member,
    owner: User,
    wire: Wire,
    logs: tempfile::TempDir,
    _relays: Vec<Relay>,
}

impl Rig {
    async fn start() -> anyhow::Result<Self> {
        let logs = tempfile::tempdir()?;
        let server = Server::start().await?;
        let (first, second) =
            tokio::try_join!(join(&server, logs.path(), "first"), join(&server, logs.path(), "second"))?;
        let (mut first, mut second) = (first, second);
        let relays = one_address(&server, &mut first, &mut second).await?;
        for (member, text) in [(&first, "first"), (&second, "second")] {
            let literal = format!("--from-literal=text={text}-cluster");
            member.control_plane.kubectl(["create", "configmap", "which", &literal]).ok().await?;
        }
        let owner = server.add_user("owner").await?;
        server.add_member(&first.id, &owner, "cluster-owner").await?;
        let wire = Wire::new(server.url(), server.ca_pem())?;
        let rig = Self { server, first, second, owner, wire, logs, _relays: relays };
        wait_for("the owner's role", SOON, async || {
            let answer =
                rig.server.get(&rig.first.path("/api/v1/namespaces/default/configmaps/which"), &rig.owner).await?;
            ensure!(answer.status() == 200, "{}", answer.text().await?);
            Ok(())
        })
        .await?;
        Ok(rig)
    }

    /// A review's head up to the place for more headers.
    fn head(&self) -> String {
        format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.first.path(REVIEW),
            self.wire.address(),
            self.owner.token
        )
    }

    fn review(&self, extra: &str) -> Vec<u8> {
        format!("{}{extra}Content-Length: {}\r\n\r\n{BODY}", self.head(), BODY.len()).into_bytes()
    }

    fn identity(&self) -> Value {
        identity(&self.owner, "owner")
    }

    /// Whatever an API server said of a sender in these bytes is the owner, and it said so if it had to.
    fn check(&self, name: &str, answer: &[u8], expected: Expected) -> Result<(), String> {
        let text = String::from_utf8_lossy(answer);
        let seen = identities_in(&text);
        let wrong = seen.iter().any(|identity| *identity != self.identity());
        let kept = match expected {
            Own => !seen.is_empty(),
            Refused => seen.is_empty(),
            Either => true,
        };
        if wrong || !kept || text.contains("second-cluster") {
            return Err(format!(
                "\n=== {name}: expected {expected:?}\n{}",
                text.chars().take(1500).collect::<String>()
            ));
        }
        Ok(())
    }

    async fn all_http1(&self, cases: Vec<(String, Vec<u8>, Expected)>) -> anyhow::Result<()> {
        let answers = stream::iter(cases).map(|(name, bytes, expected)| {
            let wire = self.wire.clone();
            async move {
                let answer = tokio::task::spawn_blocking(move || wire.http1(&bytes)).await?;
                anyhow::Ok(self.check(&name, &answer.with_context(|| name.clone())?, expected))
            }
        });
        failures(answers.buffer_unordered(8).collect().await)
    }
}

fn failures(checked: Vec<anyhow::Result<Result<(), String>>>) -> anyhow::Result<()> {
    let checked = checked.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let failed: String = checked.into_iter().filter_map(Result::err).collect();
    ensure!(failed.is_empty(), "{failed}");
    Ok(())
}

/// Options of both are equal: names, service range, SANs.
async fn join(server: &Server, logs: &Path, file: &str) -> anyhow::Result<Member> {
    let policy = logs.join("policy.json");
    let rules = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{ "level": "Metadata" }],
    });
    std::fs::write(&policy, rules.to_string())?;
    let options = ControlPlaneOptions {
        name: "prod".to_owned(),
        apiserver_flags: vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", audit_log(logs, file).display()),
            "--audit-log-mode=blocking".to_owned(),
        ],
        ..ControlPlaneOptions::default()
    };
    // The server wants names of its own to be different; nothing of the cluster has them.
    Member::join_with(server, file, ControlPlane::start(options).await?).await
}

fn audit_log(logs: &Path, file: &str) -> PathBuf {
    logs.join(format!("{file}.log"))
}

fn identity(user: &User, login: &str) -> Value {
    json!({
        "username": user.name,
        "groups": ["system:authenticated", "system:cattle:authenticated"],
        "extra": { "principalid": [format!("local://{}", user.name)], "username": [login] },
    })
}

/// Every `userInfo` that stands in a text.
fn identities_in(text: &str) -> Vec<Value> {
    let objects = text.split("\"userInfo\":").skip(1);
    let first = objects.filter_map(|rest| serde_json::Deserializer::from_str(rest).into_iter().next());
    first.map(|parsed| parsed.unwrap_or(Value::Null)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_make_another_identity_or_another_cluster() -> anyhow::Result<()> {
    let mut rig = Rig::start().await?;
    headers(&rig).await.context("headers")?;
    framing(&rig).await.context("framing")?;
    upgrades(&rig).await.context("upgrades")?;
    http2(&rig).await.context("HTTP/2")?;
    paths(&rig).await.context("paths")?;
    interleaved(&rig).await.context("two clusters of the same name")?;
    audited(&rig).context("the API servers' own records")?;
    unrecorded_sessions(&mut rig).await.context("sessions without a record")
}

async fn headers(rig: &Rig) -> anyhow::Result<()> {
    let admin = rig.server.admin().token.clone();
    let basic = base64::engine::general_purpose::STANDARD.encode(&admin);
    let cases: Vec<(String, Expected)> = [
        ("", Own),
        ("Impersonate-User: system:admin\r\n", Refused),
        ("iMPERSONATE-uSER: system:admin\r\n", Refused),
        ("Impersonate-User: a\r\nImpersonate-User: system:admin\r\n", Refused),
        ("Impersonate-User:\r\n", Refused),
        ("Impersonate-Group: system:masters\r\n", Refused),
        ("Impersonate-Group: a\r\nimpersonate-group: system:masters\r\n", Refused),
        ("Impersonate-Uid: 0\r\n", Refused),
        ("Impersonate-Extra-Username: admin\r\n", Refused),
        ("Impersonate-Extra-Scopes%2e: x\r\n", Refused),
        ("Impersonate_User: system:admin\r\n", Refused),
        ("Impersonate-Extra_Username: admin\r\n", Refused),
        ("Impersonate: system:admin\r\n", Refused),
        ("Connection: Impersonate-User\r\n", Own),
        ("Connection: impersonate-user, impersonate-group, impersonate-extra-username\r\n", Own),
        ("Connection: Impersonate-User\r\nImpersonate-User: system:admin\r\n", Refused),
        ("Connection: authorization\r\n", Own),
        ("Connection: close, Authorization, Impersonate-Group\r\n", Own),
        ("Connection: content-length\r\n", Either),
        ("Connection: host, content-type\r\n", Either),
        ("Keep-Alive: impersonate-user\r\nProxy-Connection: impersonate-user\r\n", Own),
        ("X-A: b\r\n Impersonate-User: system:admin\r\n", Refused),
        ("X-A: b\r\n\tImpersonate-User: system:admin\r\n", Refused),
        (" Impersonate-User: system:admin\r\n", Refused),
        ("Impersonate-User : system:admin\r\n", Refused),
        ("X-A: b\nImpersonate-User: system:admin\r\n", Refused),
        ("X-A: b\rImpersonate-User: system:admin\r\n", Refused),
        ("X-A: b\0\r\n", Refused),
        ("X-A: b\u{b}Impersonate-User: system:admin\r\n", Refused),
        ("X-A: b\u{85}Impersonate-User: system:admin\r\n", Either),
        ("Impersonate-User\u{0}: system:admin\r\n", Refused),
        ("Impersonate-User\r\n", Refused),
        (": system:admin\r\n", Refused),
        ("X-Remote-User: system:admin\r\nX-Remote-Group: system:masters\r\n", Own),
        ("X_Remote_User: system:admin\r\nX-Remote-Extra-Scopes: x\r\nX-Remote-Uid: 0\r\n", Own),
        ("Connection: X-Remote-User\r\nX-Remote-User: system:admin\r\n", Own),
        ("X-Forwarded-User: admin\r\nX-Forwarded-Access-Token: x\r\nForwarded: for=admin\r\n", Own),
        ("X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /api\r\n", Own),
        ("Front-Proxy: x\r\nRemote-User: system:admin\r\nX-Client-DN: CN=system:admin\r\n", Own),
        ("Proxy-Authorization: Bearer ADMIN\r\n", Own),
        ("Cookie: R_SESS=ADMIN\r\n", Own),
        ("Cookie: CSRF=x; R_SESS=ADMIN; token=ADMIN\r\n", Own),
        ("Authorization: Bearer ADMIN\r\n", Refused),
        ("authorization: Basic BASIC\r\n", Refused),
        ("Authorization:\r\n", Refused),
        ("X-API-Auth-Header: Bearer ADMIN\r\nX-API-Tunnel-Token: x\r\nX-API-Cattle-Auth: true\r\n", Own),
        ("Host: other.example.com\r\n", Refused),
        ("Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.eA\r\n", Refused),
    ]
    .into_iter()
    .map(|(lines, expected)| (lines.replace("ADMIN", &admin).replace("BASIC", &basic), expected))
    .collect();
    let mut requests = Vec::new();
    for (lines, expected) in cases {
        requests.push((format!("{lines:?}"), rig.review(&lines), expected));
        // The same below another header, and with the connection closing.
        let below = format!("Accept: application/json\r\n{lines}X-Last: 1\r\n");
        requests.push((format!("below: {lines:?}"), rig.review(&below), expected));
    }
    // Nothing but the Authorization header is a credential.
    let path = rig.first.path(REVIEW);
    for (name, target, lines) in [
        ("no credential", path.clone(), String::new()),
        ("cookie only", path.clone(), format!("Cookie: R_SESS={admin}\r\n")),
        ("query only", format!("{path}?token={admin}&access_token={admin}"), String::new()),
        ("impersonation only", path.clone(), "Impersonate-User: system:admin\r\n".to_owned()),
        ("userinfo in the host", path.clone(), format!("X-Host: {admin}@x\r\n")),
    ] {
        let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
        let bytes = format!("{head}{lines}Content-Length: {}\r\n\r\n{BODY}", BODY.len());
        requests.push((name.to_owned(), bytes.into_bytes(), Refused));
    }
    rig.all_http1(requests).await
}

/// Where one request ends and the next begins must be one thing to everybody.
async fn framing(rig: &Rig) -> anyhow::Result<()> {
    let smuggled = format!(
        "POST {REVIEW} HTTP/1.1\r\nHost: x\r\nImpersonate-User: system:admin\r\nImpersonate-Group: system:masters\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let head = rig.head();
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunked = format!("{}0\r\n\r\n", chunk(BODY));
    let both = BODY.len() + smuggled.len();
    let cases = vec![
        ("chunked", format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunked}"), Own),
        (
            "trailers",
            format!(
                "{head}Transfer-Encoding: chunked\r\nTrailer: Impersonate-User\r\n\r\n{}0\r\nImpersonate-User: system:admin\r\nAuthorization: Bearer x\r\n\r\n",
                chunk(BODY)
            ),
            Either,
        ),
        (
            "CL and TE",
            format!("{head}Content-Length: {both}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}{smuggled}"),
            Either,
        ),
        (
            "TE and CL",
            format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunked}{smuggled}"),
            Either,
        ),
        ("short CL", format!("{head}Content-Length: {}\r\n\r\n{BODY}{smuggled}", BODY.len()), Own),
        (
            "CL twice",
            format!("{head}Content-Length: {}\r\nContent-Length: {both}\r\n\r\n{BODY}{smuggled}", BODY.len()),
            Refused,
        ),
        ("CL list", format!("{head}Content-Length: {}, {both}\r\n\r\n{BODY}{smuggled}", BODY.len()), Refused),
        ("CL with sign", format!("{head}Content-Length: +{}\r\n\r\n{BODY}{smuggled}", BODY.len()), Refused),
        ("CL negative", format!("{head}Content-Length: -1\r\n\r\n{BODY}{smuggled}"), Refused),
        ("CL hexadecimal", format!("{head}Content-Length: 0x44\r\n\r\n{BODY}{smuggled}"), Refused),
        ("CL too large", format!("{head}Content-Length: 99999999999999999999999\r\n\r\n{BODY}{smuggled}"), Refused),
        (
            "TE twice",
            format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{chunked}{smuggled}"),
            Refused,
        ),
        (
            "TE unknown",
            format!("{head}Transfer-Encoding: xchunked\r\nContent-Length: {}\r\n\r\n{BODY}{smuggled}", BODY.len()),
            Refused,
        ),
        ("TE not last", format!("{head}Transfer-Encoding: chunked, gzip\r\n\r\n{chunked}{smuggled}"), Refused),
        (
            "TE with vertical tab",
            format!("{head}Transfer-Encoding: \u{b}chunked\r\nContent-Length: {}\r\n\r\n{BODY}{smuggled}", BODY.len()),
            Refused,
        ),
        (
            "TE in HTTP/1.0",
            format!("{}Transfer-Encoding: chunked\r\n\r\n{chunked}{smuggled}", head.replace("HTTP/1.1", "HTTP/1.0")),
            Either,
        ),
        (
            "TE and connection",
            format!("{head}Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}{smuggled}"),
            Either,
        ),
        (
            "CL and connection",
            format!("{head}Connection: content-length\r\nContent-Length: {}\r\n\r\n{BODY}{smuggled}", BODY.len()),
            Either,
        ),
        ("chunk size with sign", format!("{head}Transfer-Encoding: chunked\r\n\r\n+{chunked}{smuggled}"), Either),
        (
            "chunk extension",
            format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n{:x};a=\"\nx\"\r\n{BODY}\r\n0\r\n\r\n{smuggled}",
                BODY.len()
            ),
            Either,
        ),
        (
            "bare LF after chunk size",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\n{BODY}\r\n0\r\n\r\n{smuggled}", BODY.len()),
            Either,
        ),
        (
            "chunk size overflow",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n1{:0>16x}\r\n{BODY}\r\n0\r\n\r\n{smuggled}", BODY.len()),
            Refused,
        ),
        (
            "GET with body",
            format!("{}Content-Length: {}\r\n\r\n{smuggled}", head.replacen("POST", "GET", 1), smuggled.len()),
            Refused,
        ),
        ("no length", format!("{head}\r\n{smuggled}"), Refused),
        (
            "expect",
            format!("{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n{BODY}{smuggled}", BODY.len()),
            Own,
        ),
        (
            "expect something else",
            format!("{head}Expect: 100-continue, x\r\nContent-Length: {}\r\n\r\n{BODY}{smuggled}", BODY.len()),
            Either,
        ),
        (
            "CR LF in the target",
            format!(
                "{}Content-Length: {}\r\n\r\n{BODY}",
                head.replacen(" HTTP/1.1", " HTTP/1.1\r\nImpersonate-User: system:admin\r\nX:", 1),
                BODY.len()
            ),
            Refused,
        ),
        (
            "two blanks before the version",
            format!("{}Content-Length: {}\r\n\r\n{BODY}", head.replacen(" HTTP/1.1", "  HTTP/1.1", 1), BODY.len()),
            Refused,
        ),
        (
            "absolute target",
            format!(
                "{}Content-Length: {}\r\n\r\n{BODY}",
                head.replacen("POST ", "POST https://other.example.com", 1),
                BODY.len()
            ),
            Refused,
        ),
        (
            "unknown method",
            format!("{}Content-Length: {}\r\n\r\n{BODY}", head.replacen("POST", "IMPERSONATE", 1), BODY.len()),
            Refused,
        ),
        (
            "lower-case method",
            format!("{}Content-Length: {}\r\n\r\n{BODY}", head.replacen("POST", "post", 1), BODY.len()),
            Refused,
        ),
        ("leading lines", format!("\r\n\r\n{head}Content-Length: {}\r\n\r\n{BODY}", BODY.len()), Either),
        ("HTTP/0.9", format!("GET {}\r\n\r\n", rig.first.path("/api")), Refused),
    ];
    let cases =
        cases.into_iter().map(|(name, text, expected)| (name.to_owned(), text.into_bytes(), expected)).collect();
    rig.all_http1(cases).await?;
    nothing_stays_behind(rig).await
}

/// After all that, everybody is still themselves on whatever connection to the API server is reused.
async fn nothing_stays_behind(rig: &Rig) -> anyhow::Result<()> {
    for (user, login) in [(rig.server.admin(), "admin"), (&rig.owner, "owner")] {
        for _ in 0..20 {
            let url = format!("{}{}", rig.server.url(), rig.first.path(REVIEW));
            let request = rig.server.http().post(url).bearer_auth(&user.token);
            let answer = request.header("content-type", "application/json").body(BODY).send().await?;
            let review: Value = answer.json().await?;
            assert_eq!(review["status"]["userInfo"], identity(user, login), "{review}");
        }
    }
    Ok(())
}

async fn upgrades(rig: &Rig) -> anyhow::Result<()> {
    // A token that is good for everything in the cluster, which no way through the server may carry.
    let account = ["create", "serviceaccount", "powerful"];
    rig.first.control_plane.kubectl(account).ok().await?;
    let token = rig.first.control_plane.kubectl(["create", "token", "powerful"]).ok().await?;
    let bearer = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.trim());
    let smuggled = format!(
        "POST {REVIEW} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        token.trim(),
        BODY.len()
    );
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let get = rig.head().replacen("POST", "GET", 1);
    let without = get.replace(&format!("Authorization: Bearer {}\r\n", rig.owner.token), "");
    let cases = vec![
        ("WebSocket where there is none", format!("{get}{websocket}\r\n{smuggled}"), Refused),
        (
            "WebSocket by POST",
            format!("{}{websocket}Content-Length: {}\r\n\r\n{BODY}{smuggled}", rig.head(), BODY.len()),
            Refused,
        ),
        (
            "WebSocket of a wrong version",
            format!("{}\r\n{smuggled}", format_args!("{get}{}", websocket.replace("13", "777"))),
            Refused,
        ),
        (
            "h2c",
            format!(
                "{}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {}\r\n\r\n{BODY}{smuggled}",
                rig.head(),
                BODY.len()
            ),
            Either,
        ),
        (
            "TLS",
            format!(
                "{}Connection: Upgrade\r\nUpgrade: TLS/1.3\r\nContent-Length: {}\r\n\r\n{BODY}",
                rig.head(),
                BODY.len()
            ),
            Either,
        ),
        (
            "two protocols",
            format!("{get}Connection: Upgrade\r\nUpgrade: websocket, SPDY/3.1\r\n\r\n{smuggled}"),
            Refused,
        ),
        (
            "SPDY where there is none",
            format!("{}Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n{smuggled}", rig.head()),
            Refused,
        ),
        (
            "SPDY with a body",
            format!(
                "{}Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: {}\r\n\r\n{BODY}{smuggled}",
                rig.head(),
                BODY.len()
            ),
            Refused,
        ),
        ("upgrade names an identity", format!("{get}{websocket}Connection: Impersonate-User\r\n\r\n"), Refused),
        (
            "bearer subprotocol",
            format!(
                "{get}{websocket}Sec-WebSocket-Protocol: v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{bearer}\r\n\r\n"
            ),
            Refused,
        ),
        (
            "bearer subprotocol alone",
            format!(
                "{without}{websocket}Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.{bearer}\r\n\r\n"
            ),
            Refused,
        ),
        (
            "bearer subprotocol twice",
            format!(
                "{get}{websocket}Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: BASE64URL.bearer.authorization.k8s.io.{bearer}\r\n\r\n"
            ),
            Refused,
        ),
        (
            "CONNECT",
            format!(
                "CONNECT {}:443 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n{smuggled}",
                rig.first.path(""),
                rig.owner.token
            ),
            Refused,
        ),
        (
            "CONNECT to an authority",
            format!(
                "CONNECT 127.0.0.1:6443 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n{smuggled}",
                rig.owner.token
            ),
            Refused,
        ),
    ];
    let cases =
        cases.into_iter().map(|(name, text, expected)| (name.to_owned(), text.into_bytes(), expected)).collect();
    rig.all_http1(cases).await
}

async fn http2(rig: &Rig) -> anyhow::Result<()> {
    let (path, other) = (rig.first.path(REVIEW), rig.second.path("/api/v1/namespaces/default/configmaps/which"));
    let authorization = format!("Bearer {}", rig.owner.token);
    let length = BODY.len().to_string();
    let base: Vec<(&str, &str)> = vec![
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", rig.wire.address()),
        (":path", &path),
        ("authorization", &authorization),
        ("content-type", "application/json"),
    ];
    let with = |more: &[(&'static str, &str)]| -> Vec<Field> {
        base.iter()
            .copied()
            .chain(more.iter().copied())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let but = |field: &str, value: &str| -> Vec<Field> {
        let changed = base.iter().map(|(name, old)| (*name, if *name == field { value } else { *old }));
        changed.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let injected = "\r\nImpersonate-User: system:admin\r\nX: ";
    let cases: Vec<(&str, Vec<Field>, Expected)> = vec![
        ("plain", with(&[]), Own),
        ("length", with(&[("content-length", &length)]), Own),
        ("wrong length", with(&[("content-length", "5")]), Refused),
        ("identity", with(&[("impersonate-user", "system:admin")]), Refused),
        ("group", with(&[("impersonate-group", "system:masters")]), Refused),
        ("uid", with(&[("impersonate-uid", "0")]), Refused),
        ("extra", with(&[("impersonate-extra-username", "admin")]), Refused),
        ("underscore", with(&[("impersonate_user", "system:admin")]), Refused),
        ("upper case", with(&[("Impersonate-User", "system:admin")]), Refused),
        ("remote user", with(&[("x-remote-user", "system:admin")]), Own),
        ("connection", with(&[("connection", "impersonate-user")]), Refused),
        ("connection and identity", with(&[("connection", "impersonate-user"), ("impersonate-user", "x")]), Refused),
        ("te", with(&[("te", "trailers, impersonate-user")]), Refused),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), Refused),
        ("keep-alive", with(&[("keep-alive", "impersonate-user")]), Refused),
        ("upgrade", with(&[("upgrade", "websocket")]), Refused),
        ("name with a line", with(&[("x\r\nimpersonate-user", "system:admin")]), Refused),
        ("name with a colon", with(&[("impersonate-user:", "system:admin")]), Refused),
        ("name with a blank", with(&[("impersonate-user ", "system:admin")]), Refused),
        ("empty name", with(&[("", "system:admin")]), Refused),
        ("value with a line", with(&[("x-a", "b\r\nimpersonate-user: system:admin")]), Refused),
        ("value with LF", with(&[("x-a", "b\nimpersonate-user: system:admin")]), Refused),
        ("value with NUL", with(&[("x-a", "b\0")]), Refused),
        ("path twice", with(&[(":path", &other)]), Refused),
        ("method twice", with(&[(":method", "GET")]), Refused),
        ("authority twice", with(&[(":authority", "x")]), Refused),
        ("late pseudo header", with(&[(":protocol", "websocket")]), Refused),
        ("unknown pseudo header", with(&[(":impersonate-user", "system:admin")]), Refused),
        ("status", with(&[(":status", "200")]), Refused),
        ("host", with(&[("host", "other.example.com")]), Refused),
        ("host twice", with(&[("host", rig.wire.address()), ("host", "x")]), Refused),
        ("second credential", with(&[("authorization", "Bearer x")]), Refused),
        ("cookies", with(&[("cookie", "R_SESS=x"), ("cookie", "y=z")]), Own),
        ("path with a line", but(":path", &format!("{path} HTTP/1.1{injected}")), Refused),
        ("path with a blank", but(":path", &format!("{path} HTTP/1.1")), Refused),
        ("path of nothing", but(":path", ""), Refused),
        ("path star", but(":path", "*"), Refused),
        ("path absolute", but(":path", &format!("https://x{path}")), Refused),
        ("path of the other cluster", but(":path", &other), Refused),
        ("method with a line", but(":method", &format!("POST {path} HTTP/1.1{injected}")), Refused),
        ("method CONNECT", but(":method", "CONNECT"), Refused),
        ("scheme", but(":scheme", &format!("https{injected}")), Refused),
        ("authority with a line", but(":authority", &format!("x{injected}")), Refused),
        ("authority with a user", but(":authority", "admin@x"), Either),
        ("no authority", but(":authority", ""), Either),
    ];
    let mut checked = Vec::new();
    for (name, fields, expected) in cases {
        checked.push(http2_case(rig, name, fields, Vec::new(), expected).await);
    }
    let trailers = vec![("impersonate-user".to_owned(), "system:admin".to_owned())];
    checked.push(http2_case(rig, "trailers", with(&[]), trailers, Either).await);
    let reordered = with(&[]).into_iter().rev().collect();
    checked.push(http2_case(rig, "pseudo headers last", reordered, Vec::new(), Refused).await);
    failures(checked)
}

async fn http2_case(
    rig: &Rig,
    name: &str,
    fields: Vec<Field>,
    trailers: Vec<Field>,
    expected: Expected,
) -> anyhow::Result<Result<(), String>> {
    let wire = rig.wire.clone();
    let answer = tokio::task::spawn_blocking(move || wire.http2(&fields, BODY.as_bytes(), &trailers)).await?;
    let answer = answer.with_context(|| name.to_owned())?;
    Ok(rig.check(&format!("h2 {name}"), &answer, expected))
}

/// The cluster that is authorised is the cluster that is asked, however the target is written.
async fn paths(rig: &Rig) -> anyhow::Result<()> {
    let (a, b) = (rig.first.id.as_str(), rig.second.id.as_str());
    let which = "api/v1/namespaces/default/configmaps/which";
    let mut targets: Vec<String> = [
        "/k8s/clusters/{b}/{which}",
        "/k8s/clusters/{a}/../{b}/{which}",
        "/k8s/clusters/{a}/%2e%2e/{b}/{which}",
        "/k8s/clusters/{a}/.%2e/{b}/{which}",
        "/k8s/clusters/{a}/..%2f{b}/{which}",
        "/k8s/clusters/{a}%2f..%2f{b}/{which}",
        "/k8s/clusters/{a}%2f../{b}/{which}",
        "/k8s/clusters/{a}/..;/{b}/{which}",
        "/k8s/clusters/{a};/../{b}/{which}",
        "/k8s/clusters/{a}\\..\\{b}/{which}",
        "/k8s/clusters/{a}/..\\{b}/{which}",
        "/k8s/clusters/{a}/%5c..%5c{b}/{which}",
        "/k8s/clusters/{a}/%252e%252e/{b}/{which}",
        "/k8s/clusters/./{b}/{which}",
        "/k8s/clusters//{b}/{which}",
        "/k8s//clusters/{b}/{which}",
        "//k8s/clusters/{b}/{which}",
        "/./k8s/clusters/{b}/{which}",
        "/x/../k8s/clusters/{b}/{which}",
        "/K8S/clusters/{b}/{which}",
        "/k8s/clusters/{B}/{which}",
        "/k8s/clusters/%63{b1}/{which}",
        "/k8s/clusters/{a}%00/../{b}/{which}",
        "/k8s/clusters/{a}?/../{b}/{which}",
        "/k8s/clusters/{a}#/../{b}/{which}",
        "/k8s/clusters/{a}@{b}/{which}",
        "/k8s/clusters/{a},{b}/{which}",
        "/k8s/clusters/{a}:443@{b}/{which}",
        "/k8s/clusters/{a}/k8s/clusters/{b}/{which}",
        "/k8s/clusters/*/{which}",
        "/k8s/proxy/{b}/{which}",
        "/v3/../k8s/clusters/{b}/{which}",
        "/k8s/clusters/{a}/api/v1/../../../{b}/{which}",
        "https://x/k8s/clusters/{b}/{which}",
        "k8s/clusters/{b}/{which}",
    ]
    .map(|target| {
        target
            .replace("{which}", which)
            .replace("{a}", a)
            .replace("{b}", b)
            .replace("{B}", &b.to_uppercase())
            .replace("{b1}", &b[1..])
    })
    .into();
    targets.push(format!("/k8s/clusters/{a}/../{}", "../".repeat(40)));
    let request = |target: &str, token: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")
            .into_bytes()
    };
    let get = async |bytes: Vec<u8>| -> anyhow::Result<String> {
        let wire = rig.wire.clone();
        let answer = tokio::task::spawn_blocking(move || wire.http1(&bytes)).await??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let plain = get(request(&format!("/k8s/clusters/{a}/{which}"), &rig.owner.token)).await?;
    assert!(plain.starts_with("HTTP/1.1 200") && plain.contains("first-cluster"), "{plain}");
    let admin = &rig.server.admin().token;
    for target in targets {
        // Somebody of the first cluster only never sees the second; who may enter both is not sent there by a trick.
        let answer = get(request(&target, &rig.owner.token)).await?;
        // `?` begins a query and `#` a part that HTTP ignores: those are the first cluster's root.
        let served = answer.starts_with("HTTP/1.1 200") && !target.contains(['?', '#']);
        assert!(!answer.contains("-cluster\"") && !served, "{target}: {answer}");
        if !target.starts_with(&format!("/k8s/clusters/{b}/")) {
            let answer = get(request(&target, admin)).await?;
            assert!(!answer.contains("-cluster\""), "{target}: {answer}");
        }
    }
    Ok(())
}

/// Names, service range and SANs of the two are equal, and so is what their agents dial them by.
async fn interleaved(rig: &Rig) -> anyhow::Result<()> {
    let members = [(&rig.first, "first-cluster"), (&rig.second, "second-cluster")];
    let user = rig.server.admin();
    let answers = stream::iter(0..INTERLEAVED).map(|number| async move {
        let (member, wanted) = members[number % 2];
        let path = member.path("/api/v1/namespaces/default/configmaps/which");
        let answer = rig.server.get(&path, user).await?;
        let status = answer.status();
        let object: Value = answer.json().await?;
        ensure!(status == 200 && object["data"]["text"] == wanted, "{number} for {wanted}: {status} {object}");
        Ok(())
    });
    let met: Vec<anyhow::Result<()>> = answers.buffer_unordered(32).collect().await;
    assert_eq!(met.len(), INTERLEAVED);
    met.into_iter().collect()
}

/// However a session is written, it does not reach an API server while it cannot stand in the audit log.
async fn unrecorded_sessions(rig: &mut Rig) -> anyhow::Result<()> {
    let log = rig.server.data_dir().join("audit.log");
    rig.server.process().stop(SOON).await?;
    std::fs::remove_file(&log)?;
    std::os::unix::fs::symlink("/dev/full", &log)?;
    rig.server.start_again().await?;
    let which = rig.first.path("/api/v1/namespaces/default/configmaps/which");
    wait_for("reads without an audit log", SOON, async || {
        let answer = rig.server.get(&which, &rig.owner).await?;
        ensure!(answer.status() == 200, "{}", answer.text().await?);
        Ok(())
    })
    .await?;
    let seen = std::fs::read_to_string(audit_log(rig.logs.path(), "first"))?.len();
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
    for (path, headers) in [
        ("/api/v1/namespaces/default/pods/p/exec?command=sh", websocket),
        ("/api/v1/namespaces/default/pods/p/%65xec?command=sh", websocket),
        ("/api/v1/namespaces/default/pods/p%2Fexec?command=sh", websocket),
        ("/%61pi%2Fv1/namespaces/default/pods/p/portforwar%64", websocket),
        ("/api/v1/namespaces/default/pods/p%2fattach/", websocket),
        ("/api/v1/namespaces/default/pods/p/exec?command=sh", ""),
        ("/api/v1/nodes/n/proxy/exec/default/p/c?command=sh", websocket),
        ("/api/v1/nodes/n%2Fproxy/exec/default/p/c?command=sh", ""),
        ("/api/v1/namespaces/default/services/s/proxy/", ""),
        ("/api/v1/namespaces/default/pods?%77atch=1", websocket),
    ] {
        let (target, address, token) = (rig.first.path(path), rig.wire.address(), &rig.owner.token);
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        let wire = rig.wire.clone();
        let answer = tokio::task::spawn_blocking(move || wire.http1(head.as_bytes())).await??;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.starts_with("HTTP/1.1 503") && answer.contains("audit log is full"), "{path}: {answer}");
    }
    let reached = std::fs::read_to_string(audit_log(rig.logs.path(), "first"))?;
    let reached: Vec<&str> = reached[seen..].lines().filter(|line| line.contains(&rig.owner.name)).collect();
    ensure!(reached.iter().all(|line| line.contains("configmaps/which")), "{reached:#?}");
    Ok(())
}

/// Every request that an impersonator's token made was for its own user, as documented.
fn audited(rig: &Rig) -> anyhow::Result<()> {
    let prefix = "system:serviceaccount:cattle-impersonation-system:cattle-impersonation-";
    let known: BTreeMap<&str, Value> = [(rig.server.admin(), "admin"), (&rig.owner, "owner")]
        .map(|(user, login)| (user.name.as_str(), identity(user, login)))
        .into();
    let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for file in ["first", "second"] {
        let log = std::fs::read_to_string(audit_log(rig.logs.path(), file))?;
        for line in log.lines() {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let who = event["user"]["username"].as_str().unwrap_or_default();
            let Some(user) = who.strip_prefix(prefix) else {
                ensure!(event["impersonatedUser"].is_null(), "somebody else impersonates: {event}");
                continue;
            };
            let wanted = known.get(user).with_context(|| format!("nobody knows {user}"))?;
            ensure!(event["impersonatedUser"] == *wanted, "another identity: {event}");
            *seen.entry((file, user.to_owned())).or_default() += 1;
        }
    }
    let count = |file, user: &User| seen.get(&(file, user.name.clone())).copied().unwrap_or(0);
    let (admin, owner) = (rig.server.admin(), &rig.owner);
    ensure!(count("first", admin) >= INTERLEAVED / 2 && count("second", admin) >= INTERLEAVED / 2, "{seen:?}");
    ensure!(count("first", owner) > 50 && count("second", owner) == 0, "{seen:?}");
    Ok(())
}
