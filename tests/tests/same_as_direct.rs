//! Clients cannot tell the server from the cluster: what kubectl and helm print through the server is what they print when
//! they ask the API server themselves as the same identity, in bytes, standard error and exit code.
//!
//! *Direct* is an administrator's kubeconfig of the cluster with `as`, `as-groups` and `as-user-extra`, which every kubectl
//! and helm understands. Reads are compared as they are. Changes run twice, once through the server and once direct, and are
//! compared after replacing the closed list of [`volatile`].

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]

#[path = "same_as_direct/script.rs"]
mod script;
#[path = "same_as_direct/volatile.rs"]
mod volatile;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cattle_harness::{Assets, Client, Output, wait_for};
use cattle_tests::{Member, Server, User, Ways};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use script::{CHANGES, HELM, MEMBER_READS, READS, Step};

const SOON: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "shop";
/// Changes of the watched object.
const EVENTS: usize = 200;
/// A table has ages, and a description too: between two looks they may tick.
const LOOKS: usize = 20;

struct Rig {
    server: Server,
    member: Member,
    assets: Assets,
}

/// Every difference that was found: one run shows all of them.
#[derive(Default)]
struct Differences(String);

impl Rig {
    async fn start() -> anyhow::Result<Self> {
        let server = Server::start().await?;
        let member = Member::join(&server, "prod").await?;
        Ok(Self { server, member, assets: Assets::ready().await? })
    }

    async fn user(&self, login: &str, role: &str) -> anyhow::Result<(User, Ways)> {
        let user = self.server.add_user(login).await?;
        self.server.add_member(&self.member.id, &user, role).await?;
        let control_plane = &self.member.control_plane;
        let administrator: Value = serde_json::from_str(&std::fs::read_to_string(control_plane.kubeconfig())?)?;
        let who = (&user, login);
        let ways = Ways::write(control_plane.directory(), &self.server, &self.member.id, who, &administrator)?;
        // Until the cluster knows the role, and its API server has seen that it does.
        wait_for("the role downstream", SOON, async || {
            for kubeconfig in [&ways.through, &ways.direct] {
                self.kubectl(kubeconfig, &["get", "nodes"]).ok().await?;
            }
            Ok(())
        })
        .await?;
        Ok((user, ways))
    }

    fn kubectl(&self, kubeconfig: &Path, arguments: &[&str]) -> Client {
        self.run("kubectl", kubeconfig, arguments)
    }

    /// A program by one way, in the test's namespace. `edit` runs sed.
    fn run(&self, program: &str, kubeconfig: &Path, arguments: &[&str]) -> Client {
        Client::new(self.assets.program(program), kubeconfig)
            .args(["--namespace", NAMESPACE])
            .args(arguments.iter().map(|argument| match argument.strip_prefix("~/") {
                Some(file) => kubeconfig.with_file_name(file).into_os_string(),
                None => argument.into(),
            }))
            .env("KUBE_EDITOR", "sed -i s/before/after/")
    }

    /// Reads by both ways at the same time, and again while an age may have ticked in between.
    async fn compare_read(&self, program: &str, ways: &Ways, step: &Step) -> anyhow::Result<Result<(), String>> {
        let words = step.words();
        let mut last = Ok(());
        for _ in 0..if step.ages { LOOKS } else { 1 } {
            let client = |way| self.fed(program, way, &words, step);
            let (through, direct) = (client(&ways.through), client(&ways.direct));
            let (through, direct) = tokio::join!(through.output(), direct.output());
            let (through, direct) = (through?, direct?);
            let files = |output: &Output| {
                if step.line.starts_with("diff") { volatile::masked(&output.text()) } else { String::new() }
            };
            let same_text =
                through.stdout == direct.stdout || step.line.starts_with("diff") && files(&through) == files(&direct);
            let same = same_text && through.stderr == direct.stderr && through.status.code() == direct.status.code();
            last = if same { step.check_exit(&direct) } else { Err(Ways::shown(&through, &direct)) };
            if last.is_ok() {
                break;
            }
        }
        Ok(last)
    }

    fn fed(&self, program: &str, way: &Path, words: &[&str], step: &Step) -> Client {
        let client = self.run(program, way, words);
        match step.stdin {
            Some(text) => client.stdin(text),
            None => client,
        }
    }

    async fn reads(&self, program: &str, ways: &Ways, steps: &[Step], found: &mut Differences) -> anyhow::Result<()> {
        for step in steps.iter().filter(|step| step.runs_with(program)) {
            if let Err(difference) = self.compare_read(program, ways, step).await? {
                found.add(program, step, &difference);
            }
        }
        Ok(())
    }

    /// The whole script by one way and then by the other: each begins and ends with an empty namespace.
    async fn changes(&self, program: &str, ways: &Ways, steps: &[Step], found: &mut Differences) -> anyhow::Result<()> {
        let steps: Vec<&Step> = steps.iter().filter(|step| step.runs_with(program)).collect();
        let mut runs = Vec::new();
        for way in [&ways.through, &ways.direct] {
            let mut outputs = Vec::new();
            for step in &steps {
                outputs.push(self.fed(program, way, &step.words(), step).output().await?);
            }
            runs.push(outputs);
        }
        for ((step, through), direct) in steps.iter().zip(&runs[0]).zip(&runs[1]) {
            let text = |output: &Output| {
                (volatile::masked(&output.text()), volatile::masked(&output.error()), output.status.code())
            };
            let checked =
                if text(through) == text(direct) { step.check_exit(direct) } else { Err(Ways::shown(through, direct)) };
            if let Err(difference) = checked {
                found.add(program, step, &difference);
            }
        }
        Ok(())
    }

    /// Both ways watch one object while it changes 200 times.
    async fn watches(&self, program: &str, ways: &Ways) -> anyhow::Result<()> {
        let template =
            "jsonpath={.type} {.object.metadata.name} {.object.metadata.resourceVersion} {.object.data}{\"\\n\"}";
        let arguments = ["get", "configmap", "watched", "-w", "--output-watch-events", "-o", template];
        self.admin(&["create", "configmap", "watched"], None).await?;
        let watch = async |way: &Path| -> anyhow::Result<Vec<String>> {
            let mut child = self.run(program, way, &arguments).command().stdout(Stdio::piped()).spawn()?;
            let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
            let mut seen = Vec::new();
            while seen.len() <= EVENTS
                && let Some(line) = lines.next_line().await?
            {
                if seen.is_empty() {
                    std::fs::write(way.with_file_name("watching"), "")?;
                }
                seen.push(line);
            }
            Ok(seen)
        };
        let change = async {
            for way in [&ways.through, &ways.direct] {
                let begun = way.with_file_name("watching");
                wait_for("the watch to begin", SOON, async || {
                    ensure!(begun.exists(), "no first line of {}", way.display());
                    Ok(())
                })
                .await?;
                std::fs::remove_file(begun)?;
            }
            let http = self.member.control_plane.http()?;
            let url = format!("{}/api/v1/namespaces/{NAMESPACE}/configmaps/watched", self.member.control_plane.url());
            for number in 0..EVENTS {
                let patch = json!({ "data": { "number": number.to_string() } }).to_string();
                let request = http.patch(&url).header("content-type", "application/merge-patch+json").body(patch);
                request.send().await?.error_for_status()?;
            }
            anyhow::Ok(())
        };
        let watched = async { tokio::join!(watch(&ways.through), watch(&ways.direct), change) };
        let (through, direct, changed) = tokio::time::timeout(SOON, watched).await.context("a watch lacks events")?;
        changed?;
        let (through, direct) = (through?, direct?);
        ensure!(direct.len() == EVENTS + 1 && direct[EVENTS].contains("199"), "direct is incomplete: {direct:?}");
        ensure!(through == direct, "{program}: watches differ:\n{through:?}\n{direct:?}");
        self.admin(&["delete", "configmap", "watched"], None).await
    }

    /// `wait` ends when what it waits for happens.
    async fn waits(&self, program: &str, ways: &Ways) -> anyhow::Result<()> {
        self.admin(&["create", "configmap", "awaited"], None).await?;
        let line = ["wait", "--for=delete", "configmap/awaited", "--timeout=60s"];
        let wait = async |way: &Path| self.run(program, way, &line).output().await;
        let before = self.watches_of_configmaps().await?;
        let delete = async {
            // Both are in their watches when the API server counts them.
            wait_for("both to wait", SOON, async || {
                let watches = self.watches_of_configmaps().await?;
                ensure!(watches >= before + 2.0, "{watches} watches, {before} before");
                Ok(())
            })
            .await?;
            self.admin(&["delete", "configmap", "awaited"], None).await
        };
        let (through, direct, deleted) = tokio::join!(wait(&ways.through), wait(&ways.direct), delete);
        deleted?;
        let (through, direct) = (through?, direct?);
        ensure!(direct.status.success(), "{}", direct.error());
        ensure!(
            through.stdout == direct.stdout && through.stderr == direct.stderr,
            "{}",
            Ways::shown(&through, &direct)
        );
        Ok(())
    }

    async fn watches_of_configmaps(&self) -> anyhow::Result<f64> {
        let metrics = format!("{}/metrics", self.member.control_plane.url());
        let text = self.member.control_plane.http()?.get(&metrics).send().await?.text().await?;
        let is_watch = |line: &&str| {
            line.starts_with("apiserver_longrunning_requests{")
                && line.contains("resource=\"configmaps\"")
                && line.contains("verb=\"WATCH\"")
        };
        Ok(text.lines().filter(is_watch).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// `kubectl proxy` serves the same answers.
    async fn proxies(&self, program: &str, ways: &Ways) -> anyhow::Result<()> {
        // `kubectl proxy` drops the path of its kubeconfig's server: a new one unless it is told not to, an old one always.
        let (line, prefix): (&[&str], _) = match program {
            "kubectl" => (&["proxy", "--port=0", "--append-server-path"], String::new()),
            _ => (&["proxy", "--port=0"], self.member.path("")),
        };
        let mut answers = Vec::new();
        for (way, prefix) in [(&ways.through, prefix.as_str()), (&ways.direct, "")] {
            let mut child = self.run(program, way, line).command().stdout(Stdio::piped()).spawn()?;
            let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
            let line = tokio::time::timeout(SOON, lines.next_line()).await??.context("proxy ended")?;
            let address = line.rsplit(' ').next().unwrap_or_default().to_owned();
            let mut seen = Vec::new();
            for path in [
                format!("/api/v1/namespaces/{NAMESPACE}/configmaps/a"),
                format!("/api/v1/namespaces/{NAMESPACE}/configmaps/nope"),
                "/openapi/v3".to_owned(),
                "/nope".to_owned(),
            ] {
                let answer = reqwest::get(format!("http://{address}{prefix}{path}")).await?;
                let kind = answer.headers().get("content-type").cloned();
                seen.push((answer.status(), kind, answer.text().await?));
            }
            child.kill().await?;
            answers.push(seen);
        }
        ensure!(answers[0] == answers[1], "{program} proxy differs:\n{:?}\n{:?}", answers[0], answers[1]);
        let statuses: Vec<u16> = answers[0].iter().map(|(status, _, _)| status.as_u16()).collect();
        ensure!(statuses == [200, 404, 200, 404], "{statuses:?}");
        Ok(())
    }

    async fn admin(&self, arguments: &[&str], stdin: Option<&str>) -> anyhow::Result<()> {
        let client = self.member.control_plane.kubectl(["-n", NAMESPACE]).args(arguments.iter().copied());
        let client = if let Some(text) = stdin { client.stdin(text) } else { client };
        client.ok().await.map(drop)
    }
}

impl Differences {
    fn add(&mut self, program: &str, step: &Step, difference: &str) {
        write!(self.0, "\n=== {program} {}\n{difference}", step.line).unwrap();
    }
}

fn chart(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory.join("templates"))?;
    std::fs::write(directory.join("Chart.yaml"), "apiVersion: v2\nname: tiny\nversion: 0.1.0\n")?;
    std::fs::write(directory.join("values.yaml"), "text: one\n")?;
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-{{ .name }}\ndata:\n  text: {{ .Values.text }}\n";
    for name in ["first", "second"] {
        std::fs::write(directory.join(format!("templates/{name}.yaml")), map.replace("{{ .name }}", name))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_tell_the_server_from_the_cluster() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    rig.member.control_plane.kubectl(["create", "namespace", NAMESPACE]).ok().await?;
    rig.admin(&["apply", "-f", "-"], Some(script::OBJECTS)).await?;
    rig.admin(&["rollout", "history", "deployment/web"], None).await?;
    let (_, owner) = rig.user("owner", "cluster-owner").await?;
    let (_, viewer) = rig.user("viewer", "cluster-member").await?;
    let mut found = Differences::default();
    let both = ["kubectl", "kubectl-1.20"];

    // Discovery is cached from here on: its warnings about slow clients are not compared.
    join_all(both.iter().flat_map(|program| {
        [&owner, &viewer].into_iter().flat_map(|ways| [&ways.through, &ways.direct]).map(|way| {
            let client = rig.run(program, way, &["api-resources", "-o", "name"]);
            async move { client.output().await }
        })
    }))
    .await
    .into_iter()
    .collect::<anyhow::Result<Vec<_>>>()?;
    for program in both {
        rig.reads(program, &owner, READS, &mut found).await?;
        rig.reads(program, &viewer, MEMBER_READS, &mut found).await?;
        rig.changes(program, &owner, CHANGES, &mut found).await?;
        rig.watches(program, &owner).await.with_context(|| found.0.clone())?;
        rig.waits(program, &owner).await.with_context(|| found.0.clone())?;
        rig.proxies(program, &owner).await.with_context(|| found.0.clone())?;
    }
    for way in [&owner.through, &owner.direct] {
        chart(&way.with_file_name("tiny"))?;
    }
    rig.changes("helm", &owner, HELM, &mut found).await?;
    assert!(found.0.is_empty(), "{}", found.0);
    Ok(())
}
