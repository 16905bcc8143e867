//! The command line as a person uses it: the real program against a real server and a real Kubernetes, with the real
//! kubectl (also one of 1.20) and the real curl.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]

#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/verbs.rs"]
mod verbs;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cattle_harness::{Assets, Client, ControlPlane, ControlPlaneOptions, Output, binary, wait_for};
use cattle_tests::{ADMIN_PASSWORD, Agent, Server, sha256};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use terminal::Terminal;

const GENERATE_TOKEN: &str = "/apis/management.cattle.io/v3/settings/kubeconfig-generate-token";

/// Somebody's machine: a home directory, the command line, kubectl.
struct Desk {
    home: PathBuf,
    path: String,
    config: PathBuf,
}

impl Desk {
    async fn new(server: &Server, name: &str) -> anyhow::Result<Self> {
        let home = server.scope().directory().join(name);
        let bin = home.join("bin");
        std::fs::create_dir_all(&bin)?;
        let assets = Assets::ready().await?;
        let programs = [
            ("cattle", binary("cattle")?),
            ("kubectl", assets.program("kubectl")),
            ("kubectl-1.20", assets.program("kubectl-1.20")),
        ];
        for (name, program) in programs {
            symlink(program, bin.join(name))?;
        }
        let config = home.join(".config/cattle/config.yaml");
        Ok(Self { path: format!("{}:/usr/bin:/bin", bin.display()), home, config })
    }

    /// A line for the shell.
    fn shell(&self, line: &str) -> Client {
        let line = format!("cd '{}' && {line}", self.home.display());
        let client = Client::new("/bin/sh", &self.home.join("kubeconfig")).args(["-c", &line]);
        client
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", self.home.join(".config"))
            .env("PATH", &self.path)
            .direct()
    }

    async fn run(&self, line: &str) -> anyhow::Result<Output> {
        self.shell(line).output().await
    }

    async fn ok(&self, line: &str) -> anyhow::Result<String> {
        self.shell(line).ok().await.with_context(|| line.to_owned())
    }

    async fn login(&self, server: &Server) -> anyhow::Result<()> {
        let line = format!(
            "cattle login {} --username admin --password-stdin --ca-checksum {}",
            server.url(),
            sha256(server.ca_pem().as_bytes())
        );
        self.shell(&line).stdin(format!("{ADMIN_PASSWORD}\n")).ok().await.map(drop)
    }
}

/// From the first command to a pod list.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_from_a_sign_in_to_kubectl() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let control_plane =
        ControlPlane::start(ControlPlaneOptions { name: "prod".to_owned(), ..Default::default() }).await?;
    let desk = Desk::new(&server, "newcomer").await?;
    desk.login(&server).await?;
    let printed = desk.ok("cattle cluster create 'my prod'").await?;
    ensure!(printed.contains("cattle cluster manifest 'my prod' | kubectl apply -f -\n"), "{printed}");
    let token = the_curl_line_applies_the_manifest(&desk, &control_plane, &printed).await.context("curl")?;

    let clusters: Value = serde_json::from_str(&desk.ok("cattle cluster list -o json").await?)?;
    let id = clusters["items"][0]["metadata"]["name"].as_str().context("no cluster")?.to_owned();
    let _agent = Agent::start(&control_plane, &server, &id, &token).await?;
    let ready: Value = serde_json::from_str(&desk.ok("cattle cluster wait 'my prod' --timeout 2m -o json").await?)?;
    ensure!(ready["metadata"]["name"] == id.as_str() && ready["kind"] == "Cluster", "{ready}");
    let status = desk.ok("cattle cluster status 'my prod'").await?;
    ensure!(status.contains("you -[ok]- server -[ok]- agent -[ok]- API server"), "{status}");

    kubectl_uses_what_was_merged(&desk).await.context("merge")?;
    kubectl_asks_the_command_line(&desk, &server).await.context("exec plugin")?;
    a_terminal_is_asked(&server, &id).await.context("on a terminal")?;
    Ok(())
}

/// Runs what `cluster create` has printed for machines without the command; answers with the registration token.
async fn the_curl_line_applies_the_manifest(
    desk: &Desk,
    control_plane: &ControlPlane,
    printed: &str,
) -> anyhow::Result<String> {
    let line = &printed[printed.find("curl ").context("no curl line")?..];
    let words: Vec<&str> = line.split_whitespace().collect();
    ensure!(!words.iter().any(|word| ["-k", "--insecure"].contains(word)), "{line}");
    let apply = async |line: &str| {
        let kubeconfig = control_plane.kubeconfig();
        desk.shell(line).env("KUBECONFIG", kubeconfig).output().await
    };
    let namespaces = async || control_plane.kubectl(["get", "namespaces", "-o", "name"]).ok().await;
    let before = namespaces().await?;

    // Another key, another authority, another name: nothing is applied.
    let pin = line.split_once("sha256//").context("no pin")?.1.split_once('\'').context("no pin")?.0;
    let other_key = line.replace(pin, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let (head, rest) = line.split_once("-----BEGIN").context("no CA")?;
    let (_, tail) = rest.split_once("-----END CERTIFICATE-----\n").context("no CA")?;
    let other_ca = format!("{head}{}{tail}", control_plane.ca_pem());
    for (damaged, code) in [(other_key, "curl: (90)"), (other_ca, "curl: (60)")] {
        let output = apply(&damaged).await?;
        let error = output.error();
        ensure!(error.contains(code), "{damaged}\n{error}{}", output.text());
        ensure!(!output.status.success() && namespaces().await? == before, "{}{error}", output.text());
    }

    let output = apply(line).await?;
    ensure!(output.status.success(), "{line}\n{}", output.error());
    ensure!(output.text().contains("deployment.apps/cattle-cluster-agent created"), "{}", output.text());
    ensure!(namespaces().await?.contains("namespace/cattle-system"));
    let token = line.split_once("/v3/import/").context("no path")?.1;
    Ok(token.split_once('_').context("no token")?.0.to_owned())
}

/// A kubeconfig with comments behind a link, while a kubectl changes it too.
async fn kubectl_uses_what_was_merged(desk: &Desk) -> anyhow::Result<()> {
    let dotfiles = desk.home.join("dotfiles");
    std::fs::create_dir_all(&dotfiles)?;
    let real = dotfiles.join("kubeconfig");
    let mine = "# mine, do not lose\napiVersion: v1\nkind: Config\npreferences: {}\nclusters:\n- name: old # the old one\n  \
                cluster:\n    server: https://192.0.2.1\ncontexts:\n- name: old\n  context: {cluster: old, user: old}\n\
                users:\n- name: old\n  user: {}\ncurrent-context: old\n";
    std::fs::write(&real, mine)?;
    symlink(&real, desk.home.join("kubeconfig"))?;
    desk.ok("cattle kubeconfig 'my prod' --merge --context prod").await?;
    ensure!(desk.home.join("kubeconfig").is_symlink());
    let merged = std::fs::read_to_string(&real)?;
    for line in mine.lines() {
        ensure!(merged.lines().any(|other| other == line), "{line:?} is gone from\n{merged}");
    }
    ensure!(mode(&real)? == 0o600, "{:o}", mode(&real)?);
    let seen = desk.ok("kubectl --context prod get namespaces -o name").await?;
    ensure!(seen.contains("namespace/kube-system"), "{seen}");
    ensure!(desk.ok("kubectl config current-context").await?.trim() == "old");

    merges_wait_for_kubectls_lock(desk).await?;
    let writers = (1..6).map(|number| async move {
        desk.ok(&format!("cattle kubeconfig 'my prod' --merge --context prod-{number}")).await
    });
    try_join_all(writers).await?;
    let contexts = desk.ok("kubectl config get-contexts -o name").await?;
    for name in ["mine", "old", "prod-0", "prod-1", "prod-2", "prod-3", "prod-4", "prod-5"] {
        ensure!(contexts.lines().any(|line| line == name), "{name} is lost: {contexts}");
    }
    ensure!(desk.ok("kubectl --context prod-5 get namespaces -o name").await?.contains("kube-system"));
    desk.ok("cattle kubeconfig --merge").await?;
    let clusters = desk.ok("kubectl --context cattle get clusters").await?;
    ensure!(clusters.contains("my prod"), "the server's own API: {clusters}");
    desk.ok("cattle kubeconfig 'my prod' --merge --context prod --use").await?;
    ensure!(desk.ok("kubectl config current-context").await?.trim() == "prod");
    Ok(())
}

/// Whoever holds the lock may write what they have changed meanwhile. Real kubectls are no such writers: they read the file before
/// they take their lock, and so lose what others, also kubectls, have written in between.
async fn merges_wait_for_kubectls_lock(desk: &Desk) -> anyhow::Result<()> {
    let set = "config set-context mine --cluster=old --user=old";
    desk.ok("set -C; : >kubeconfig.lock").await?;
    let locked = desk.ok(&format!("! kubectl {set} 2>&1")).await?;
    ensure!(locked.contains("file exists"), "it is not kubectl's lock: {locked}");
    let merge = desk.ok("cattle kubeconfig 'my prod' --merge --context prod-0");
    let write = async {
        let changed = format!("cp kubeconfig changed && kubectl --kubeconfig changed {set}");
        desk.ok(&format!("{changed} && cat changed >kubeconfig && rm kubeconfig.lock changed")).await
    };
    tokio::try_join!(merge, write).map(drop)
}

/// A kubeconfig without a token: kubectl runs the command line for it.
async fn kubectl_asks_the_command_line(desk: &Desk, server: &Server) -> anyhow::Result<()> {
    server.patch(GENERATE_TOKEN, &json!({ "value": "false" })).await?;
    desk.ok("cattle kubeconfig 'my prod' --file exec.yaml").await?;
    let view = desk.ok("kubectl --kubeconfig exec.yaml config view --raw -o json").await?;
    let exec = &serde_json::from_str::<Value>(&view)?["users"][0]["user"]["exec"];
    ensure!(exec["apiVersion"] == "client.authentication.k8s.io/v1beta1" && exec["command"] == "cattle", "{exec}");
    ensure!(exec["args"] == json!(["token", "exec", "--server", server.url()]), "{exec}");
    ensure!(exec["interactiveMode"] == "IfAvailable" && exec["provideClusterInfo"] == true, "{exec}");
    let sees = async |kubectl: &str, file: &str| -> anyhow::Result<()> {
        let seen = desk.ok(&format!("{kubectl} --kubeconfig {file} get namespaces -o name </dev/null")).await?;
        ensure!(seen.contains("namespace/kube-system"), "{kubectl}: {seen}");
        Ok(())
    };
    // As it is made, with kubectl of now and of 1.20; and as somebody may have it, with v1.
    desk.ok("sed s:k8s.io/v1beta1:k8s.io/v1: exec.yaml >exec-v1.yaml").await?;
    for (kubectl, file) in [("kubectl", "exec.yaml"), ("kubectl-1.20", "exec.yaml"), ("kubectl", "exec-v1.yaml")] {
        sees(kubectl, file).await?;
    }
    let refused = async |why: &str| -> anyhow::Result<()> {
        for kubectl in ["kubectl", "kubectl-1.20"] {
            let output = desk.run(&format!("{kubectl} --kubeconfig exec.yaml get namespaces </dev/null")).await?;
            let error = output.error();
            ensure!(!output.status.success(), "{kubectl}, {why}: {}", output.text());
            ensure!(error.contains(&format!("cattle login {}", server.url())), "{kubectl}, {why}: {error}");
        }
        Ok(())
    };
    let config = std::fs::read_to_string(&desk.config)?;
    let line = config.lines().find(|line| line.contains("expiresAt")).context("the session never ends")?;
    std::fs::write(&desk.config, config.replace(line, "  expiresAt: '2020-01-01T00:00:00Z'"))?;
    refused("the session has ended").await?;
    desk.login(server).await?;
    sees("kubectl", "exec.yaml").await?;
    desk.ok("cattle logout").await?;
    refused("nobody is signed in").await?;
    // The program is not there at all.
    let output = desk.run("PATH=/usr/bin:/bin; ./bin/kubectl --kubeconfig exec.yaml get namespaces </dev/null").await?;
    ensure!(output.error().contains("Install it where your shell finds it"), "{}", output.error());
    Ok(())
}

/// Somebody who has nothing but the kubeconfig and a terminal.
async fn a_terminal_is_asked(server: &Server, cluster: &str) -> anyhow::Result<()> {
    // Somebody else: sign-ins of one person from one address are limited.
    let user = server.add_user("walker").await?;
    server.add_member(cluster, &user, "cluster-owner").await?;
    let password = "walker-and-a-long-password";
    wait_for("the role downstream", PROMPT, async || {
        let answer = server.get(&format!("/k8s/clusters/{cluster}/api/v1/namespaces"), &user).await?;
        ensure!(answer.status() == 200, "{}", answer.text().await?);
        Ok(())
    })
    .await?;
    let fresh = Desk::new(server, "fresh").await?;
    let given = server.scope().directory().join("newcomer/exec.yaml");
    std::fs::copy(given, fresh.home.join("exec.yaml"))?;
    for kubectl in ["kubectl", "kubectl-1.20"] {
        // What is typed before the terminal hides it is shown by the terminal itself.
        let hidden = "until stty -a </dev/tty | grep -q ' -echo '; do sleep 0.02; done; echo hidden >/dev/tty";
        let line = format!("{kubectl} --kubeconfig exec.yaml get namespaces -o name");
        let mut terminal = Terminal::open(&fresh.shell(""), &fresh.home, &format!("({hidden}) & {line}"))?;
        if kubectl == "kubectl" {
            terminal.expect(&format!("Sign in at {}", server.url())).await?;
            terminal.expect("Username: ").await?;
            terminal.type_line("walker").await?;
        }
        // The second time it is known who it was.
        terminal.expect("Password: ").await?;
        terminal.expect("hidden").await?;
        terminal.type_line(password).await?;
        terminal.expect("namespace/kube-system").await?;
        let shown = terminal.end().await?;
        ensure!(!shown.contains(password), "the password is shown: {shown}");
        let config = std::fs::read_to_string(&fresh.config)?;
        ensure!(config.contains("BEGIN CERTIFICATE"), "the CA of the kubeconfig is pinned");
        let quiet = fresh.ok(&format!("{line} </dev/null")).await?;
        ensure!(quiet.contains("namespace/kube-system"), "{quiet}");
        let line = config.lines().find(|line| line.contains("expiresAt")).context("the session never ends")?;
        std::fs::write(&fresh.config, config.replace(line, "  expiresAt: '2020-01-01T00:00:00Z'"))?;
    }
    ensure!(mode(&fresh.config)? == 0o600);

    let line = "kubectl --kubeconfig exec.yaml get namespaces -o name";
    let mut terminal = Terminal::open(&fresh.shell(""), &fresh.home, line)?;
    terminal.expect("Password: ").await?;
    terminal.type_line("not the password").await?;
    terminal.expect("authentication failed").await?;
    let shown = terminal.end().await?;
    ensure!(!shown.contains("namespace/"), "{shown}");

    // A sign-in by hand, with the CA on the screen.
    let other = Desk::new(server, "by-hand").await?;
    server.add_user("ann").await?;
    let checksum = sha256(server.ca_pem().as_bytes());
    for (answer, trusted) in [("no", false), ("yes", true)] {
        let line = format!("cattle login {} --username ann", server.url());
        let mut terminal = Terminal::open(&other.shell(""), &other.home, &line)?;
        terminal.expect(&checksum).await?;
        terminal.expect("(yes/no)").await?;
        terminal.type_line(answer).await?;
        if trusted {
            terminal.expect("Password: ").await?;
            terminal.type_line("ann-and-a-long-password").await?;
            terminal.expect("signed in at").await?;
        } else {
            terminal.expect("nothing secret was sent").await?;
        }
        terminal.end().await?;
        ensure!(other.config.exists() == trusted);
    }
    Ok(())
}

fn mode(path: &Path) -> anyhow::Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

/// How long a person waits for a prompt on a loaded machine.
const PROMPT: Duration = Duration::from_secs(90);
