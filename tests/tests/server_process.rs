//! `cattle-server` as a process: how it starts and ends, what it keeps, and what it never writes down.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use base64::Engine as _;
use cattle_harness::{Authority, Client, Output, Run, binary, wait_for};
use cattle_tests::{ADMIN_PASSWORD, Launch, Member, Server, User, presented, sha256};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const SETTINGS: &str = "/apis/management.cattle.io/v3/settings";

#[tokio::test]
async fn a_start_makes_what_is_missing_and_a_second_one_changes_nothing() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let data = server.data_dir();
    ensure!(!data.join("bootstrap-password").exists(), "the first password's file outlives the first sign-in");
    let modes = files(&data)?;
    ensure!(modes.len() >= 4, "{modes:?}");
    for (path, mode) in &modes {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        ensure!(*mode == wanted, "{} has mode {mode:o}", path.display());
    }

    let second = offline(&["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"], &data, "").await?;
    fails_with(&second, "another server is running on")?;
    let reset = offline(&["reset-admin"], &data, "").await?;
    fails_with(&reset, "another server is running on")?;

    let before = identity(&server).await?;
    let id = server.add_cluster("kept").await?;
    server.process().stop(SOON).await?;
    server.start_again().await?;
    ensure!(identity(&server).await? == before, "a second start changed the installation");
    let answer = server.get(&format!("/apis/management.cattle.io/v3/clusters/{id}"), server.admin()).await?;
    ensure!(answer.status() == 200, "the sign-in or the cluster did not survive: {}", answer.status());

    metrics_are_on_the_admin_listener_only(&server).await?;
    stops_with_a_running_watch(&mut server).await?;
    administrator_is_reset(&mut server).await
}

#[tokio::test]
async fn configuration_that_cannot_be_meant_is_refused_by_name() -> anyhow::Result<()> {
    let scope = Run::of_this_process()?.scope("configuration")?;
    let data = scope.directory().join("data");
    let public = ["--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"];
    fails_with(&offline(&public, &data, "").await?, "no --url")?;
    let file = scope.directory().join("cattle.yaml");
    std::fs::write(&file, "listen: 127.0.0.1:0\nlisten-adress: 127.0.0.1:0\n")?;
    let file = file.display().to_string();
    fails_with(&offline(&["--config", &file], &data, "").await?, "listen-adress")?;
    fails_with(&offline(&["--tls-cert", "/x"], &data, "").await?, "--tls-cert and --tls-key belong together")?;

    let (certificates, tls) = own_certificates(scope.directory())?;
    let flags: Vec<_> = tls.iter().map(String::as_str).collect();
    let elsewhere = [&flags[..], &["--listen", "127.0.0.1:0", "--url", "https://cattle.example.org"]].concat();
    let refused = offline(&elsewhere, &data, "").await?;
    fails_with(&refused, "does not serve cattle.example.org")?;
    fails_with(&refused, "server.crt")?;
    let without_authority = [&flags[..4], &["--listen", "127.0.0.1:0"]].concat();
    fails_with(&offline(&without_authority, &data, "").await?, "name its private authority with --tls-ca")?;

    let mut server = Server::boot(&flags).await?;
    ensure!(server.ca_pem() == certificates.authority.pem(), "agents are told to trust something else");
    let first = leaf(&server).await?;
    // Another leaf of the same authority, and for a moment one that does not fit its key.
    std::fs::write(scope.directory().join("server.crt"), certificates.issue()?.certificate)?;
    wait_for("the mismatch to be reported", SOON, async || {
        let log = server.process().log();
        ensure!(log.contains("the certificate could not be renewed; the present one stays"), "not yet");
        Ok(())
    })
    .await?;
    ensure!(leaf(&server).await? == first, "a certificate without its key is presented");
    certificates.issue()?.write(scope.directory(), "server")?;
    wait_for("the new certificate", SOON, async || {
        ensure!(leaf(&server).await? != first, "still the first one");
        Ok(())
    })
    .await?;
    server.get("/healthz", &nobody()).await?.error_for_status()?;
    another_authority_takes_a_restart(&mut server, &flags).await
}

/// Everybody trusts what they were told, so a leaf of another authority is not presented before they are told again.
async fn another_authority_takes_a_restart(server: &mut Server, tls: &[&str]) -> anyhow::Result<()> {
    let (told, first) = (server.ca_pem().to_owned(), leaf(server).await?);
    let files = Path::new(tls[1]).parent().context("no directory")?;
    let other = OwnCertificates { authority: Authority::new("another-ca")? };
    std::fs::write(files.join("ca.crt"), other.authority.pem())?;
    other.issue()?.write(files, "server")?;
    wait_for("the other authority to be reported", SOON, async || {
        ensure!(server.process().log().contains("restart to change the authority"), "not yet");
        Ok(())
    })
    .await?;
    ensure!(leaf(server).await? == first, "a certificate that nobody trusts is presented");
    let answer = server.get("/v3/settings/cacerts", &nobody()).await?.error_for_status()?;
    let published: Value = answer.json().await?;
    ensure!(published["value"] == told.as_str(), "something else is published: {published}");
    server.process().stop(SOON).await?;
    server.start_again().await?;
    ensure!(server.ca_pem() == other.authority.pem(), "the restart did not take the other authority");
    leaf(server).await.map(drop)
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_the_same_server_elsewhere() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let user = server.add_user("alice").await?;
    let id = server.add_cluster("kept").await?;
    server.add_member(&id, &user, "cluster-member").await?;
    let token = server.add_registration_token(&id).await?;
    let (before, objects) = (identity(&server).await?, objects(&server).await?);

    let directory = server.scope().directory().to_owned();
    let (copy, key) = (directory.join("backup.db"), directory.join("backup.key"));
    let passphrase = "a-passphrase-that-is-long-enough\n";
    let backup = |passphrase: &'static str| {
        let arguments = ["backup", "--output", text(&copy), "--key-output", text(&key), "--passphrase-stdin"];
        let arguments = arguments.map(str::to_owned);
        let data = server.data_dir();
        async move { offline(&arguments.each_ref().map(String::as_str), &data, passphrase).await }
    };
    fails_with(&backup("short\n").await?, "at least 12 characters")?;
    succeeds(&backup(passphrase).await?)?;
    for file in [&copy, &key] {
        ensure!(mode(file)? == 0o600, "{} has mode {:o}", file.display(), mode(file)?);
    }
    server.add_cluster("made after the backup").await?;
    server.process().kill().await?;

    let restore = |to: &Path, flags: &[&str], passphrase: &'static str| {
        let mut arguments = vec!["restore", "--input", text(&copy), "--key-input", text(&key), "--passphrase-stdin"];
        arguments.extend(flags);
        let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
        let to = to.to_owned();
        async move {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            offline(&arguments, &to, passphrase).await
        }
    };
    let (same, revoked) = (directory.join("same"), directory.join("revoked"));
    fails_with(&restore(&same, &[], "another-long-passphrase\n").await?, "the passphrase is wrong")?;
    succeeds(&restore(&same, &[], passphrase).await?)?;
    fails_with(&restore(&same, &[], passphrase).await?, "has a database already")?;
    succeeds(&restore(&revoked, &["--revoke-tokens"], passphrase).await?)?;

    let launch = |data_dir: &Path| Launch { data_dir: Some(data_dir.to_owned()), ..Launch::default() };
    let mut restored = Server::launch(launch(&same)).await?;
    let answer = restored.get("/apis/management.cattle.io/v3/clusters", &user).await?;
    ensure!(answer.status() == 200, "a token of the backup is not good: {}", answer.status());
    restored.sign_in_admin().await?;
    ensure!(identity(&restored).await? == before, "the restored server is another one");
    let found = self::objects(&restored).await?;
    ensure!(found == objects, "{found:#?} instead of {objects:#?}");
    restored.manifest(&id, &token).await.context("sealed values were not restored")?;
    restored.process().kill().await?;

    let mut restored = Server::launch(launch(&revoked)).await?;
    let answer = restored.get("/apis/management.cattle.io/v3/clusters", &user).await?;
    ensure!(answer.status() == 401, "a revoked token is good: {}", answer.status());
    ensure!(restored.manifest(&id, &token).await.is_err(), "a revoked registration token is good");
    restored.sign_in_admin().await?;
    ensure!(self::objects(&restored).await? == objects, "revoking tokens changed something else");
    Ok(())
}

#[tokio::test]
async fn a_full_disk_stops_changes_and_nothing_else() -> anyhow::Result<()> {
    let scope = Run::of_this_process()?.scope("full")?;
    let disk = scope.directory().join("disk");
    std::fs::create_dir(&disk)?;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs"]).arg(&disk).status();
    if !mounted.as_ref().is_ok_and(|status| status.success()) {
        println!("SKIPPED: a tmpfs cannot be mounted here (it takes root): {mounted:?}");
        return Ok(());
    }
    scope.record("mount", "disk", text(&disk))?;
    let server = Server::start_with(Launch { data_dir: Some(disk.join("data")), ..Launch::default() }).await?;
    let id = server.add_cluster("before").await?;
    let member = Member::join(&server, "downstream").await?;
    wait_for("the administrator's way in", SOON, async || {
        member.kubectl(&server, server.admin(), ["get", "nodes"]).await
    })
    .await?;
    let watch = format!("{SETTINGS}?watch=true&resourceVersion=0");
    let mut watch = server.get(&watch, server.admin()).await?.error_for_status()?.bytes_stream();
    watch.next().await.context("the watch is silent")??;
    let namespaces = member.path("/api/v1/namespaces?watch=true&timeoutSeconds=3000");
    let mut downstream = server.get(&namespaces, server.admin()).await?.error_for_status()?.bytes_stream();
    fill(&disk)?;

    let mut refusals = Vec::new();
    for number in 0..64 {
        let cluster = json!({
            "apiVersion": "management.cattle.io/v3", "kind": "Cluster", "metadata": { "generateName": "c-" },
            "spec": { "displayName": format!("full {number}"), "description": "x".repeat(4000) },
        });
        let answer = server.post("/apis/management.cattle.io/v3/clusters", Some(server.admin()), &cluster).await?;
        if answer.status() == 503 {
            let status: Value = answer.json().await?;
            ensure!(status["kind"] == "Status" && status["reason"] == "ServiceUnavailable", "{status}");
            refusals.push(status["message"].as_str().context("no message")?.to_owned());
        } else {
            ensure!(answer.status() == 201, "{}", answer.text().await?);
        }
        if refusals.len() == 3 {
            break;
        }
        // SQLite writes into the pages that it has for a while.
        fill(&disk)?;
    }
    ensure!(refusals.len() == 3, "the disk is full and changes are taken");
    ensure!(refusals.iter().all(|text| text.contains("full") || text.contains("no space")), "{refusals:?}");
    let read = server.get(&format!("/apis/management.cattle.io/v3/clusters/{id}"), server.admin()).await?;
    ensure!(read.status() == 200, "reads do not go on: {}", read.status());
    on_a_full_disk_sessions_wait(&server, &member, &disk).await.context("through the proxy")?;
    member.control_plane.kubectl(["create", "namespace", "made-while-full"]).ok().await?;
    let seen = until_it_says(&mut downstream, "made-while-full");
    tokio::time::timeout(SOON, seen).await.context("the downstream watch does not go on")??;
    let healthy = reqwest::get(format!("{}/healthz", server.admin_url())).await?;
    ensure!(healthy.status() == 200, "the process is said to be dead: {}", healthy.status());

    std::fs::remove_file(disk.join("filler"))?;
    wait_for("changes to be taken again", SOON, async || server.add_cluster("after").await).await?;
    set(&server, "agent-drain-minutes", "1").await?;
    let told = until_it_says(&mut watch, "MODIFIED");
    tokio::time::timeout(SOON, told).await.context("the watch did not outlive the full disk")??;
    member.kubectl(&server, server.admin(), ["create", "configmap", "after"]).await.map(drop)
}

/// Downstream reads go on; a change, and a session of any spelling, has no place in the audit log.
async fn on_a_full_disk_sessions_wait(server: &Server, member: &Member, disk: &Path) -> anyhow::Result<()> {
    let send = async |request: reqwest::RequestBuilder| {
        let answer = request.bearer_auth(&server.admin().token).send().await?;
        anyhow::Ok((answer.status().as_u16(), answer.text().await?))
    };
    let url = |path: &str| format!("{}{}", server.url(), member.path(path));
    let change = || {
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "generateName": "full-" } });
        server.http().post(url("/api/v1/namespaces/default/configmaps")).json(&object)
    };
    // The log's last page has room for some lines.
    let mut refused = None;
    for _ in 0..64 {
        fill(disk)?;
        let (code, text) = send(change()).await?;
        if code == 503 {
            refused = Some(text);
            break;
        }
        ensure!(code == 201, "{code} {text}");
    }
    let refused = refused.context("the disk is full and changes are taken")?;
    ensure!(refused.contains("full") && refused.contains("\"Status\""), "{refused}");
    let ca = reqwest::Certificate::from_pem(server.ca_pem().as_bytes())?;
    let http = reqwest::Client::builder().tls_certs_only([ca]).http1_only().build()?;
    for path in ["pods/none/exec?command=sh", "pods/none/%65xec?command=sh", "pods/none%2Fexec?command=sh"] {
        let request = http.get(url(&format!("/api/v1/namespaces/default/{path}")));
        let request = request.header("connection", "Upgrade").header("upgrade", "websocket");
        let request = request.header("sec-websocket-version", "13");
        let (code, text) = send(request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")).await?;
        ensure!(code == 503 && text.contains("full"), "{path}: {code} {text}");
    }
    let (code, text) = send(server.http().get(url("/api/v1/namespaces"))).await?;
    ensure!(code == 200, "reads do not go on: {code} {text}");
    Ok(())
}

/// Reads a watch until an event has this text.
async fn until_it_says<S, B, E>(watch: &mut S, text: &str) -> anyhow::Result<()>
where
    S: futures_util::Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]>,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = watch.next().await.context("the watch ended")??;
        seen.push_str(&String::from_utf8_lossy(chunk.as_ref()));
    }
    Ok(())
}

#[tokio::test]
async fn nothing_secret_is_written_down() -> anyhow::Result<()> {
    let launch = Launch { log_level: Some("trace".to_owned()), ..Launch::default() };
    let mut server = Server::launch(launch).await?;
    let first = std::fs::read_to_string(server.data_dir().join("bootstrap-password"))?;
    let first = first.lines().nth(1).context("no password in the file")?.to_owned();
    let user = server.sign_in("admin", &first).await?;
    let change = json!({ "currentPassword": first, "newPassword": ADMIN_PASSWORD });
    server.post("/v3/users?action=changepassword", Some(&user), &change).await?.error_for_status()?;
    server.sign_in_admin().await?;
    let member = Member::join(&server, "watched").await?;
    let admin = server.admin().clone();
    let registration = server.add_registration_token(&member.id).await?;
    server.manifest(&member.id, &registration).await?;
    let alice = server.add_user("alice").await?;
    server.add_member(&member.id, &alice, "cluster-owner").await?;
    wait_for("the member's rights", SOON, async || member.kubectl(&server, &alice, ["get", "pods", "-A"]).await)
        .await?;
    server.sign_in("admin", "a-wrong-canary-password").await.err().context("a wrong password is good")?;
    let basic = base64::engine::general_purpose::STANDARD.encode(&alice.token);
    let request = server.http().get(format!("{}/api", server.url()));
    request.header("authorization", format!("Basic {basic}")).send().await?;
    server.get("/api", &User { name: String::new(), token: "token-canary:refused-secret".into() }).await?;
    let literal = "--from-literal=password=canary-in-a-downstream-secret";
    member.kubectl(&server, &admin, ["create", "secret", "generic", "canary", literal]).await?;
    let token = ["create", "token", "default"];
    let downstream = member.kubectl(&server, &alice, token).await?.trim().to_owned();
    let impersonators = ["get", "secrets", "-n", "cattle-impersonation-system", "-o", "json"];
    let impersonators: Value = serde_json::from_str(&member.control_plane.kubectl(impersonators).ok().await?)?;

    let secret_of = |token: &str| token.split_once(':').map(|(_, secret)| secret.to_owned()).unwrap_or_default();
    let signature = |token: &str| token.rsplit('.').next().unwrap_or_default().to_owned();
    let mut canaries = vec![
        ("the first password", first),
        ("the administrator's password", ADMIN_PASSWORD.to_owned()),
        ("a user's password", "alice-and-a-long-password".to_owned()),
        ("a wrong password", "a-wrong-canary-password".to_owned()),
        ("a refused token", "refused-secret".to_owned()),
        ("a sign-in", secret_of(&admin.token)),
        ("a sign-in", secret_of(&alice.token)),
        ("Basic credentials", basic),
        ("a registration token", registration),
        ("a downstream Secret", "canary-in-a-downstream-secret".to_owned()),
        ("the same in base64", base64::engine::general_purpose::STANDARD.encode("canary-in-a-downstream-secret")),
        ("a downstream token", signature(&downstream)),
        ("the agent's token", signature(&member.agent.token()?)),
        ("the agent's token for its API server", signature(&member.agent.kubernetes_token()?)),
        ("any service-account token", "eyJhbGciOi".to_owned()),
        ("a private key", "PRIVATE KEY".to_owned()),
    ];
    for secret in impersonators["items"].as_array().context("no impersonators")? {
        if let Some(token) = secret["data"]["token"].as_str() {
            let token = base64::engine::general_purpose::STANDARD.decode(token)?;
            canaries.push(("an impersonator's token", signature(&String::from_utf8(token)?)));
        }
    }
    ensure!(canaries.iter().any(|(what, _)| *what == "an impersonator's token"), "no impersonator has a token");
    let places = [
        ("the server's log", server.process().log()),
        ("the audit log", std::fs::read_to_string(server.data_dir().join("audit.log"))?),
        ("the metrics", reqwest::get(format!("{}/metrics", server.admin_url())).await?.text().await?),
        ("the agent's log", member.agent.log()),
    ];
    ensure!(places[0].1.contains("TRACE"), "the log is not at trace level");
    ensure!(places[1].1.contains("\"alice\"") || places[1].1.contains("users"), "the audit log is empty");
    let mut found = Vec::new();
    for (place, text) in &places {
        for (what, canary) in &canaries {
            ensure!(canary.len() >= 10, "{what} is too short to look for");
            if let Some(line) = text.lines().find(|line| line.contains(canary.as_str())) {
                found.push(format!("{what} in {place}: {}", line.chars().take(400).collect::<String>()));
            }
        }
    }
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

/// Runs `cattle-server` with a data directory to its end.
async fn offline(arguments: &[&str], data_dir: &Path, stdin: &str) -> anyhow::Result<Output> {
    let client = Client::new(binary("cattle-server")?, data_dir).args(arguments.iter().copied());
    let client = client.args(["--data-dir", text(data_dir)]).stdin(stdin.as_bytes().to_vec());
    client.deadline(SOON).output().await
}

fn fails_with(output: &Output, reason: &str) -> anyhow::Result<()> {
    let said = format!("{}{}", output.error(), output.text());
    ensure!(!output.status.success(), "it did what it was asked: {said}");
    ensure!(said.contains(reason), "{reason:?} is not in: {said}");
    Ok(())
}

fn succeeds(output: &Output) -> anyhow::Result<()> {
    ensure!(output.status.success(), "{}{}", output.error(), output.text());
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn mode(path: &Path) -> anyhow::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

/// A directory with everything in it, and the modes.
fn files(root: &Path) -> anyhow::Result<Vec<(PathBuf, u32)>> {
    let mut found = vec![(root.to_owned(), mode(root)?)];
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push((path.clone(), mode(&path)?));
        }
    }
    Ok(found)
}

/// What makes a server the one that it is.
async fn identity(server: &Server) -> anyhow::Result<Vec<String>> {
    let setting = async |name: &str| {
        let answer = server.get(&format!("{SETTINGS}/{name}"), server.admin()).await?.error_for_status()?;
        let setting: Value = answer.json().await?;
        setting["value"].as_str().map(str::to_owned).context("no value")
    };
    let users = server.get("/apis/management.cattle.io/v3/users", server.admin()).await?.error_for_status()?;
    let users: Value = users.json().await?;
    let admin = users["items"].as_array().and_then(|users| users.iter().find(|user| user["username"] == "admin"));
    let admin = admin.context("no administrator")?["metadata"]["uid"].as_str().context("no uid")?.to_owned();
    Ok(vec![setting("install-uuid").await?, setting("cacerts").await?, admin, sha256(&leaf(server).await?)])
}

/// The certificate that the server presents, DER.
async fn leaf(server: &Server) -> anyhow::Result<Vec<u8>> {
    presented(server.url().trim_start_matches("https://"), server.ca_pem()).await
}

/// All objects that must survive a restore, by kind, without what a sign-in changes.
async fn objects(server: &Server) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for kind in ["clusters", "users", "settings", "roletemplates", "globalroles", "globalrolebindings"] {
        let path = format!("/apis/management.cattle.io/v3/{kind}");
        let list: Value = server.get(&path, server.admin()).await?.error_for_status()?.json().await?;
        for item in list["items"].as_array().context("no items")? {
            let metadata = &item["metadata"];
            let volatile = matches!(metadata["name"].as_str(), Some("server-url"));
            if !volatile {
                found.push(format!("{kind}/{} {} {}", metadata["name"], metadata["uid"], item["spec"]));
            }
        }
    }
    let bindings = "/apis/management.cattle.io/v3/clusterroletemplatebindings";
    let list: Value = server.get(bindings, server.admin()).await?.error_for_status()?.json().await?;
    let items = list["items"].as_array().context("no items")?;
    found.extend(items.iter().map(|item| format!("binding {} {}", item["metadata"]["uid"], item["userName"])));
    found.sort();
    Ok(found)
}

async fn set(server: &Server, name: &str, value: &str) -> anyhow::Result<()> {
    server.patch(&format!("{SETTINGS}/{name}"), &json!({ "value": value })).await.map(drop)
}

fn nobody() -> User {
    User { name: String::new(), token: String::new() }
}

async fn metrics_are_on_the_admin_listener_only(server: &Server) -> anyhow::Result<()> {
    let metrics = reqwest::get(format!("{}/metrics", server.admin_url())).await?.error_for_status()?.text().await?;
    for name in ["half_open_peers", "sessions", "process_resident_memory_bytes", "cattle_proxy_running"] {
        ensure!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    ensure!(metrics.ends_with("# EOF\n"), "this is no OpenMetrics text");
    for path in ["/metrics", "/readyz"] {
        let answer = server.http().get(format!("{}{path}", server.url())).send().await?;
        ensure!(answer.status() == 404, "users see {path}: {}", answer.status());
    }
    Ok(())
}

async fn stops_with_a_running_watch(server: &mut Server) -> anyhow::Result<()> {
    let watch = format!("{SETTINGS}?watch=true&resourceVersion=0");
    let mut watch = server.get(&watch, server.admin()).await?.error_for_status()?.bytes_stream();
    watch.next().await.context("the watch is silent")??;
    let status = server.process().stop(Duration::from_secs(45)).await?;
    ensure!(status.code() == Some(0), "it ended with {status}: {}", server.process().log_tail());
    while let Some(chunk) = watch.next().await {
        if chunk.is_err() {
            break;
        }
    }
    Ok(())
}

async fn administrator_is_reset(server: &mut Server) -> anyhow::Result<()> {
    let data = server.data_dir();
    let reset = offline(&["reset-admin"], &data, "").await?;
    succeeds(&reset)?;
    let said = reset.text();
    let password = said.lines().find_map(|line| line.strip_prefix("password:")).context("no password is shown")?.trim();
    server.start_again().await?;
    ensure!(server.sign_in("admin", ADMIN_PASSWORD).await.is_err(), "the old password is still good");
    let user = server.sign_in("admin", password).await?;
    let answer = server.get("/apis/management.cattle.io/v3/clusters", &user).await?;
    ensure!(answer.status() == 403 || answer.status() == 401, "nothing has to be changed first: {}", answer.status());
    let change = json!({ "currentPassword": password, "newPassword": ADMIN_PASSWORD });
    server.post("/v3/users?action=changepassword", Some(&user), &change).await?.error_for_status()?;
    server.sign_in_admin().await?;
    server.get("/apis/management.cattle.io/v3/clusters", server.admin()).await?.error_for_status()?;
    Ok(())
}

/// Takes all of the disk that is left.
fn fill(disk: &Path) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(disk.join("filler"))?;
    for size in [1 << 20, 64 << 10, 4 << 10] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    Ok(())
}

/// A certificate for loopback in files, as a user would bring it.
struct OwnCertificates {
    authority: Authority,
}

impl OwnCertificates {
    fn issue(&self) -> anyhow::Result<cattle_harness::Identity> {
        self.authority.server("cattle", &["localhost".to_owned(), "127.0.0.1".to_owned()])
    }
}

fn own_certificates(directory: &Path) -> anyhow::Result<(OwnCertificates, Vec<String>)> {
    let own = OwnCertificates { authority: Authority::new("their-ca")? };
    own.issue()?.write(directory, "server")?;
    std::fs::write(directory.join("ca.crt"), own.authority.pem())?;
    let file = |name: &str| directory.join(name).display().to_string();
    let flags = ["--tls-cert", &file("server.crt"), "--tls-key", &file("server.key"), "--tls-ca", &file("ca.crt")];
    Ok((own, flags.map(str::to_owned).to_vec()))
}
