//! How a start is configured, what it says, and what it refuses.

use std::{
    ffi::OsStr,
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use cattle_harness::{Client, Output, Run, binary, wait_for};
use cattle_tests::{ADMIN_PASSWORD, Launch, Server, presented};
use nix::{fcntl, sys::signal::Signal};
use serde_json::{Value, json};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn another_url_goes_into_everything_that_leaves_the_server() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let id = server.add_cluster("prod").await?;
    let (listen, ca) = (server.url().trim_start_matches("https://").to_owned(), server.ca_pem().to_owned());
    let port = listen.rsplit(':').next().context("no port")?.to_owned();
    presented(&listen, &ca).await.context("the first certificate is of another name")?;
    server.process().stop(SOON).await?;

    let url = format!("https://localhost:{port}");
    let mut moved = Server::launch(Launch {
        flags: vec!["--url".to_owned(), url.clone()],
        data_dir: Some(server.data_dir()),
        listen: Some(listen.clone()),
        ..Launch::default()
    })
    .await?;
    ensure!(moved.url() == url && moved.ca_pem() == ca, "{} with another authority?", moved.url());
    presented(&format!("localhost:{port}"), &ca).await.context("the certificate did not follow")?;
    ensure!(presented(&listen, &ca).await.is_err(), "the certificate still has the old name");
    moved.sign_in_admin().await?;
    let setting = "/apis/management.cattle.io/v3/settings/server-url";
    let setting: Value = moved.get(setting, moved.admin()).await?.error_for_status()?.json().await?;
    ensure!(setting["value"] == url.as_str(), "{setting}");
    let token = moved.add_registration_token(&id).await?;
    let manifest = moved.manifest(&id, &token).await?;
    ensure!(manifest.contains(&url) && !manifest.contains(&listen), "{manifest}");
    let wanted = json!({
        "apiVersion": "ext.cattle.io/v1", "kind": "Kubeconfig", "metadata": { "generateName": "kubeconfig-" },
        "spec": { "clusters": [id] },
    });
    let made = moved.post("/apis/ext.cattle.io/v1/kubeconfigs", Some(moved.admin()), &wanted).await?.text().await?;
    ensure!(made.contains(&url) && !made.contains(&listen), "{made}");
    Ok(())
}

#[tokio::test]
async fn the_first_password_is_shown_on_a_terminal_and_nowhere_else() -> anyhow::Result<()> {
    let scope = Run::of_this_process()?.scope("terminal")?;
    let data = scope.directory().join("data");
    let terminal = nix::pty::openpty(None, None)?;
    let log = scope.directory().join("server.log");
    let mut command = Command::new(binary("cattle-server")?);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    command.stdin(Stdio::null()).stdout(terminal.slave).stderr(std::fs::File::create(&log)?).kill_on_drop(true);
    let mut process = command.spawn()?;
    drop(command);
    fcntl::fcntl(terminal.master.as_fd(), fcntl::FcntlArg::F_SETFL(fcntl::OFlag::O_NONBLOCK))?;
    let mut shown = Vec::new();
    let password = wait_for("the password", SOON, async || {
        let mut chunk = [0; 4096];
        if let Ok(read) = nix::unistd::read(terminal.master.as_fd(), &mut chunk) {
            shown.extend_from_slice(&chunk[..read]);
        }
        let text = String::from_utf8_lossy(&shown).into_owned();
        let after = text.split_once("Password:").context("not yet")?.1;
        let (password, _) = after.split_once("\r\n").context("not whole")?;
        Ok(password.trim().to_owned())
    })
    .await?;
    ensure!(String::from_utf8_lossy(&shown).contains("First administrator: admin"), "whose password is it?");
    wait_for("the server to serve", SOON, async || {
        ensure!(std::fs::read_to_string(&log)?.contains("cattle-server serves"), "not yet");
        Ok(())
    })
    .await?;
    ensure!(!data.join("bootstrap-password").exists(), "it is in a file, too");
    ensure!(!std::fs::read_to_string(&log)?.contains(&password), "it is in the log, too");
    process.kill().await?;

    let server = Server::launch(Launch { data_dir: Some(data.clone()), ..Launch::default() }).await?;
    ensure!(!data.join("bootstrap-password").exists(), "a second start wrote it down");
    let user = server.sign_in("admin", &password).await.context("the password that was shown is not good")?;
    let change = json!({ "currentPassword": password, "newPassword": ADMIN_PASSWORD });
    server.post("/v3/users?action=changepassword", Some(&user), &change).await?.error_for_status()?;
    Ok(())
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file() -> anyhow::Result<()> {
    let scope = Run::of_this_process()?.scope("precedence")?;
    let (data, file) = (scope.directory().join("data"), scope.directory().join("cattle.yaml"));
    std::fs::write(&file, "url: http://of-the-file\nlog-format: json\n")?;
    let file = file.display().to_string();
    let run = async |environment: &[(&str, &str)], flags: &[&str]| -> anyhow::Result<String> {
        let client = Client::new(binary("cattle-server")?, &data).args(flags.iter().copied());
        let client = environment.iter().fold(client, |client, (name, value)| client.env(name, value));
        refused(&client.deadline(SOON).output().await?)
    };
    let directory = ("CATTLE_DATA_DIR", data.to_str().unwrap_or_default());
    let from_file = run(&[directory], &["--config", &file]).await?;
    ensure!(from_file.contains("http://of-the-file") && from_file.starts_with('{'), "{from_file}");
    let (config, url) = (("CATTLE_CONFIG", file.as_str()), ("CATTLE_URL", "http://of-the-environment"));
    let from_environment = run(&[directory, config, url, ("CATTLE_LOG_FORMAT", "text")], &[]).await?;
    ensure!(from_environment.contains("http://of-the-environment"), "{from_environment}");
    ensure!(!from_environment.starts_with('{'), "{from_environment}");
    let flag = run(&[directory, config, url], &["--url", "http://of-the-flag"]).await?;
    ensure!(flag.contains("http://of-the-flag"), "{flag}");

    // Each variable is read at all: what cannot be meant is refused by name.
    for (name, value, said) in [
        ("CATTLE_CONFIG", "/nowhere.yaml", "/nowhere.yaml cannot be read"),
        ("CATTLE_LISTEN", "nowhere", "--listen"),
        ("CATTLE_ADMIN_LISTEN", "nowhere", "--admin-listen"),
        ("CATTLE_TLS_CERT", "/x", "--tls-cert and --tls-key belong together"),
        ("CATTLE_TLS_KEY", "/x", "--tls-cert and --tls-key belong together"),
        ("CATTLE_TLS_CA", "/x", "--tls-ca names the authority of --tls-cert"),
        ("CATTLE_LOG_LEVEL", "a=b=c", "--log-level"),
        ("CATTLE_LOG_FORMAT", "xml", "--log-format"),
    ] {
        let text = run(&[directory, (name, value)], &[]).await?;
        ensure!(text.contains(said), "{name}: {said:?} is not in {text}");
    }
    ensure!(!data.exists(), "a refused start leaves something behind");
    Ok(())
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let taken = server.url().trim_start_matches("https://").to_owned();
    let scope = Run::of_this_process()?.scope("refused")?;
    let other = scope.directory().join("other");
    let start = async |data: &Path, flags: &[&str]| -> anyhow::Result<String> {
        let usual = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let flags = if flags.is_empty() { &usual[..] } else { flags };
        let client = Client::new(binary("cattle-server")?, data).args(flags.iter().copied());
        refused(&client.args([OsStr::new("--data-dir"), data.as_os_str()]).deadline(SOON).output().await?)
    };
    let says = |text: String, parts: &[&str]| {
        let missing = parts.iter().find(|part| !text.contains(**part)).copied();
        missing.map_or(Ok(()), |part| Err(anyhow::anyhow!("{part:?} is not in: {text}")))
    };
    let port = start(&other, &["--listen", &taken, "--admin-listen", "127.0.0.1:0"]).await?;
    says(port, &[&format!("cannot listen on {taken}"), "in use"])?;
    let admin = server.admin_url().trim_start_matches("http://").to_owned();
    let port = start(&other, &["--listen", "127.0.0.1:0", "--admin-listen", &admin]).await?;
    says(port, &[&format!("cannot listen on {admin} (--admin-listen)"), "in use"])?;
    let file = scope.directory().join("file");
    std::fs::write(&file, "")?;
    says(start(&file.join("data"), &[]).await?, &["the data directory", "Not a directory"])?;

    let data = server.data_dir();
    server.process().stop(SOON).await?;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    mode(&data.join("seal.key"), 0o644)?;
    says(start(&data, &[]).await?, &["others may read the file", "chmod 600"])?;
    mode(&data.join("seal.key"), 0o600)?;
    mode(&data, 0o755)?;
    says(start(&data, &[]).await?, &["others may enter this directory", "chmod 700"])?;
    mode(&data, 0o700)?;
    let database = std::fs::read(data.join("cattle.db"))?;
    std::fs::write(data.join("cattle.db"), "not a database, but long enough to be looked at as one")?;
    says(start(&data, &[]).await?, &["cattle.db is not a database of this server"])?;
    std::fs::write(data.join("cattle.db"), database)?;
    server.start_again().await
}

#[tokio::test]
async fn a_reload_that_a_service_manager_asks_for_ends_nothing() -> anyhow::Result<()> {
    let mut server = Server::boot(&[]).await?;
    server.process().signal(Signal::SIGHUP)?;
    wait_for("it to be told", SOON, async || {
        ensure!(server.process().log().contains("nothing to reload"), "not yet");
        Ok(())
    })
    .await?;
    server.http().get(format!("{}/ping", server.url())).send().await?.error_for_status()?;
    Ok(())
}

/// What a start that was refused has said.
fn refused(output: &Output) -> anyhow::Result<String> {
    ensure!(!output.status.success(), "it started and ended well: {}", output.error());
    Ok(output.error())
}
