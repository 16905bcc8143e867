//! The audit log of the server's own API: what has a line, what has none, and how many a stranger can make.

use std::time::Duration;

use anyhow::{Context, ensure};
use cattle_harness::wait_for;
use cattle_tests::{Server, User};
use http::Method;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const MANAGEMENT: &str = "/apis/management.cattle.io/v3";

fn lines(server: &Server) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(server.data_dir().join("audit.log"))?;
    text.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
}

async fn status(server: &Server, user: &User, method: Method, path: &str) -> anyhow::Result<u16> {
    let request = server.http().request(method, format!("{}{path}", server.url()));
    Ok(request.bearer_auth(&user.token).send().await?.status().as_u16())
}

#[tokio::test]
async fn denials_are_recorded_and_bounded_and_reads_are_not() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let alice = server.add_user("alice").await?;
    // Whoever was made a moment ago is known by now, and what that wrote is on disk when a change is.
    ensure!(
        status(&server, &alice, Method::GET, &format!("{MANAGEMENT}/settings")).await? == 200,
        "she may read settings"
    );
    let before = lines(&server)?;
    let sign_in = before.iter().find(|line| line["verb"] == "login" && line["user"]["username"] == "alice");
    let sign_in = sign_in.context("a sign-in has no line")?;
    ensure!(sign_in["responseStatus"]["code"] == 201, "{sign_in}");

    // Reads, watches and documents; then what she may not do, by any method.
    for path in ["settings", "settings?watch=true&timeoutSeconds=1", "settings/cacerts", "clusters"] {
        let path = format!("{MANAGEMENT}/{path}");
        ensure!(status(&server, &alice, Method::GET, &path).await? == 200, "{path}");
    }
    let denied = [
        (Method::DELETE, format!("{MANAGEMENT}/settings/cacerts?token=s3cret-canary")),
        (Method::POST, format!("{MANAGEMENT}/users")),
        (Method::GET, format!("{MANAGEMENT}/globalrolebindings/none")),
    ];
    let mut forbidden = 0;
    for (method, path) in &denied {
        let code = status(&server, &alice, method.clone(), path).await?;
        ensure!(matches!(code, 403 | 404), "{method} {path}: {code}");
        forbidden += usize::from(code == 403);
    }
    ensure!(forbidden >= 2, "{forbidden}");
    let nobody = User { name: String::new(), token: "token-none:s3cret-canary".to_owned() };
    for _ in 0..50 {
        ensure!(status(&server, &nobody, Method::GET, &format!("{MANAGEMENT}/clusters")).await? == 401, "a stranger");
    }
    ensure!(server.sign_in("alice", "a wrong password").await.is_err(), "a wrong password is good");

    let code = |line: &Value, code: u16| line["responseStatus"]["code"] == code;
    wait_for("the lines", SOON, async || {
        let new = lines(&server)?.split_off(before.len());
        let count = |wanted: u16| new.iter().filter(|line| code(line, wanted)).count();
        ensure!(count(403) == forbidden && count(401) >= 5, "{new:#?}");
        Ok(())
    })
    .await?;
    let new = lines(&server)?.split_off(before.len());
    // Five, or ten and what was counted if a minute has ended in between; the failed sign-in may be among them.
    ensure!(new.len() <= forbidden + 12, "too many lines: {new:#?}");
    for line in &new {
        ensure!(line["level"] == "Metadata" && line["stage"] == "ResponseComplete", "{line}");
        ensure!(line["sourceIPs"][0] == "127.0.0.1", "{line}");
        ensure!(!line.to_string().contains("canary"), "{line}");
        let who = line["user"]["username"].as_str().context("nobody")?;
        let expected = match line["verb"] == "login" {
            true => "alice",
            false if code(line, 403) => alice.name.as_str(),
            false => "system:unauthenticated",
        };
        ensure!(who == expected && (code(line, 401) || code(line, 403)), "{line}");
    }
    let delete = new.iter().find(|line| line["verb"] == "delete").context("the deletion has no line")?;
    ensure!(delete["objectRef"]["name"] == "cacerts", "{delete}");

    let metrics = reqwest::get(format!("{}/metrics", server.admin_url())).await?.text().await?;
    for metric in [
        "cattle_audit_denied_total{who=\"stranger\"} 51",
        "cattle_audit_available 1",
        "cattle_server_sign_ins_total{outcome=\"refused\"} 1",
        "cattle_server_certificate_expiry_timestamp_seconds{certificate=\"serving\"} ",
        "cattle_server_certificate_expiry_timestamp_seconds{certificate=\"ca\"} ",
    ] {
        ensure!(metrics.contains(metric), "{metric} is not in\n{metrics}");
    }
    let ready = reqwest::get(format!("{}/readyz?verbose", server.admin_url())).await?.text().await?;
    ensure!(ready.contains("[+] certificate: ok"), "{ready}");
    Ok(())
}
