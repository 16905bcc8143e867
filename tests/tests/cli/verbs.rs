//! Users, members, tokens and clusters, by the command line alone; what each verb takes away ends at once.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use cattle_harness::wait_for;
use cattle_tests::{Member, Server, sha256};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use super::{Desk, PROMPT};

const FIRST: &str = "ann-and-a-long-password";
const SECOND: &str = "ann-has-a-better-password";
const THIRD: &str = "ann-changes-it-once-more";

#[tokio::test(flavor = "multi_thread")]
async fn people_tokens_and_clusters_come_and_go() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut member = Member::join(&server, "prod").await?;
    let (admin, ann) = (Desk::new(&server, "admin").await?, Desk::new(&server, "ann").await?);
    admin.login(&server).await?;
    users(&server, &admin, &ann).await.context("users")?;
    members(&admin, &ann).await.context("members")?;
    doctor(&mut member, &admin, &ann).await.context("doctor")?;
    tokens(&server, &member, &ann).await.context("tokens")?;
    disabled(&server, &admin, &ann).await.context("disabled users")?;
    clusters(&member, &admin).await.context("clusters")
}

/// Made by the administrator, with a password that the first sign-in replaces, and replaced again by its owner.
async fn users(server: &Server, admin: &Desk, ann: &Desk) -> anyhow::Result<()> {
    let create = admin.shell("cattle user create ann --display-name 'Ann A' --password-stdin");
    create.stdin(format!("{FIRST}\n")).ok().await?;
    let listed = admin.ok("cattle user list").await?;
    ensure!(listed.lines().any(|line| line.starts_with("ann ") && line.contains("Ann A")), "{listed}");
    sign_in(server, ann, &[FIRST, SECOND]).await?;
    ensure!(ann.ok("cattle whoami").await?.contains("username: ann"));
    ann.shell("cattle user passwd --password-stdin").stdin(format!("{SECOND}\n{THIRD}\n")).ok().await?;
    let old = sign_in(server, ann, &[SECOND]).await;
    ensure!(old.is_err_and(|error| format!("{error:#}").contains("authentication failed")));
    sign_in(server, ann, &[THIRD]).await?;
    let refused = ann.run("cattle user create bob --password-stdin").await?;
    ensure!(!refused.status.success(), "only administrators make users: {}", refused.text());
    Ok(())
}

async fn members(admin: &Desk, ann: &Desk) -> anyhow::Result<()> {
    ensure!(ann.ok("cattle cluster list -o name").await?.is_empty(), "a stranger sees clusters");
    admin.ok("cattle cluster member add prod ann --role owner").await?;
    let listed = admin.ok("cattle cluster member list prod").await?;
    ensure!(listed.lines().any(|line| line.starts_with("ann (u-") && line.contains("cluster-owner")), "{listed}");
    ann.ok("cattle kubeconfig prod --file prod.yaml").await?;
    let watch = Watch::open(ann, "kubectl --kubeconfig prod.yaml").await?;
    admin.ok("cattle cluster member remove prod ann").await?;
    watch.ends().await?;
    let listed = admin.ok("cattle cluster member list prod").await?;
    ensure!(!listed.contains("ann (u-"), "{listed}");
    let gone = ann.run("kubectl --kubeconfig prod.yaml get namespaces").await?;
    ensure!(!gone.status.success(), "{}", gone.text());
    admin.ok("cattle cluster member add prod ann --role owner").await.map(drop)
}

/// Every step with its time, and the one that fails, with what to do.
async fn doctor(member: &mut Member, admin: &Desk, ann: &Desk) -> anyhow::Result<()> {
    const STEPS: [&str; 9] =
        ["dns", "tcp", "tls", "http", "upgrade", "authentication", "session", "api-server", "impersonation"];
    let steps = |report: &str| -> anyhow::Result<Vec<Value>> {
        let report: Value = serde_json::from_str(report)?;
        Ok(report["steps"].as_array().context("no steps")?.clone())
    };
    for desk in [admin, ann] {
        let walked =
            wait_for("the whole way", PROMPT, async || steps(&desk.ok("cattle doctor prod -o json").await?)).await?;
        let names: Vec<_> = walked.iter().filter_map(|step| step["name"].as_str()).collect();
        ensure!(names == STEPS && walked.iter().all(|step| step["passed"] == true), "{walked:?}");
        ensure!(walked.iter().all(|step| step["microseconds"].as_u64() > Some(0)), "{walked:?}");
    }
    let shown = admin.ok("cattle doctor").await?;
    ensure!(
        shown.lines().last().is_some_and(|line| line.starts_with("authentication") && line.contains("admin")),
        "{shown}"
    );
    ensure!(!ann.run("cattle doctor nothing").await?.status.success());

    member.agent.process().kill().await?;
    let failed = wait_for("the loss to be seen", PROMPT, async || {
        let output = admin.run("cattle doctor prod -o json").await?;
        ensure!(!output.status.success(), "{}", output.text());
        Ok(output)
    });
    let failed = failed.await?;
    let last = steps(&failed.text())?.pop().context("no step")?;
    ensure!(last["name"] == "session" && last["passed"] == false, "{last}");
    ensure!(failed.status.code() == Some(5) && failed.error().contains("next: "), "{}", failed.error());
    member.agent.restart(&member.control_plane).await?;
    admin.ok("cattle cluster wait prod --timeout 2m").await.map(drop)
}

async fn tokens(server: &Server, member: &Member, ann: &Desk) -> anyhow::Result<()> {
    let token = ann.ok("cattle token create --description ci --ttl 1h --cluster prod").await?;
    let (name, _) = token.trim().split_once(':').context("no token")?;
    let listed = ann.ok("cattle token list").await?;
    let shown = listed.lines().find(|line| line.starts_with(name)).context("the token is not listed")?;
    ensure!(shown.ends_with("ci") && shown.contains(&member.id), "{shown}");
    std::fs::write(ann.home.join("ca.pem"), server.ca_pem())?;
    let url = format!("{}/k8s/clusters/{}", server.url(), member.id);
    let kubectl = format!("kubectl --server {url} --certificate-authority ca.pem --token {}", token.trim());
    let watch = Watch::open(ann, &kubectl).await?;
    ann.ok(&format!("cattle token revoke {name}")).await?;
    watch.ends().await?;
    let refused = ann.run(&format!("{kubectl} get namespaces")).await?;
    ensure!(!refused.status.success(), "{}", refused.text());
    ensure!(!ann.ok("cattle token list").await?.contains(name));
    ann.ok("cattle whoami").await.map(drop).context("the session goes on")
}

async fn disabled(server: &Server, admin: &Desk, ann: &Desk) -> anyhow::Result<()> {
    let watch = Watch::open(ann, "kubectl --kubeconfig prod.yaml").await?;
    admin.ok("cattle user disable ann").await?;
    watch.ends().await?;
    ensure!(!ann.run("cattle whoami").await?.status.success(), "a disabled user is let in");
    ensure!(sign_in(server, ann, &[THIRD]).await.is_err(), "a disabled user signs in");
    admin.ok("cattle user enable ann").await?;
    sign_in(server, ann, &[THIRD]).await?;
    ann.ok("kubectl --kubeconfig prod.yaml get namespaces").await?;
    admin.ok("cattle user delete ann --yes").await?;
    let listed = admin.ok("cattle user list").await?;
    ensure!(!listed.contains("ann "), "{listed}");
    ensure!(!ann.run("cattle whoami").await?.status.success(), "a deleted user is let in");
    Ok(())
}

/// A cluster that may come back with another CA, and one that is gone for good.
async fn clusters(member: &Member, admin: &Desk) -> anyhow::Result<()> {
    let sum = sha256(b"another CA");
    let rebound = admin.run(&format!("cattle cluster rebind prod --ca-sha256 {sum}")).await?;
    ensure!(rebound.status.success() && rebound.error().contains("may come back"), "{}", rebound.error());
    let cluster: Value = serde_json::from_str(&admin.ok("cattle cluster status prod -o json").await?)?;
    ensure!(cluster["spec"]["rebind"]["caSha256"] == sum.as_str(), "{cluster:#}");
    let wrong = admin.run("cattle cluster rebind prod --ca-sha256 abc").await?;
    ensure!(wrong.status.code() == Some(2), "{}", wrong.error());

    let unsure = admin.run("cattle cluster delete prod --forget").await?;
    ensure!(!unsure.status.success() && unsure.error().contains("--yes"), "{}", unsure.error());
    let lines = admin.ok("cattle cluster delete prod --forget --yes").await?;
    ensure!(lines.lines().count() > 1 && lines.lines().all(|line| line.starts_with("kubectl delete ")), "{lines}");
    ensure!(admin.ok("cattle cluster list -o name").await?.is_empty());
    let kubeconfig = member.control_plane.kubeconfig();
    admin.shell(&lines).env("KUBECONFIG", kubeconfig).ok().await?;
    let everything = ["get", "namespaces,clusterroles,clusterrolebindings,priorityclasses", "-o", "name"];
    let left = member.control_plane.kubectl(everything).ok().await?;
    ensure!(!left.contains("cattle"), "{left}");
    Ok(())
}

/// Attempts of one person from one address are limited: the next one may have to wait.
async fn sign_in(server: &Server, desk: &Desk, lines: &[&str]) -> anyhow::Result<()> {
    let sum = sha256(server.ca_pem().as_bytes());
    let line = format!("cattle login {} --username ann --password-stdin --ca-checksum {sum}", server.url());
    let login = desk.shell(&line).stdin(lines.join("\n") + "\n");
    let answer = wait_for("leave to try", PROMPT, async || {
        let output = login.output().await?;
        ensure!(!output.error().contains("too many attempts"), "{}", output.error());
        Ok(output)
    });
    let output = answer.await?;
    ensure!(output.status.success(), "{}", output.error());
    Ok(())
}

/// A watch through the server that somebody has running.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    /// Begins it as soon as the user's role has arrived in the cluster.
    async fn open(desk: &Desk, kubectl: &str) -> anyhow::Result<Self> {
        let get = format!("{kubectl} get namespaces");
        wait_for("the role in the cluster", PROMPT, async || desk.ok(&get).await.map(drop)).await?;
        let watch = desk.shell(&format!("exec {kubectl} get --raw '/api/v1/namespaces?watch=true'"));
        let mut child = watch.command().stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let first = timeout(PROMPT, lines.next_line()).await.context("no event")??;
        ensure!(first.is_some_and(|line| line.contains("ADDED")), "it is no watch");
        Ok(Self { child, lines })
    }

    /// It ends without anybody's ending it here.
    async fn ends(mut self) -> anyhow::Result<()> {
        let ended = async {
            while self.lines.next_line().await?.is_some() {}
            self.child.wait().await
        };
        timeout(PROMPT, ended).await.context("the watch goes on")??;
        Ok(())
    }
}
