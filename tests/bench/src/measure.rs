//! The measurements, each one both ways in turn.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use cattle_harness::{Assets, Client};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, NAMESPACE};
use crate::exec::Exec;
use crate::processes::{Of, Processes};
use crate::row::{Kind, Round, Row};
use crate::samples::Samples;
use crate::way::{Connection, Way};

const SMALL: &str = "/api/v1/namespaces/bench/configmaps/small";
const LIST: &str = "/api/v1/namespaces/bench/configmaps?labelSelector=bench";
const WATCH: &str =
    "/api/v1/namespaces/bench/configmaps?watch=true&fieldSelector=metadata.name%3Dsmall&resourceVersion=0";
/// Objects of 8 KiB in the list: 1 MiB.
const LISTED: usize = 128;
/// What is copied.
const COPIED: usize = 64 * 1024 * 1024;
/// How long nothing is asked of a process before it counts as idle.
const QUIET: Duration = Duration::from_secs(15);

/// Everything that runs, and what is asked of it.
pub(crate) struct Bench {
    cluster: Cluster,
    processes: Processes,
    direct: Way,
    through: Way,
    rounds: usize,
}

#[derive(Clone, Copy)]
enum Side {
    Direct,
    Through,
}

impl Bench {
    pub(crate) async fn prepare(mut cluster: Cluster, rounds: usize) -> anyhow::Result<Self> {
        let processes = cluster.processes()?;
        let (direct, through) = cluster.ways().await?;
        let map = |name: &str, labels: serde_json::Value, bytes: usize| {
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": NAMESPACE, "labels": labels },
                    "data": { "value": "x".repeat(bytes) } })
        };
        let mut items = vec![map("small", json!({}), 800)];
        items.extend((0..LISTED).map(|number| map(&format!("list-{number}"), json!({ "bench": "" }), 8 * 1024)));
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        cluster.kubectl(&["create", "-f", "-"]).stdin(list.to_string()).ok().await?;
        Ok(Self { cluster, processes, direct, through, rounds })
    }

    /// Memory when nothing has been asked for a while.
    pub(crate) async fn idle(&self) -> anyhow::Result<Of<u64>> {
        sleep(QUIET).await;
        self.processes.resident()
    }

    /// All rows, or those whose names contain something.
    pub(crate) async fn rows(&self, only: Option<&str>) -> anyhow::Result<Vec<Row>> {
        let wanted = |kind: &Kind| only.is_none_or(|part| kind.name.contains(part));
        let mut rows = Vec::new();
        for (kind, path, connection, count) in requests(self.direct.get(LIST, Connection::Warm).await?) {
            if wanted(&kind) {
                let block = async |side| self.way(side).gets(path, connection, count, kind.parallel).await;
                rows.push(self.alternate(kind, block).await?);
            }
        }
        if wanted(&BESIDE) {
            rows.push(self.alternate(BESIDE, async |side| self.beside_lists(side).await).await?);
        }
        if wanted(&WATCH_EVENT) {
            rows.push(self.watch_events().await?);
        }
        let in_pod = [EXEC, ROUND_TRIP, UPLOAD, DOWNLOAD].map(|kind| wanted(&kind));
        if self.cluster.without_pods().is_none() && in_pod.contains(&true) {
            let pod = self.cluster.pod().await?;
            let [exec, round_trip, upload, download] = in_pod;
            if exec {
                rows.push(self.alternate(EXEC, async |side| self.execs(side, &pod).await).await?);
            }
            if round_trip {
                rows.push(self.round_trips(&pod).await?);
            }
            if upload || download {
                rows.extend(self.copies(upload, download).await?);
            }
        }
        Ok(rows)
    }

    /// Runs blocks on both ways in turn, each round in the other order, after one of each that does not count.
    async fn alternate(
        &self,
        kind: Kind,
        mut block: impl AsyncFnMut(Side) -> anyhow::Result<Samples>,
    ) -> anyhow::Result<Row> {
        let mut block = async |side| {
            let way = match side {
                Side::Direct => "directly",
                Side::Through => "through the server",
            };
            block(side).await.with_context(|| format!("{}, {way}", kind.name))
        };
        block(Side::Direct).await?;
        block(Side::Through).await?;
        let mut row = Row::new(kind);
        self.processes.forget_peaks()?;
        for round in 0..self.rounds {
            let before = if round % 2 == 0 { Some(block(Side::Direct).await?) } else { None };
            let cpu = self.processes.cpu()?;
            let through = block(Side::Through).await?;
            let cpu = self.processes.cpu()? - cpu;
            let direct = match before {
                Some(direct) => direct,
                None => block(Side::Direct).await?,
            };
            row.push(Round { direct, through, cpu });
        }
        row.peaks = self.processes.peaks()?;
        Ok(row)
    }

    /// Small requests while large ones run one after the other, on another connection.
    async fn beside_lists(&self, side: Side) -> anyhow::Result<Samples> {
        let way = self.way(side);
        let lists = async {
            loop {
                if let Err(error) = way.get(LIST, Connection::New).await {
                    return error;
                }
            }
        };
        tokio::select! {
            samples = way.gets(SMALL, Connection::Warm, 40, 1) => samples,
            error = lists => Err(error),
        }
    }

    /// With one watch open on each way: both see the same change.
    async fn watch_events(&self) -> anyhow::Result<Row> {
        let (mut direct, mut through) = (self.direct.events(WATCH).await?, self.through.events(WATCH).await?);
        tokio::try_join!(direct.next(), through.next())?;
        let mut row = Row::new(WATCH_EVENT);
        self.processes.forget_peaks()?;
        for round in 0..self.rounds {
            let (mut of_direct, mut of_through) = (Samples::default(), Samples::default());
            let cpu = self.processes.cpu()?;
            for number in 0..40 {
                let patch = json!({ "metadata": { "annotations": { "bench": format!("{round}-{number}") } } });
                let begin = Instant::now();
                let ((), one, two) = tokio::try_join!(
                    self.direct.patch(SMALL, &patch),
                    async { direct.next().await.map(|()| begin.elapsed()) },
                    async { through.next().await.map(|()| begin.elapsed()) },
                )?;
                of_direct.push(one);
                of_through.push(two);
            }
            let cpu = self.processes.cpu()? - cpu;
            row.push(Round { direct: of_direct, through: of_through, cpu });
        }
        row.peaks = self.processes.peaks()?;
        Ok(row)
    }

    async fn execs(&self, side: Side, pod: &str) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..3 {
            let begin = Instant::now();
            Exec::start(self.way(side), pod, &["true"]).await?.end().await?;
            samples.push(begin.elapsed());
        }
        Ok(samples)
    }

    async fn round_trips(&self, pod: &str) -> anyhow::Result<Row> {
        let mut direct = Exec::start(&self.direct, pod, &["cat"]).await?;
        let mut through = Exec::start(&self.through, pod, &["cat"]).await?;
        self.alternate(ROUND_TRIP, async |side| {
            let exec = match side {
                Side::Direct => &mut direct,
                Side::Through => &mut through,
            };
            let mut samples = Samples::default();
            for _ in 0..100 {
                let begin = Instant::now();
                exec.echo(b"a line as somebody types it\n").await?;
                samples.push(begin.elapsed());
            }
            Ok(samples)
        })
        .await
    }

    /// By kubectl itself, whose start is a part of the time.
    async fn copies(&self, upload: bool, download: bool) -> anyhow::Result<Vec<Row>> {
        let kubectl = Assets::ready().await?.program("kubectl");
        let directory = self.cluster.directory();
        let (file, copy) = (directory.join("file"), directory.join("copy"));
        // No run of equal bytes, which somebody on the way might treat better.
        let bytes: Vec<u8> =
            (0..COPIED as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(&file, &bytes)?;
        let here = [file.display().to_string(), copy.display().to_string()];
        let there = Cluster::in_pod("/tmp/file");
        let cp = async |side, from: &str, to: &str| -> anyhow::Result<Samples> {
            let cp = Client::new(&kubectl, &self.way(side).kubeconfig).direct().args(["cp", from, to]);
            let begin = Instant::now();
            cp.ok().await?;
            let mut samples = Samples::default();
            samples.push(begin.elapsed());
            Ok(samples)
        };
        let mut rows = Vec::new();
        if upload {
            rows.push(self.alternate(UPLOAD, async |side| cp(side, &here[0], &there).await).await?);
        } else {
            cp(Side::Direct, &here[0], &there).await?;
        }
        if download {
            rows.push(self.alternate(DOWNLOAD, async |side| cp(side, &there, &here[1]).await).await?);
            anyhow::ensure!(fs::read(&copy)? == bytes, "the copy is another file");
        }
        Ok(rows)
    }

    fn way(&self, side: Side) -> &Way {
        match side {
            Side::Direct => &self.direct,
            Side::Through => &self.through,
        }
    }
}

/// GETs: what, where, on which connection, how many in a block.
fn requests(list: usize) -> [(Kind, &'static str, Connection, usize); 4] {
    let kind = |name, meaning| Kind { name, meaning, bytes: None, parallel: 1 };
    let small = kind("GET, 1 KiB", "one object, one request after the other on a warm connection");
    let new =
        kind("GET, new connection", "the same, each with a TCP and TLS handshake of its own, as each kubectl has");
    let many = kind("GET, 16 at once", "the same on one warm HTTP/2 connection, 16 of them at any time");
    let list = Kind {
        bytes: Some(list as u64),
        ..kind("LIST, 1 MiB", "128 objects of 8 KiB, one request after the other on a warm connection")
    };
    [
        (small, SMALL, Connection::Warm, 100),
        (new, SMALL, Connection::New, 20),
        (Kind { parallel: 16, ..many }, SMALL, Connection::Warm, 320),
        (list, LIST, Connection::Warm, 20),
    ]
}

const BESIDE: Kind = Kind {
    name: "GET, beside LISTs",
    meaning: "one object of 1 KiB while somebody else reads lists of 1 MiB without a pause; the processor time is that of both",
    bytes: None,
    parallel: 1,
};
const WATCH_EVENT: Kind = Kind {
    name: "watch event",
    meaning: "from the start of a change, made directly, to its event on a watch; both ways see the same change",
    bytes: None,
    parallel: 1,
};
const EXEC: Kind = Kind {
    name: "exec, start to end",
    meaning: "`true` in a pod, from the TCP connection to its exit code; starting a process in a container is most of it",
    bytes: None,
    parallel: 1,
};
const ROUND_TRIP: Kind = Kind {
    name: "exec, round trip",
    meaning: "a line to a running `cat` and back, as somebody types",
    bytes: None,
    parallel: 1,
};
const UPLOAD: Kind = Kind {
    name: "cp to a pod",
    meaning: "`kubectl cp` of 64 MiB, its own start included",
    bytes: Some(COPIED as u64),
    parallel: 1,
};
const DOWNLOAD: Kind = Kind {
    name: "cp from a pod",
    meaning: "`kubectl cp` of 64 MiB, its own start included",
    bytes: Some(COPIED as u64),
    parallel: 1,
};
/// Rows that need a pod.
pub(crate) const IN_PODS: [&str; 4] = [EXEC.name, ROUND_TRIP.name, UPLOAD.name, DOWNLOAD.name];
