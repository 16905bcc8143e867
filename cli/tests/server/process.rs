//! The program itself: pipes, signals, terminals, and files that are not as they should be.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::support::{Answer, Machine, Server};
use super::{server, signed_in};

const CLUSTERS: &str = "/apis/management.cattle.io/v3/clusters";
const SOON: Duration = Duration::from_secs(60);

async fn with_a_cluster() -> (Server, Machine) {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    let conditions = json!([{ "type": "Ready", "status": "False", "reason": "Disconnected", "message": "No agent." },
                            { "type": "Connected", "status": "False", "reason": "Disconnected", "message": "No agent." }]);
    let cluster = json!({ "metadata": { "name": "c-abcde" }, "spec": { "displayName": "prod" }, "status": { "conditions": conditions } });
    server.on("GET", CLUSTERS, Answer::json(200, json!({ "items": vec![cluster.clone(); 2000] })));
    server.on("GET", &format!("{CLUSTERS}/c-abcde"), Answer::json(200, cluster));
    (server, machine)
}

/// `cattle cluster list | head -1`
#[tokio::test]
async fn a_reader_who_has_seen_enough_is_no_failure() {
    let (_server, machine) = with_a_cluster().await;
    for args in [&["cluster", "list"][..], &["cluster", "list", "-o", "json"], &["completion", "bash"], &["--help"]] {
        let mut child = machine.program(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && error.is_empty(), "{args:?}: {} {error}", output.status);
    }
}

#[tokio::test]
async fn an_interrupted_wait_ends_at_once_and_says_nothing_on_standard_output() {
    let (server, machine) = with_a_cluster().await;
    let mut program = machine.program(&["cluster", "wait", "c-abcde", "-o", "json"]);
    let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    timeout(SOON, server.asked(&format!("{CLUSTERS}/c-abcde"), 2)).await.unwrap();
    let pid = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("/bin/kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let status = timeout(SOON, child.wait()).await.unwrap().unwrap();
    // SIGINT does the same; but whoever runs in the background of a shell inherits that it is ignored.
    assert_eq!(status.signal(), Some(15));
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "");
}

/// What a terminal gets, from `script`.
async fn on_a_terminal(machine: &Machine, args: &[&str], environment: &[(&str, &str)]) -> String {
    let line = [&[env!("CARGO_BIN_EXE_cattle")], args].concat().join(" ");
    let mut script = tokio::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("CATTLE_CLI_CONFIG", machine.path("config.yaml"));
    script.env_remove("NO_COLOR").envs(environment.iter().copied());
    let output = script.stdin(Stdio::null()).output().await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn colours_are_for_terminals_that_want_them() {
    let (_server, machine) = with_a_cluster().await;
    if tokio::process::Command::new("script").arg("--version").output().await.is_err() {
        println!("skipped: no program `script`");
        return;
    }
    // Two thousand clusters of one name: the id says which.
    let status = ["cluster", "status", "c-abcde"];
    let coloured = on_a_terminal(&machine, &status, &[]).await;
    assert!(coloured.contains("\u{1b}[31mDisconnected\u{1b}[0m"), "{coloured:?}");
    let plain = on_a_terminal(&machine, &status, &[("NO_COLOR", "1")]).await;
    assert!(plain.contains("-[Disconnected]-") && !plain.contains('\u{1b}'), "{plain:?}");
    let plain = on_a_terminal(&machine, &["cluster", "status", "c-abcde", "--no-color"], &[]).await;
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let unset = on_a_terminal(&machine, &status, &[("NO_COLOR", "")]).await;
    assert!(unset.contains('\u{1b}'), "an empty value is none");
    let piped = machine.program(&status).output().await.unwrap();
    assert!(!piped.stdout.contains(&0x1b) && !piped.stderr.contains(&0x1b));
}

#[tokio::test]
async fn a_damaged_configuration_is_named_and_kept() {
    let (_server, machine) = with_a_cluster().await;
    machine.edit_config(|config| config.replace("servers:", "servers: ["));
    let damaged = machine.config();
    for args in [&["whoami"][..], &["logout"], &["login", "https://127.0.0.1:1"]] {
        let output = machine.program(args).stdin(Stdio::null()).output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("config.yaml") && error.contains("next: repair it"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
        assert_eq!(machine.config(), damaged);
    }
}

#[tokio::test]
async fn completion_scripts_are_scripts() {
    let machine = Machine::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = machine.program(&["completion", shell]).output().await.unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("kubeconfig") && script.contains("member"), "{shell}");
        std::fs::write(machine.path(shell), script).unwrap();
        // Whichever of the shells this machine has reads its own.
        let check = tokio::process::Command::new(shell).arg("-n").arg(machine.path(shell)).output().await;
        if let Ok(check) = check {
            assert!(check.status.success(), "{shell}: {}", String::from_utf8_lossy(&check.stderr));
        }
    }
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2_and_help_is_none() {
    let machine = Machine::new();
    for (args, code) in [
        (&["--help"][..], 0),
        (&["cluster", "create", "--help"], 0),
        (&["--version"], 0),
        (&["cluster"], 2),
        (&["cluster", "lst"], 2),
        (&["cluster", "list", "-o", "xml"], 2),
        (&["cluster", "wait", "prod", "--timeout", "soon"], 2),
    ] {
        let output = machine.program(args).stdin(Stdio::null()).output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert_eq!(output.stdout.is_empty(), code != 0, "{args:?}");
    }
}
