//! What a client is told when the API server does not answer.

use std::sync::atomic::Ordering;

use cattle_proxy::{DialError, ImpersonatorError, Limits};

use crate::fake::{Fake, always, handler, ok};
use crate::rig::{CLUSTER, Rig, soon, until};

#[tokio::test]
async fn a_stranger_cannot_tell_a_cluster_from_none() {
    let rig = Rig::start(always(ok("{}"))).await;
    rig.world.strangers.lock().push("u-alice".to_owned());
    let forbidden = rig.get("/api").await;
    rig.world.clusters.lock().clear();
    let unknown = rig.get("/api").await;
    rig.world.strangers.lock().clear();
    let missing = rig.get("/api").await;
    for answer in [&forbidden, &unknown, &missing] {
        assert_eq!(answer.status, 404);
        assert_eq!(answer.body, forbidden.body);
    }
    assert_eq!(forbidden.message(), format!("clusters.management.cattle.io \"{CLUSTER}\" not found"));
    assert!(rig.fake.seen().is_empty());
}

#[tokio::test]
async fn a_token_for_one_cluster_opens_no_other() {
    let rig = Rig::start(always(ok("{}"))).await;
    rig.add("c-bbbbb", &rig.fake, 1);
    for (cluster, status) in [(CLUSTER, 404), ("c-bbbbb", 200)] {
        let mut client = rig.connect().await;
        let target = format!("GET /k8s/clusters/{cluster}/api HTTP/1.1\r\nHost: x\r\n");
        client.write(format!("{target}Authorization: Bearer u-scoped\r\n\r\n")).await;
        assert_eq!(soon("answer", client.answer()).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn each_hop_has_its_sentence() {
    let rig = Rig::start(always(ok("{}"))).await;
    let (since, now) = ("2020-11-23T01:02:03Z".parse().unwrap(), jiff::Timestamp::now());
    let table = [
        (DialError::NotConnected { since: Some(since) }, 503, "since 2020-11-23T01:02:03Z", None),
        (DialError::NotConnected { since: Some(now) }, 503, "is not connected", Some("1")),
        (DialError::NotConnected { since: None }, 503, "since the server started", None),
        (DialError::ApiServerUnreachable, 502, "cannot reach its API server", None),
        (DialError::TimedOut, 504, "in time", None),
        (DialError::Busy, 503, "as many streams", Some("1")),
        (DialError::Broken, 503, "ended", Some("1")),
    ];
    for (error, status, sentence, retry) in table {
        *rig.world.dial_error.lock() = Some(error);
        let answer = rig.get("/api").await;
        assert_eq!(answer.status, status, "{error:?}");
        assert!(answer.message().contains(sentence) && answer.message().contains(CLUSTER), "{}", answer.message());
        assert_eq!(answer.header("retry-after"), retry);
        assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(answer.header("audit-id").is_some());
    }
    *rig.world.dial_error.lock() = None;
    let missing = "ClusterRole cattle-impersonation-u-alice is missing: the server may not create it";
    *rig.world.token_error.lock() = Some(ImpersonatorError::Missing(missing.to_owned()));
    let answer = rig.get("/api").await;
    assert_eq!(answer.status, 503);
    assert!(answer.message().ends_with(missing), "{}", answer.message());
    // Whoever writes impersonators knows only that the cluster is away; the way there tells why.
    *rig.world.token_error.lock() = Some(ImpersonatorError::Away);
    *rig.world.dial_error.lock() = Some(DialError::ApiServerUnreachable);
    assert_eq!(rig.get("/api").await.status, 502);
    *rig.world.dial_error.lock() = None;
    let answer = rig.get("/api").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.message().contains("has just connected"), "{}", answer.message());
    assert!(rig.fake.seen().is_empty());
}

#[tokio::test]
async fn a_cluster_that_cannot_be_used_is_told_before_anybody_is_impersonated() {
    let rig = Rig::start(always(ok("{}"))).await;
    // The impersonator would have to be written first, which cannot succeed.
    rig.world.token_pending.store(true, Ordering::SeqCst);
    let other = Fake::start(always(ok("{}"))).await;
    rig.world.clusters.lock().get_mut(&CLUSTER.parse().unwrap()).unwrap().1.ca_pem = other.ca_pem.clone();
    let answer = soon("certificate", rig.get("/api")).await;
    assert_eq!((answer.status, answer.cause().as_deref()), (502, Some("CertificateMismatch")));
    assert!(answer.message().contains("does not prove itself"), "{}", answer.message());
    *rig.world.dial_error.lock() = Some(DialError::ApiServerUnreachable);
    let answer = soon("unreachable", rig.get("/api")).await;
    assert_eq!((answer.status, answer.cause()), (502, None));
    assert!(rig.fake.seen().is_empty());
}

#[tokio::test]
async fn an_api_server_that_talks_no_sense_is_a_bad_gateway() {
    let rig = Rig::start(handler(|_, _| async { None })).await;
    let answer = rig.get("/api").await;
    assert_eq!(answer.status, 502);
    assert!(answer.message().contains("ended the connection before it answered"));
    for nonsense in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nbad header\r\n\r\n",
    ] {
        rig.fake.answer(handler(move |mut connection, _| async move {
            connection.write(nonsense).await;
            None
        }));
        assert_eq!(rig.get("/api").await.status, 502, "{nonsense:?}");
    }
    // Redirects are never followed, and never lead the client elsewhere.
    rig.fake.answer(always("HTTP/1.1 302 Found\r\nlocation: https://evil.example/\r\ncontent-length: 0\r\n\r\n"));
    assert_eq!(rig.get("/api").await.status, 502);
    rig.fake.answer(always("HTTP/1.1 301 Moved\r\nlocation: /x/\r\ncontent-length: 0\r\n\r\n"));
    let answer = rig.get("/x").await;
    assert_eq!((answer.status, answer.header("location")), (301, Some("/k8s/clusters/c-aaaaa/x/")));
}

#[tokio::test]
async fn an_answer_is_hardened() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nset-cookie: a=b\r\nconnection: x-one\r\nx-one: 1\r\n\
        strict-transport-security: max-age=0\r\ncontent-security-policy: default-src *\r\naccess-control-allow-origin: *\r\n\
        www-authenticate: Basic\r\nalt-svc: h3\r\naudit-id: theirs\r\nx-two: 2\r\ncontent-length: 2\r\n\r\nhi";
    let rig = Rig::start(always(evil)).await;
    let answer = rig.get("/x").await;
    for gone in [
        "set-cookie",
        "x-one",
        "strict-transport-security",
        "access-control-allow-origin",
        "www-authenticate",
        "alt-svc",
    ] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("x-two"), Some("2"));
    assert_eq!(answer.body, "hi");
    let sent = rig.fake.seen()[0].values("audit-id")[0].to_owned();
    assert_eq!(answer.header("audit-id"), Some(sent.as_str()));
}

#[tokio::test]
async fn without_an_audit_log_nothing_changes_and_reads_go_on() {
    let rig = Rig::start(always(ok("{}"))).await;
    rig.audit.set_full(true);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (line, headers) in [
        ("POST /api/v1/namespaces/a/pods", ""),
        ("DELETE /api/v1/namespaces/a/pods/b", ""),
        ("GET /api/v1/namespaces/a/pods/b/exec", ""),
        ("GET /api/v1/namespaces/a/pods/b/%65xec?command=sh", upgrade),
        ("GET /api/v1/namespaces/a/pods/b%2Fexec?command=sh", upgrade),
        ("GET /api/v1/nodes/n/proxy/exec/a/b/c?command=sh", upgrade),
        ("GET /api/v1/nodes/n/proxy/metrics", ""),
        ("GET /apis/subresources.example.org/v1/namespaces/a/machines/b/console", upgrade),
        ("GET /api/v1/pods", upgrade),
    ] {
        let answer = rig.request(line, headers, "").await;
        assert_eq!(answer.status, 503, "{line}");
        assert!(answer.message().contains("audit log is full"), "{}", answer.message());
    }
    assert!(rig.fake.seen().is_empty());
    assert_eq!(rig.get("/api/v1/pods").await.status, 200);
    assert_eq!(rig.request("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", "{}").await.status, 200);
    rig.audit.set_full(false);
    assert_eq!(rig.request("POST /api/v1/namespaces/a/pods", "", "{}").await.status, 200);
}

#[tokio::test]
async fn a_change_stands_in_the_audit_log_before_and_after() {
    let rig = Rig::start(always(ok("{}"))).await;
    let answer = rig
        .request("DELETE /api/v1/namespaces/a/pods/b?x=1", "User-Agent: kubectl/v1\r\nX-Forwarded-For: 9.9.9.9\r\n", "")
        .await;
    until("the last line", || rig.audit.lines().len() == 2).await;
    let lines = rig.audit.lines();
    for (line, stage) in lines.iter().zip(["RequestReceived", "ResponseComplete"]) {
        assert_eq!(line["stage"], stage);
        assert_eq!(line["verb"], "delete");
        assert_eq!(line["user"]["username"], "u-alice");
        assert_eq!(line["objectRef"]["name"], "b");
        assert_eq!(line["sourceIPs"], serde_json::json!(["127.0.0.1"]));
        assert_eq!(line["userAgent"], "kubectl/v1");
        assert_eq!(line["annotations"]["cattle.io/cluster"], CLUSTER);
        assert_eq!(line["annotations"]["cattle.io/token"], "token-u-alice");
        assert_eq!(line["requestURI"], format!("/k8s/clusters/{CLUSTER}/api/v1/namespaces/a/pods/b?x=1"));
        assert_eq!(line["auditID"], answer.header("audit-id").unwrap());
    }
    assert_eq!(lines[1]["responseStatus"]["code"], 200);
}

#[tokio::test]
async fn too_much_at_once_is_told_so() {
    let limits = Limits { per_user: 2, per_cluster: 3 };
    let rig = Rig::limited(
        handler(|mut connection, _| async move {
            connection.closed().await;
            None
        }),
        limits,
    )
    .await;
    let mut held = Vec::new();
    for user in ["u-alice", "u-alice", "u-bob"] {
        let mut client = rig.connect().await;
        client
            .write(format!(
                "GET /k8s/clusters/{CLUSTER}/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user}\r\n\r\n"
            ))
            .await;
        held.push(client);
    }
    until("three run", || rig.proxy.streams().len() == 3).await;
    let answer = rig.get("/api").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    assert!(answer.message().contains("one user"));
    let mut client = rig.connect().await;
    client
        .write(format!("GET /k8s/clusters/{CLUSTER}/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer u-eve\r\n\r\n"))
        .await;
    let answer = soon("limit", client.answer()).await.unwrap();
    assert!(answer.status == 429 && answer.message().contains("one cluster"));
    drop(held);
    until("none runs", || rig.proxy.streams().is_empty()).await;
    rig.fake.answer(always(ok("{}")));
    assert_eq!(rig.get("/api").await.status, 200);
}

#[tokio::test]
async fn reads_leave_no_line_unless_they_are_denied_or_go_inside() {
    let rig = Rig::start(always(ok("{}"))).await;
    let code = |rig: &Rig| rig.audit.lines().last().map(|line| line["responseStatus"]["code"].clone());
    for path in ["/api/v1/secrets", "/api/v1/pods?watch=true", "/api/v1/namespaces/a/pods/b/log", "/version"] {
        assert_eq!(rig.get(path).await.status, 200);
    }
    assert!(rig.audit.lines().is_empty(), "{:?}", rig.audit.lines());

    assert_eq!(rig.get("/api/v1/nodes/n/proxy/pods").await.status, 200);
    until("both lines", || rig.audit.lines().len() == 2).await;
    assert_eq!(rig.audit.lines()[0]["stage"], "RequestReceived");

    // Denied downstream; a change has its two lines anyway, and no third.
    rig.fake.answer(always("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"));
    let answer = rig.request("GET /api/v1/secrets?token=s3cret", "User-Agent: kubectl/v1\r\n", "").await;
    assert_eq!(answer.status, 403);
    until("the denial", || rig.audit.lines().len() == 3).await;
    let line = &rig.audit.lines()[2];
    assert_eq!(
        (&line["stage"], &line["level"], &line["verb"]),
        (&"ResponseComplete".into(), &"Metadata".into(), &"list".into())
    );
    assert_eq!(line["objectRef"]["resource"], "secrets");
    assert_eq!(line["requestURI"], format!("/k8s/clusters/{CLUSTER}/api/v1/secrets?token=REDACTED"));
    assert_eq!((&line["userAgent"], &line["sourceIPs"][0]), (&"kubectl/v1".into(), &"127.0.0.1".into()));
    assert_eq!(line["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(line["annotations"]["cattle.io/cluster"], CLUSTER);
    assert_eq!(line["auditID"], answer.header("audit-id").unwrap());
    assert_eq!(code(&rig), Some(403.into()));
    rig.request("DELETE /api/v1/namespaces/a", "", "").await;
    until("the change", || rig.audit.lines().len() == 5).await;

    // Denied here.
    let count = rig.fake.seen().len();
    assert_eq!(rig.request("GET /api", "Impersonate-User: admin\r\n", "").await.status, 403);
    until("the header", || rig.audit.lines().len() == 6).await;
    rig.world.strangers.lock().push("u-alice".to_owned());
    assert_eq!(rig.request("DELETE /api/v1/namespaces/a", "", "").await.status, 404);
    until("the stranger", || rig.audit.lines().len() == 7).await;
    assert_eq!(code(&rig), Some(404.into()));
    assert_eq!(rig.fake.seen().len(), count);

    // A flood has a bound.
    for _ in 0..100 {
        rig.get("/api").await;
    }
    assert!(rig.audit.lines().len() <= 7 + 30, "{}", rig.audit.lines().len());
}
