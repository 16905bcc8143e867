//! What is measured, of one way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::load::{self, Direction, Flood, Line};
use super::path::{Kind, Path, Stage};
use super::{Values, promise as figure};
use crate::samples::Samples;

/// Bytes of one measurement of bulk.
const BULK: u64 = 384_000_000;
/// Requests of one measurement on a warm stream.
const REQUESTS: usize = 2_000;
/// New streams of one measurement, one at a time; 16 at a time they are four times as many.
const STREAMS: usize = 400;
/// Bulk before requests beside it, until windows and buffers are full.
const WARM_UP: Duration = Duration::from_millis(300);
/// Bulk beside which requests are measured.
const BESIDE: Duration = Duration::from_secs(1);
/// Two-way bulk.
const BOTH_WAYS: Duration = Duration::from_secs(20);
/// Nothing moving for as long is a stop.
const STOP: Duration = Duration::from_secs(2);
/// Streams that nobody reads.
const STALLED: usize = 16;
/// Idle streams; the larger number is for ways that have no connection and no descriptor for each.
const IDLE: [usize; 2] = [1_000, 10_000];

/// One measurement of every figure that rounds repeat, of one way after the other.
pub(super) async fn round(paths: &[Path]) -> anyhow::Result<BTreeMap<Kind, Values>> {
    let mut round = BTreeMap::<Kind, Values>::new();
    for group in Group::ALL {
        for path in paths {
            round.entry(path.kind).or_default().extend(group.take(path).await?);
        }
    }
    Ok(round)
}

/// Figures that spoil the way for others, or take long: each in processes of its own.
pub(super) async fn once(kind: Kind, stage: &Stage) -> anyhow::Result<Values> {
    let mut values = both_ways(&Path::start(kind, stage).await?).await?;
    values.extend(stalled(&Path::start(kind, stage).await?).await?);
    let path = Path::start(kind, stage).await?;
    values.insert(figure::HALF_CLOSE, f64::from(u8::from(load::half_close(path.entry).await?)));
    values.extend(idle(&path, IDLE[0], figure::AMONG_1000, figure::IDLE_SERVER, figure::IDLE_AGENT).await?);
    drop(path);
    if kind == Kind::Cattle {
        let path = Path::start(kind, stage).await?;
        let ten = idle(&path, IDLE[1], figure::AMONG_10000, figure::IDLE_SERVER, figure::IDLE_AGENT).await?;
        values.extend(ten);
        let path = Path::without_sockets(stage).await?;
        let agent = idle(&path, IDLE[1], figure::AMONG_BARE, figure::BARE_SERVER, figure::BARE_AGENT).await?;
        values.extend(agent.into_iter().filter(|(name, _)| *name == figure::BARE_AGENT));
    }
    Ok(values)
}

/// What is measured together.
#[derive(Clone, Copy)]
enum Group {
    Bulk(Direction, u64),
    Warm,
    Fresh(usize),
    Beside,
    BesideStalled,
}

impl Group {
    const ALL: [Self; 9] = [
        Self::Bulk(Direction::Down, 1),
        Self::Bulk(Direction::Up, 1),
        Self::Bulk(Direction::Down, 8),
        Self::Bulk(Direction::Up, 8),
        Self::Warm,
        Self::Fresh(1),
        Self::Fresh(16),
        Self::Beside,
        Self::BesideStalled,
    ];

    async fn take(self, path: &Path) -> anyhow::Result<Values> {
        match self {
            Self::Bulk(way, streams) => bulk(path, way, streams).await,
            Self::Warm => {
                let samples = Line::open(path.entry).await?.asks(REQUESTS).await?;
                Ok(Values::from([
                    (figure::WARM_P50, micros(&samples, 0.5)),
                    (figure::WARM_P99, micros(&samples, 0.99)),
                ]))
            }
            Self::Fresh(parallel) => {
                let count = if parallel == 1 { STREAMS } else { STREAMS * 4 };
                let (_, time) = load::fresh(path.entry, count, parallel).await?;
                let name = if parallel == 1 { figure::FRESH_1 } else { figure::FRESH_16 };
                Ok(Values::from([(name, count as f64 / time.as_secs_f64())]))
            }
            Self::Beside => beside(path).await,
            Self::BesideStalled => {
                let alone = Line::open(path.entry).await?.asks(REQUESTS / 2).await?;
                let _stalled = load::stalled(path.entry, 1).await?;
                sleep(WARM_UP).await;
                let beside = Line::open(path.entry).await?.asks(REQUESTS / 2).await?;
                Ok(Values::from([(figure::BESIDE_STALLED, micros(&beside, 0.5) / micros(&alone, 0.5))]))
            }
        }
    }
}

async fn bulk(path: &Path, way: Direction, streams: u64) -> anyhow::Result<Values> {
    let before = path.processes.cpu()?;
    let time = load::bulk(path.entry, way, streams, BULK).await?;
    let cpu = path.processes.cpu()? - before;
    let rate = BULK as f64 / 1e6 / time.as_secs_f64();
    let cost = (cpu.server + cpu.agent) / (BULK as f64 / 1e9);
    Ok(match (way, streams) {
        (Direction::Down, 1) => Values::from([(figure::DOWN_1, rate), (figure::CPU_DOWN, cost)]),
        (Direction::Up, 1) => Values::from([(figure::UP_1, rate), (figure::CPU_UP, cost)]),
        (Direction::Down, _) => Values::from([(figure::DOWN_8, rate)]),
        (Direction::Up, _) => Values::from([(figure::UP_8, rate)]),
    })
}

/// Small requests beside one stream of bulk.
async fn beside(path: &Path) -> anyhow::Result<Values> {
    let flood = Flood::start(path.entry, &[Direction::Down]).await?;
    sleep(WARM_UP).await;
    let (start, before) = (Instant::now(), flood.moved());
    sleep(BESIDE).await;
    let alone = (flood.moved() - before) as f64 / start.elapsed().as_secs_f64();
    let mut line = Line::open(path.entry).await?;
    let (start, before, mut samples) = (Instant::now(), flood.moved(), Samples::default());
    while start.elapsed() < BESIDE {
        samples.push(line.ask().await?);
    }
    let kept = (flood.moved() - before) as f64 / start.elapsed().as_secs_f64() / alone;
    Ok(Values::from([
        (figure::BESIDE_P50, samples.quantile(0.5) * 1e3),
        (figure::BESIDE_P99, samples.quantile(0.99) * 1e3),
        (figure::BULK_KEPT, kept),
    ]))
}

/// Four streams each way, as fast as they go; a way that stops is not waited for.
async fn both_ways(path: &Path) -> anyhow::Result<Values> {
    const TICK: Duration = Duration::from_millis(50);
    let mut flood = Flood::start(path.entry, &[[Direction::Down; 4], [Direction::Up; 4]].concat()).await?;
    let (start, mut last, mut longest) = (Instant::now(), (Instant::now(), 0), Duration::ZERO);
    while start.elapsed() < BOTH_WAYS && !flood.failed() {
        sleep(TICK).await;
        if flood.moved() > last.1 {
            last = (Instant::now(), flood.moved());
        }
        longest = longest.max(last.0.elapsed());
    }
    let stopped = if flood.failed() || longest > STOP { 1.0 } else { 0.0 };
    let rate = flood.moved() as f64 / 1e6 / start.elapsed().as_secs_f64();
    Ok(Values::from([(figure::BOTH_WAYS, rate), (figure::BOTH_WAYS_STOPPED, stopped)]))
}

/// Memory that streams cost which nobody reads.
async fn stalled(path: &Path) -> anyhow::Result<Values> {
    Line::open(path.entry).await?.asks(REQUESTS).await?;
    let before = path.processes.resident()?;
    let _streams = load::stalled(path.entry, STALLED).await?;
    sleep(WARM_UP * 5).await;
    let after = path.processes.resident()?;
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / STALLED as f64 / 1e3;
    let largest = each(after.server, before.server).max(each(after.agent, before.agent));
    Ok(Values::from([(figure::STALLED_MEMORY, largest)]))
}

/// What idle streams cost each side, and how much longer a new stream takes among them.
async fn idle(
    path: &Path,
    count: usize,
    among: &'static str,
    server: &'static str,
    agent: &'static str,
) -> anyhow::Result<Values> {
    let (alone, _) = load::fresh(path.entry, STREAMS, 1).await?;
    let before = path.processes.resident()?;
    let lines = load::idle(path.entry, count).await?;
    let after = path.processes.resident()?;
    let (beside, _) = load::fresh(path.entry, STREAMS, 1).await?;
    drop(lines);
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / count as f64 / 1e3;
    Ok(Values::from([
        (among, beside.quantile(0.5) / alone.quantile(0.5)),
        (server, each(after.server, before.server)),
        (agent, each(after.agent, before.agent)),
    ]))
}

fn micros(samples: &Samples, part: f64) -> f64 {
    samples.quantile(part) * 1e6
}
