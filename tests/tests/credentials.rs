//! What a credential is good for, and until when.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use cattle_harness::wait_for;
use cattle_tests::{ADMIN_PASSWORD, Member, Server, User};
use futures_util::stream;
use reqwest::{Method, Response, Upgraded};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

const SOON: Duration = Duration::from_secs(60);
const CLUSTERS: &str = "/apis/management.cattle.io/v3/clusters";
const TOKENS: &str = "/apis/ext.cattle.io/v1/tokens";

/// However a watch is asked for, the right that opened it is the right to go on.
#[tokio::test]
async fn a_watch_ends_with_its_token_however_it_was_written() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut watches = Vec::new();
    for spelling in ["watch=true", "watch", "%77atch=1", "watch=T", "limit=1&watch&watch=false"] {
        let revoked = token(&server, 3_600_000).await?;
        let watch = watch(&server, spelling, &revoked).await?;
        revoke(&server, &revoked).await?;
        watches.push((format!("{spelling}, revoked"), watch));
        let watch = self::watch(&server, spelling, &token(&server, 10_000).await?).await?;
        watches.push((format!("{spelling}, expired"), watch));
    }
    for (name, mut watch) in watches {
        let ended = async { while let Ok(Some(_)) = watch.chunk().await {} };
        tokio::time::timeout(SOON, ended).await.with_context(|| format!("{name}: it runs on"))?;
    }
    Ok(())
}

/// A change whose body comes slowly is not made when the token is gone by the time it is there.
#[tokio::test]
async fn a_body_that_outlives_its_token_changes_nothing() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let user = server.sign_in("admin", ADMIN_PASSWORD).await?;
    let (sender, receiver) = mpsc::channel::<std::io::Result<String>>(1);
    let body = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let request = server.http().post(format!("{}{CLUSTERS}", server.url())).bearer_auth(&user.token);
    let request = request.header("content-type", "application/json").body(reqwest::Body::wrap_stream(body));
    let change = async {
        sender.send(Ok("{".to_owned())).await?;
        // Only what is sent takes the permit back: the server is being asked.
        drop(sender.reserve().await?);
        revoke(&server, &user).await?;
        let rest = r#""apiVersion":"management.cattle.io/v3","kind":"Cluster","spec":{"displayName":"late"}}"#;
        // The server may have hung up by now.
        sender.send(Ok(rest.to_owned())).await.ok();
        drop(sender);
        anyhow::Ok(())
    };
    let (answer, changed) = tokio::join!(request.send(), change);
    changed?;
    if let Ok(answer) = answer {
        ensure!(!answer.status().is_success(), "the change was made: {}", answer.text().await?);
    }
    let clusters = server.get(CLUSTERS, server.admin()).await?.text().await?;
    ensure!(!clusters.contains("late"), "{clusters}");
    Ok(())
}

/// Served as its sender's own, a request that was meant for somebody else's rights would do what was only to be tried.
#[tokio::test]
async fn nobody_acts_as_somebody_else_at_the_servers_own_api() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let id = server.add_cluster("kept").await?;
    let delete = server.kubectl(server.admin(), ["--as=bob", "delete", "clusters.management.cattle.io", &id]).await?;
    // kubectl begins with discovery, and of a refusal there it shows nothing but the code.
    let delete = delete.output().await?;
    ensure!(!delete.status.success() && delete.error().contains("Forbidden"), "{}", delete.error());
    for name in [
        "Impersonate-User",
        "impersonate_user",
        "IMPERSONATE-GROUP",
        "Impersonate-Uid",
        "Impersonate-Extra-Scopes",
        "Impersonate",
    ] {
        for (method, path) in [
            (Method::GET, CLUSTERS),
            (Method::DELETE, &format!("{CLUSTERS}/{id}")),
            (Method::POST, "/v3-public/localProviders/local?action=login"),
            (Method::POST, "/v3/users?action=changepassword"),
            (Method::POST, "/v3/tokens?action=logout"),
        ] {
            let request = server.http().request(method.clone(), format!("{}{path}", server.url()));
            let request = request.bearer_auth(&server.admin().token).header(name, "bob").json(&json!({}));
            let answer = request.send().await?;
            let (code, status) = (answer.status(), answer.json::<Value>().await?);
            ensure!(code == 403 && status["kind"] == "Status", "{name} {method} {path}: {code} {status}");
            let message = status["message"].as_str().unwrap_or_default();
            ensure!(message.contains(&name.to_lowercase()), "{name} {method} {path}: {message}");
        }
    }
    let answer = server.get(&format!("{CLUSTERS}/{id}"), server.admin()).await?;
    ensure!(answer.status() == 200, "the cluster is gone, or the session: {}", answer.status());
    Ok(())
}

/// What agents, manifests and impersonators carry is no user's credential; and what the agent may do is no more than is written.
#[tokio::test(flavor = "multi_thread")]
async fn what_agents_carry_opens_nothing_for_users() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let member = Member::join(&server, "kept").await?;
    let admin = server.admin().clone();
    wait_for("the administrator's impersonator", SOON, async || {
        member.kubectl(&server, &admin, ["get", "nodes"]).await
    })
    .await?;
    let secrets = ["get", "secrets", "-n", "cattle-impersonation-system", "-o", "json"];
    let secrets = member.control_plane.kubectl(secrets).json().await?;
    let impersonator = secrets["items"].as_array().context("no list")?.iter().find_map(|secret| {
        let token = base64::engine::general_purpose::STANDARD.decode(secret["data"]["token"].as_str()?).ok()?;
        String::from_utf8(token).ok()
    });
    let registration = server.add_registration_token(&member.id).await?;
    let tokens = [
        ("the agent's token for the server", member.agent.token()?),
        ("the agent's token for its API server", member.agent.kubernetes_token()?),
        ("a registration token", registration.clone()),
        ("a registration token with a name", format!("{}:{registration}", member.id)),
        ("an impersonator's token", impersonator.context("no impersonator has a token")?),
    ];
    for (what, token) in tokens {
        for (method, path) in [
            (Method::GET, CLUSTERS.to_owned()),
            (Method::GET, member.path("/api/v1/namespaces")),
            (Method::POST, "/v3/users?action=changepassword".to_owned()),
            (Method::POST, format!("/v3/users/{}?action=setpassword", admin.name)),
            (Method::POST, "/v3/tokens?action=logout".to_owned()),
        ] {
            let request = server.http().request(method.clone(), format!("{}{path}", server.url()));
            let body = json!({ "currentPassword": ADMIN_PASSWORD, "newPassword": "another-long-password" });
            let answer = request.bearer_auth(token.trim()).json(&body).send().await?;
            ensure!(answer.status() == 401, "{what}, {method} {path}: {}", answer.status());
        }
    }

    let mut rights = String::new();
    for namespace in ["cattle-system", "kube-system", "default"] {
        let account = "system:serviceaccount:cattle-system:cattle-cluster-agent";
        let list = ["auth", "can-i", "--list", "--as", account, "--namespace", namespace];
        let list = member.control_plane.kubectl(list).ok().await?;
        rights.push_str(&format!("# {namespace}\n{list}\n"));
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/agent-rights.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &rights)?;
    }
    let wanted = std::fs::read_to_string(&golden)?;
    ensure!(
        rights == wanted,
        "the agent's rights are not {}; UPDATE_GOLDEN=1 rewrites it:\n{rights}",
        golden.display()
    );
    Ok(())
}

/// Streams of a session, upgraded ones too, end with the session, and all of a cluster with the cluster.
#[tokio::test(flavor = "multi_thread")]
async fn upgraded_streams_and_deleted_clusters_end() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let member = Member::join(&server, "going").await?;
    let (revoked, staying) =
        tokio::try_join!(server.sign_in("admin", ADMIN_PASSWORD), server.sign_in("admin", ADMIN_PASSWORD))?;
    let mut upgraded = switch(&server, &member, &revoked).await?;
    let mut others = switch(&server, &member, &staying).await?;
    let path = member.path("/api/v1/namespaces?watch=true&timeoutSeconds=3000");
    let mut watch = server.get(&path, &staying).await?.error_for_status()?;
    revoke(&server, &revoked).await?;
    tokio::time::timeout(SOON, drain(&mut upgraded)).await.context("an upgraded stream outlives its token")?;
    let answer = server.get(&path, &revoked).await?;
    ensure!(answer.status() == 401, "the token is good: {}", answer.status());

    let record = format!("{CLUSTERS}/{}", member.id);
    server.patch(&record, &json!({ "metadata": { "annotations": { "cattle.io/forget": "true" } } })).await?;
    // Somebody else's stream goes on.
    member.control_plane.kubectl(["create", "namespace", "seen-by-others"]).ok().await?;
    let seen = async {
        let (mut text, mut chunk) = (String::new(), [0; 4096]);
        while !text.contains("seen-by-others") {
            let read = others.read(&mut chunk).await?;
            ensure!(read > 0, "somebody else's stream ended");
            text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
        Ok(())
    };
    tokio::time::timeout(SOON, seen).await.context("somebody else's stream is silent")??;
    let delete = server.http().delete(format!("{}{record}", server.url())).bearer_auth(&server.admin().token);
    delete.send().await?.error_for_status()?;
    tokio::time::timeout(SOON, drain(&mut others)).await.context("an upgraded stream outlives its cluster")?;
    let ended = async { while let Ok(Some(_)) = watch.chunk().await {} };
    tokio::time::timeout(SOON, ended).await.context("a watch outlives its cluster")?;
    Ok(())
}

/// A watch over a WebSocket: API servers have that without any node.
async fn switch(server: &Server, member: &Member, user: &User) -> anyhow::Result<Upgraded> {
    let ca = reqwest::Certificate::from_pem(server.ca_pem().as_bytes())?;
    let http = reqwest::Client::builder().tls_certs_only([ca]).http1_only().build()?;
    let url = format!("{}{}", server.url(), member.path("/api/v1/namespaces?watch=true&timeoutSeconds=3000"));
    let answer = wait_for("an upgrade", SOON, async || {
        let request = http.get(&url).bearer_auth(&user.token);
        let request = request.header("connection", "Upgrade").header("upgrade", "websocket");
        let request = request.header("sec-websocket-version", "13").header("origin", server.url());
        let answer = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await?;
        ensure!(answer.status() == 101, "{}: {}", answer.status(), answer.text().await?);
        Ok(answer)
    });
    let mut upgraded = answer.await?.upgrade().await?;
    ensure!(upgraded.read_u8().await? != 0, "nothing comes");
    Ok(upgraded)
}

async fn drain(stream: &mut Upgraded) {
    let mut rest = [0; 1024];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
}

/// An API token of the administrator.
async fn token(server: &Server, ttl_ms: i64) -> anyhow::Result<User> {
    let token = json!({ "apiVersion": "ext.cattle.io/v1", "kind": "Token", "spec": { "ttl": ttl_ms } });
    let made = server.create(TOKENS, &token).await?;
    let token = made["status"]["value"].as_str().context("no token in the answer")?.to_owned();
    Ok(User { name: server.admin().name.clone(), token })
}

/// A watch that has begun.
async fn watch(server: &Server, spelling: &str, user: &User) -> anyhow::Result<Response> {
    let path = format!("{CLUSTERS}?{spelling}&timeoutSeconds=3000");
    let answer = server.get(&path, user).await?;
    ensure!(answer.status() == 200, "{path}: {}", answer.text().await?);
    Ok(answer)
}

async fn revoke(server: &Server, user: &User) -> anyhow::Result<()> {
    let name = user.token.split(':').next().unwrap_or_default();
    let request = server.http().delete(format!("{}{TOKENS}/{name}", server.url()));
    request.bearer_auth(&server.admin().token).send().await?.error_for_status()?;
    Ok(())
}
