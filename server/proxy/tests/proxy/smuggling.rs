//! Whatever a client sends, the API server sees exactly one identity: the authenticated one.

use std::sync::Arc;

use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::fake::{Seen, always, ok};
use crate::rig::{CLUSTER, Rig, soon};

const WHO: [(&str, &[&str]); 5] = [
    ("authorization", &["Bearer token-of-u-alice-in-c-aaaaa"]),
    ("impersonate-user", &["u-alice"]),
    ("impersonate-group", &["system:authenticated", "system:cattle:authenticated"]),
    ("impersonate-extra-principalid", &["local://u-alice"]),
    ("impersonate-extra-username", &["login"]),
];

/// Header lines as they stand on the wire. Every value says `evil`, so that nothing of them can hide.
const ATTACKS: &[&str] = &[
    "Impersonate-User: evil",
    "iMpErSoNaTe-UsEr: evil",
    "Impersonate-User: evil\r\nImpersonate-User: evil",
    "Impersonate-Group: system:masters-evil",
    "Impersonate-Uid: evil",
    "Impersonate-Extra-Scopes: evil",
    "Impersonate-Extra-%2573copes: evil",
    "Impersonate_User: evil",
    "impersonate-extra_principalid: evil",
    "X-Remote-User: evil",
    "X-Remote-Group: evil",
    "X-Remote-Extra-Scopes: evil",
    "X-Remote-Uid: evil",
    "X_Remote_User: evil",
    "x_remote-group: evil",
    "X-Forwarded-User: evil",
    "X-Forwarded-Groups: evil",
    "X-Forwarded-Access-Token: evil",
    "X-Forwarded-For: evil",
    "X_Forwarded_For: evil",
    "Forwarded: for=evil",
    "Remote-User: evil",
    "X-Real-IP: evil",
    "Cookie: R_SESS=evil",
    "Proxy-Authorization: Bearer evil",
    "X-API-Tunnel-Token: evil",
    "X-API-Cattle-Auth: evil",
    "Audit-ID: evil",
    "Via: evil",
    "TE: evil",
    "Keep-Alive: evil",
    "Proxy-Connection: evil",
    "HTTP2-Settings: evil",
    "Upgrade: evil",
    "Connection: upgrade\r\nUpgrade: evil",
    "Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: evil",
    "Connection: upgrade\r\nUpgrade: websocket, evil",
    "Connection: Impersonate-User",
    "Connection: close, Impersonate-User, Impersonate-Group",
    "Connection: Authorization",
    "Connection: keep-alive\r\nConnection: impersonate-user\r\nConnection: \"impersonate-group\"",
    "Connection: Impersonate-User\r\nImpersonate-User: evil",
    "Connection: x-evil\r\nX-Evil: evil",
    "Connection:\tHost,\tContent-Length ,Audit-ID,X-Remote-User\r\nX-Remote-User: evil",
    "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.evil",
    "X-HTTP-Method-Override: evil",
    "X-Original-URL: /evil",
    // What is no header is refused, or read as one line by nobody.
    "Impersonate-User : evil",
    " Impersonate-User: evil",
    "X-One: a\r\n Impersonate-User: evil",
    "X-One: a\r\n\tImpersonate-User: evil",
    "Impersonate-User\0: evil",
    "Impersonate-User\x0b: evil",
    "Impersonate-User: a\0evil",
    "Impersonate-User",
    ": evil",
    "Impersonate-User: a\revil: b",
    "Host: evil",
    "Trailer: Impersonate-User-evil",
    "Authorization: Bearer evil",
    "Content-Length: evil",
    "Content-Length: +5-evil",
    "Transfer-Encoding: evil",
    "Transfer-Encoding: chunked, evil",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: evil",
];

#[track_caller]
fn assert_only_alice(seen: &Seen, attack: &str) {
    for (name, values) in WHO {
        assert_eq!(seen.values(name), values, "{name} after {attack:?}");
    }
    let identities = seen.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("impersonate")).count();
    assert_eq!(identities, 5, "after {attack:?}: {}", seen.head);
    assert!(!seen.head.contains("evil"), "after {attack:?}: {}", seen.head);
    assert_eq!(seen.values("host"), ["kubernetes.default.svc"]);
    assert_eq!(seen.values("audit-id").len(), 1);
}

#[tokio::test]
async fn no_header_makes_another_identity() {
    let rig = Rig::start(always(ok("{}"))).await;
    for method in ["GET", "POST"] {
        for attack in ATTACKS {
            let mut client = rig.connect().await;
            client.request(&format!("{method} /api"), &format!("{attack}\r\nConnection: close\r\n"), "").await;
            let answer = soon(attack, client.answer()).await;
            let seen = std::mem::take(&mut *rig.fake.seen.lock());
            match answer.map(|answer| answer.status) {
                Some(200) => assert_eq!(seen.len(), 1, "{attack:?}"),
                Some(400 | 401 | 403 | 431) | None => assert_eq!(seen.len(), 0, "{attack:?}"),
                Some(status) => panic!("{status} for {attack:?}"),
            }
            seen.iter().for_each(|seen| assert_only_alice(seen, attack));
            if attack.to_ascii_lowercase().starts_with("impersonate-u")
                && attack.contains(": ")
                && !attack.contains(['\0', '\x0b'])
            {
                assert!(seen.is_empty(), "{attack:?}");
            }
        }
    }
}

#[tokio::test]
async fn impersonation_is_refused_and_named() {
    let rig = Rig::start(always(ok("{}"))).await;
    let answer = rig.request("GET /api", "Impersonate-Extra-Scopes: x\r\n", "").await;
    assert_eq!(answer.status, 403);
    assert!(answer.message().contains("impersonate-extra-scopes"), "{}", answer.message());
    assert!(rig.fake.seen().is_empty());
}

#[tokio::test]
async fn http2_makes_no_other_identity() {
    let rig = Rig::start(always(ok("{}"))).await;
    let io = TcpStream::connect(rig.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let attacks: &[&[(&str, &str)]] = &[
        &[],
        &[("x-remote-user", "evil"), ("x_remote_user", "evil"), ("cookie", "a=evil"), ("cookie", "b=evil")],
        &[("x-forwarded-user", "evil"), ("forwarded", "evil"), ("proxy-authorization", "evil")],
        &[("impersonate-user", "evil")],
        &[("impersonate_user", "evil")],
        &[("impersonate-extra-x", "evil")],
        &[("host", "evil")],
        &[("te", "trailers")],
        &[("audit-id", "evil")],
    ];
    for attack in attacks {
        let uri = format!("http://front/k8s/clusters/{CLUSTER}/api");
        let mut request =
            Request::builder().uri(uri).version(Version::HTTP_2).header("authorization", "Bearer u-alice");
        for (name, value) in *attack {
            request = request.header(*name, *value);
        }
        let response =
            soon("h2", sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap())).await.unwrap();
        let seen = std::mem::take(&mut *rig.fake.seen.lock());
        let status = response.status().as_u16();
        drop(response.collect().await);
        match attack.first().map(|(name, _)| *name) {
            Some(name) if name.starts_with("impersonate") => assert_eq!((status, seen.len()), (403, 0)),
            Some("host") => assert_eq!((status, seen.len()), (400, 0)),
            _ => assert_eq!((status, seen.len()), (200, 1), "{attack:?}"),
        }
        seen.iter().for_each(|seen| assert_only_alice(seen, "h2"));
    }
}

#[tokio::test]
async fn framing_that_two_readers_read_differently_smuggles_nothing() {
    let rig = Rig::start(always(ok("{}"))).await;
    let hidden = format!("GET /k8s/clusters/{CLUSTER}/hidden HTTP/1.1\r\nHost: x\r\n\r\n");
    let bodies = [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", format!("0\r\n\r\n{hidden}")),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", format!("3\r\nabc\r\n0\r\n\r\n{hidden}")),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", format!("0\r\n\r\n{hidden}")),
        ("Transfer-Encoding: chunked, identity\r\n", format!("0\r\n\r\n{hidden}")),
        ("Transfer-Encoding: xchunked\r\n", format!("0\r\n\r\n{hidden}")),
        ("Transfer-Encoding : chunked\r\n", format!("0\r\n\r\n{hidden}")),
        ("Content-Length: 0\r\nContent-Length: 5\r\n", hidden.clone()),
        ("Content-Length: 0, 5\r\n", hidden.clone()),
        ("Content-Length: +0\r\n", hidden.clone()),
        ("Content-Length: 0x0\r\n", hidden.clone()),
        ("Content-Length: -1\r\n", hidden.clone()),
        ("Content-Length: 18446744073709551616\r\n", hidden.clone()),
        ("Transfer-Encoding: chunked\r\n", format!("0;{}\n\r\n{hidden}", "a".repeat(70_000))),
        ("Transfer-Encoding: chunked\r\n", format!("00000000000000001\r\na\r\n0\r\n\r\n{hidden}")),
        ("Transfer-Encoding: chunked\r\n", format!("1\n\na\n0\n\n{hidden}")),
        ("Connection: Content-Length\r\nContent-Length: 3\r\n", format!("abc{hidden}")),
    ];
    for (headers, body) in &bodies {
        let mut client = rig.connect().await;
        client.request("POST /api", headers, "").await;
        client.write(body).await;
        // The hidden request carries no credential: the best it can get is 401 here. It must not get further.
        let mut rest = Vec::new();
        drop(tokio::io::AsyncWriteExt::shutdown(&mut client.io).await);
        drop(soon(headers, client.io.read_to_end(&mut rest)).await);
        let seen = std::mem::take(&mut *rig.fake.seen.lock());
        assert!(seen.len() <= 1, "{headers:?}");
        for seen in &seen {
            assert!(!seen.head.contains("hidden"), "{headers:?}: {}", seen.head);
            let framings = seen.values("content-length").len() + seen.values("transfer-encoding").len();
            assert!(framings <= 1, "{headers:?}: {}", seen.head);
            assert_only_alice(seen, headers);
        }
    }
}

#[tokio::test]
async fn http_1_0_with_chunked_is_not_read_as_chunked() {
    let rig = Rig::start(always(ok("{}"))).await;
    let mut client = rig.connect().await;
    let head = format!(
        "POST /k8s/clusters/{CLUSTER}/api HTTP/1.0\r\nAuthorization: Bearer u-alice\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    client.write(format!("{head}0\r\n\r\nGET /k8s/clusters/{CLUSTER}/hidden HTTP/1.1\r\n\r\n")).await;
    let answer = soon("1.0", client.answer()).await;
    assert!(answer.is_none_or(|answer| answer.status >= 400));
    assert!(rig.fake.seen().is_empty());
}

#[tokio::test]
async fn trailers_are_not_headers() {
    let rig = Rig::start(always(ok("{}"))).await;
    let mut client = rig.connect().await;
    client.request("POST /api", "Transfer-Encoding: chunked\r\nTrailer: Impersonate-User\r\n", "").await;
    client.write("3\r\nabc\r\n0\r\nImpersonate-User: evil\r\nX-Remote-User: evil\r\n\r\n").await;
    assert_eq!(soon("trailers", client.answer()).await.unwrap().status, 200);
    assert_only_alice(&rig.fake.seen()[0], "trailers");
}

#[tokio::test]
async fn a_hundred_pipelined_requests_keep_their_identities() {
    let rig = Rig::start(always(ok("{}"))).await;
    let mut client = rig.connect().await;
    for number in 0..100 {
        let head = format!("GET /k8s/clusters/{CLUSTER}/api?n={number} HTTP/1.1\r\nHost: x\r\n");
        client.write(format!("{head}Authorization: Bearer u-{number}\r\n\r\n")).await;
    }
    for _ in 0..100 {
        assert_eq!(soon("pipelined", client.answer()).await.unwrap().status, 200);
    }
    for (number, seen) in rig.fake.seen().iter().enumerate() {
        assert_eq!(seen.request_line(), format!("GET /api?n={number} HTTP/1.1"));
        assert_eq!(seen.values("impersonate-user"), [format!("u-{number}")]);
        assert_eq!(seen.values("authorization"), [format!("Bearer token-of-u-{number}-in-{CLUSTER}")]);
    }
}

#[tokio::test]
async fn paths_arrive_as_they_are_or_not_at_all() {
    let rig = Rig::start(always(ok("{}"))).await;
    let forwarded =
        ["/api/v1/pods?labelSelector=a%3Db&limit=5", "/", "/a%2Fb", "/api/v1/x/proxy//y?z=//", "/a?b=%zz&c=/../"];
    for path in forwarded {
        assert_eq!(rig.get(path).await.status, 200, "{path}");
        assert_eq!(rig.fake.seen().last().unwrap().request_line(), format!("GET {path} HTTP/1.1"));
    }
    let count = rig.fake.seen().len();
    for path in ["//api", "/../c-bbbbb/api", "/%2e%2e/x", "/./api", "/api/%00", "/api/%2", "/..%2fx"] {
        assert_eq!(rig.get(path).await.status, 400, "{path}");
    }
    for (target, status) in [
        ("/k8s/clusters/%63-aaaaa/api".to_owned(), 400),
        ("/k8s/clusters//c-aaaaa/api".to_owned(), 400),
        ("/k8s/clusters/local/api".to_owned(), 404),
        ("/k8s/clusters/C-AAAAA/api".to_owned(), 404),
        ("/k8s/clusters/c-aaaa/api".to_owned(), 404),
        ("/elsewhere".to_owned(), 404),
        ("*".to_owned(), 404),
        (format!("http://other/k8s/clusters/{CLUSTER}/api"), 400),
        (format!("/k8s/clusters/{CLUSTER}/{}", "a".repeat(17_000)), 414),
    ] {
        let mut client = rig.connect().await;
        client.write(format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer u-alice\r\n\r\n")).await;
        assert_eq!(soon("path", client.answer()).await.unwrap().status, status, "{}", &target[..target.len().min(80)]);
    }
    let mut client = rig.connect().await;
    client.write("CONNECT c-aaaaa:443 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer u-alice\r\n\r\n").await;
    assert_eq!(soon("connect", client.answer()).await.unwrap().status, 405);
    assert_eq!(rig.fake.seen().len(), count, "nothing of these was forwarded");
}

/// The HTTP library cuts a fragment off before anybody here can see it, in both protocols. What is left is what is read, checked,
/// recorded and forwarded, so that nothing behind the `#` is ever another request's.
#[tokio::test]
async fn a_fragment_ends_the_target_for_everybody() {
    let rig = Rig::start(always(ok("{}"))).await;
    for (target, left) in [
        ("/api/v1/pods#/../../../c-bbbbb/api", "/api/v1/pods"),
        ("/api/v1/namespaces/a/pods/b#/log", "/api/v1/namespaces/a/pods/b"),
        ("/api?a=b#&watch=true", "/api?a=b"),
        ("#/api", "/"),
    ] {
        let answer = rig.request(&format!("DELETE {target}"), "", "").await;
        if answer.status != 400 {
            assert_eq!(rig.fake.seen().last().unwrap().request_line(), format!("DELETE {left} HTTP/1.1"));
            let lines = rig.audit.lines();
            assert!(
                lines.last().unwrap()["requestURI"].as_str().unwrap().ends_with(left.trim_end_matches('/')),
                "{lines:?}"
            );
        }
    }
    let mut client = rig.connect().await;
    client
        .write("GET /k8s/clusters/c-bbbbb#c-aaaaa/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer u-alice\r\n\r\n")
        .await;
    assert_eq!(soon("path", client.answer()).await.unwrap().status, 404, "the cluster is the one before the fragment");
}

#[tokio::test]
async fn random_heads_never_make_a_second_identity() {
    let rig = Rig::start(always(ok("{}"))).await;
    let matrix = cattle_matrix::Matrix::of_this_run("random heads");
    let paths = ["/api", "/../x", "/%2e%2e/y", "//z", "/a%2fb", "/?q", "", "/a b", "/\u{e9}"];
    let rig = Arc::new(rig);
    for round in matrix.slice(10_000, 500) {
        let mut dice = matrix.random_at(round);
        let lines: Vec<&str> = (0..dice.usize(..4)).map(|_| ATTACKS[dice.usize(..ATTACKS.len())]).collect();
        let mut headers = lines.join("\r\n");
        if !lines.is_empty() {
            headers.push_str("\r\n");
        }
        let path = paths[dice.usize(..paths.len())];
        let mut client = rig.connect().await;
        client.request(&format!("GET {path}"), &format!("{headers}Connection: close\r\n"), "").await;
        drop(soon("random", client.answer()).await);
        let seen = std::mem::take(&mut *rig.fake.seen.lock());
        assert!(seen.len() <= 1, "round {round}: {headers:?}");
        seen.iter().for_each(|seen| assert_only_alice(seen, &headers));
    }
}
