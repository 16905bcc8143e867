//! What the way through the server costs, against the API server itself.
//!
//! Every figure is a ratio taken inside one round: the same requests directly and through the server, in turn, on the same
//! machine at the same time; the median over the rounds is printed. Absolute times are this machine's and say little.
//! `make bench` builds everything for release, runs this and writes the table of `docs/performance.md`.

mod samples;

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use cattle_tests::{Member, Server};
use clap::Parser;
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::Instant;

use samples::{Comparison, CpuTime, Samples};

/// Objects of 8 KiB in the list that is measured: 1 MiB.
const LISTED: usize = 128;
const DEADLINE: Duration = Duration::from_secs(60);

/// Measures the way through the server against the API server itself.
#[derive(Parser)]
struct Args {
    /// Rounds; each figure is the median over them
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Where the table is written, besides standard output
    #[arg(long)]
    output: Option<PathBuf>,
}

/// One way to the API server.
struct Way {
    http: reqwest::Client,
    base: String,
    headers: Vec<(&'static str, String)>,
}

struct Bench {
    /// Only to live as long as the measurement.
    _running: (Server, Member),
    processes: [u32; 2],
    direct: Way,
    through: Way,
    rounds: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let bench = Box::pin(Bench::prepare(args.rounds)).await?;
    let mut rows = Vec::new();
    rows.push(bench.requests("GET, 1 KiB", "/api/v1/namespaces/bench/configmaps/small", 200).await?);
    rows.push(bench.requests("LIST, 1 MiB", "/api/v1/namespaces/bench/configmaps?labelSelector=bench", 20).await?);
    rows.push(bench.watch_events(50).await?);
    let table = samples::table(&rows, args.rounds);
    write!(std::io::stdout(), "{table}")?;
    if let Some(path) = args.output {
        std::fs::write(&path, samples::document(&table)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl Bench {
    async fn prepare(rounds: usize) -> anyhow::Result<Self> {
        let mut server = Server::start().await?;
        let mut member = Member::join(&server, "bench").await?;
        let admin = server.admin().clone();
        let direct = Way {
            http: member.control_plane.http()?,
            base: member.control_plane.url(),
            headers: vec![
                ("Impersonate-User", admin.name.clone()),
                ("Impersonate-Group", "system:authenticated".to_owned()),
            ],
        };
        let through = Way {
            http: server.http().clone(),
            base: format!("{}{}", server.url(), member.path("")),
            headers: vec![("Authorization", format!("Bearer {}", admin.token))],
        };
        let kubectl = |arguments: &[&str]| member.control_plane.kubectl(arguments.iter().copied());
        kubectl(&["create", "namespace", "bench"]).ok().await?;
        let map = |name: &str, labels: serde_json::Value, bytes: usize| {
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "bench", "labels": labels },
                    "data": { "value": "x".repeat(bytes) } })
        };
        let mut items = vec![map("small", json!({}), 800)];
        items.extend((0..LISTED).map(|number| map(&format!("list-{number}"), json!({ "bench": "" }), 8 * 1024)));
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        kubectl(&["create", "-f", "-"]).stdin(list.to_string()).ok().await?;
        let processes = [server.process().id(), member.agent.process().id()];
        Ok(Self { _running: (server, member), processes, direct, through, rounds })
    }

    /// The same GET, one after the other.
    async fn requests(&self, name: &'static str, path: &str, count: usize) -> anyhow::Result<Comparison> {
        let mut comparison = Comparison::new(name);
        // Warm connections on both ways; the first request through the server makes the impersonator.
        for way in [&self.direct, &self.through] {
            way.get(path).await?;
        }
        for _ in 0..self.rounds {
            let direct = self.direct.repeat(path, count).await?;
            let before = self.cpu()?;
            let through = self.through.repeat(path, count).await?;
            let cpu = self.cpu()?.since(before) / count as f64;
            comparison.round(direct, through, Some(cpu));
        }
        Ok(comparison)
    }

    /// From the start of a change to its event, with one watch open on each way.
    async fn watch_events(&self, count: usize) -> anyhow::Result<Comparison> {
        let mut comparison = Comparison::new("watch event");
        let path =
            "/api/v1/namespaces/bench/configmaps?watch=true&fieldSelector=metadata.name%3Dsmall&resourceVersion=0";
        let mut direct = self.direct.lines(path).await?;
        let mut through = self.through.lines(path).await?;
        for lines in [&mut direct, &mut through] {
            lines.next_event().await?;
        }
        for round in 0..self.rounds {
            let (mut of_direct, mut of_through) = (Samples::default(), Samples::default());
            for number in 0..count {
                let begin = Instant::now();
                let patch = json!({ "metadata": { "annotations": { "bench": format!("{round}-{number}") } } });
                let change = self.direct.patch("/api/v1/namespaces/bench/configmaps/small", &patch);
                let timed = |lines| async move {
                    let lines: &mut Lines = lines;
                    lines.next_event().await.map(|()| begin.elapsed())
                };
                let (changed, one, two) = tokio::join!(change, timed(&mut direct), timed(&mut through));
                changed?;
                of_direct.push(one?);
                of_through.push(two?);
            }
            comparison.round(of_direct, of_through, None);
        }
        Ok(comparison)
    }

    /// Processor time of server and agent together.
    fn cpu(&self) -> anyhow::Result<CpuTime> {
        let [server, agent] = self.processes;
        Ok(CpuTime::of(server)? + CpuTime::of(agent)?)
    }
}

impl Way {
    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
    }

    async fn get(&self, path: &str) -> anyhow::Result<usize> {
        let answer = self.request(reqwest::Method::GET, path).send().await?;
        ensure!(answer.status() == 200, "{} from {path}", answer.status());
        Ok(answer.bytes().await?.len())
    }

    async fn patch(&self, path: &str, patch: &serde_json::Value) -> anyhow::Result<()> {
        let request = self.request(reqwest::Method::PATCH, path).body(patch.to_string());
        let answer = request.header("Content-Type", "application/merge-patch+json").send().await?;
        ensure!(answer.status() == 200, "{} from {path}", answer.status());
        answer.bytes().await?;
        Ok(())
    }

    async fn repeat(&self, path: &str, count: usize) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..count {
            let begin = Instant::now();
            self.get(path).await?;
            samples.push(begin.elapsed());
        }
        Ok(samples)
    }

    async fn lines(&self, path: &str) -> anyhow::Result<Lines> {
        let answer = self.request(reqwest::Method::GET, path).timeout(Duration::from_secs(3600)).send().await?;
        ensure!(answer.status() == 200, "{} from {path}", answer.status());
        Ok(Lines { body: answer.bytes_stream().boxed(), rest: Vec::new() })
    }
}

/// A watch, event by event.
struct Lines {
    body: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    rest: Vec<u8>,
}

impl Lines {
    async fn next_event(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                self.rest.drain(..=end);
                return Ok(());
            }
            let chunk = tokio::time::timeout(DEADLINE, self.body.next()).await.context("no event in time")?;
            self.rest.extend_from_slice(&chunk.context("the watch ended")??);
        }
    }
}
