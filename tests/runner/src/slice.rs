//! `make test`: every test over its slice of each matrix, several programs at a time, since most of them wait for most of their
//! time. Those with nodes need much of the machine and run one after the other.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::binary::{self, Binary};
use crate::checkout;
use crate::outcome::Outcome;
use crate::report::duration;
use crate::session::INTERRUPTED;
use crate::unit::Unit;
use crate::{runner, say};

/// The test targets with nodes. A test compares this with the tests.
const NODES: [&str; 4] = ["demo", "node_agents", "nodes", "pods"];

/// A program that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Runs every test, several programs at a time.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only what has this in its name, e.g. "cattle-store --test crash" or "faults"
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Programs without nodes at a time; one with nodes runs beside them
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Runs all, and says at the end what failed and what was skipped.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let root = checkout::root()?;
    let wanted = |unit: &Unit| args.only.as_deref().is_none_or(|pattern| unit.name().contains(pattern));
    let binaries = binary::build(&root).await?.into_iter().map(Unit::Binary);
    let units: Vec<Unit> = binaries.chain([Unit::Documentation]).filter(wanted).collect();
    let times = Times::open()?;
    let slice = Slice {
        root,
        logs: tempfile::tempdir().context("no directory for logs")?,
        begun: Instant::now(),
        count: units.len(),
        queues: queues(units, &times),
        done: RefCell::default(),
    };
    let mut terminated = signal(SignalKind::terminate())?;
    // Dropping what runs ends its processes.
    tokio::select! {
        ran = slice.run(args.jobs.max(1)) => ran?,
        interrupted = tokio::signal::ctrl_c() => { interrupted?; return Ok(ExitCode::from(INTERRUPTED)) }
        _ = terminated.recv() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    let done = slice.done.into_inner();
    times.keep(&done)?;
    Ok(summary(&done, slice.begun.elapsed()))
}

/// What waits, longest first.
struct Queues {
    nodes: RefCell<VecDeque<Unit>>,
    others: RefCell<VecDeque<Unit>>,
}

fn queues(mut units: Vec<Unit>, times: &Times) -> Queues {
    // What takes long begins early, so that nothing is left to wait for alone; what is new may take long.
    units.sort_by_key(|unit| std::cmp::Reverse(times.0.get(&unit.name()).copied().unwrap_or(u64::MAX)));
    let (nodes, others): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(has_nodes);
    Queues { nodes: RefCell::new(nodes.into()), others: RefCell::new(others.into()) }
}

fn has_nodes(unit: &Unit) -> bool {
    let Unit::Binary(Binary { name, end_to_end: true, .. }) = unit else { return false };
    NODES.iter().any(|target| name.ends_with(&format!(" --test {target}")))
}

/// One run of everything.
struct Slice {
    root: PathBuf,
    logs: tempfile::TempDir,
    begun: Instant,
    count: usize,
    queues: Queues,
    done: RefCell<BTreeMap<String, Outcome>>,
}

impl Slice {
    async fn run(&self, jobs: usize) -> anyhow::Result<()> {
        let Queues { nodes, others } = &self.queues;
        let beside = futures_util::future::try_join_all((0..jobs).map(|_| self.lane(others)));
        tokio::try_join!(self.lane(nodes), beside).map(drop)
    }

    /// Runs what waits, one after the other.
    async fn lane(&self, queue: &RefCell<VecDeque<Unit>>) -> anyhow::Result<()> {
        let next = || queue.borrow_mut().pop_front();
        while let Some(unit) = next() {
            let name = unit.name();
            let log = self.logs.path().join(name.replace(['/', ' '], "_"));
            let outcome = runner::run(&unit, &self.root, &log, None, DEADLINE).await?;
            self.tell(&name, &outcome, &log)?;
            self.done.borrow_mut().insert(name, outcome);
        }
        Ok(())
    }

    /// A line for each program, and all that one has said which failed.
    fn tell(&self, name: &str, outcome: &Outcome, log: &Path) -> anyhow::Result<()> {
        let result = if outcome.is_good() { "passed" } else { "FAILED" };
        let (passed, skipped) = (outcome.passed, outcome.skipped.len());
        let counts = format!("{passed} passed, {skipped} skipped, {}", duration(outcome.seconds));
        let number = self.done.borrow().len() + 1;
        say(&format!("[{number}/{}] {name}: {result} ({counts})", self.count));
        if !outcome.is_good() {
            // Nobody reading is no reason to stop.
            let _ = std::io::stdout().write_all(&std::fs::read(log)?);
        }
        Ok(())
    }
}

/// What a person looks for at the end.
fn summary(done: &BTreeMap<String, Outcome>, time: Duration) -> ExitCode {
    for (name, outcome) in done {
        for skip in &outcome.skipped {
            say(&format!("skipped: {name} {}: {}", skip.test, skip.why));
        }
    }
    let passed: usize = done.values().map(|outcome| outcome.passed).sum();
    let mut failed = 0;
    for (name, outcome) in done.iter().filter(|(_, outcome)| !outcome.is_good()) {
        failed += outcome.failed.len();
        say(&format!("failed: {name}: {}\n  again: make test ONLY='{name}'", outcome.failed.join(", ")));
    }
    say(&format!("{passed} passed, {failed} failed, in {}", duration(time.as_secs())));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seconds that each program took the last time, kept in the cache: good enough to begin with the long ones.
struct Times(BTreeMap<String, u64>);

impl Times {
    fn open() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(Self::path()?).unwrap_or_default();
        Ok(Self(serde_json::from_str(&text).unwrap_or_default()))
    }

    fn keep(mut self, done: &BTreeMap<String, Outcome>) -> anyhow::Result<()> {
        self.0.extend(done.iter().map(|(name, outcome)| (name.clone(), outcome.seconds)));
        let path = Self::path()?;
        std::fs::write(&path, serde_json::to_vec(&self.0)?).with_context(|| format!("{}", path.display()))
    }

    fn path() -> anyhow::Result<PathBuf> {
        Ok(cattle_harness::cache_directory()?.join("test-times.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, end_to_end: bool) -> Unit {
        let (executable, directory) = (PathBuf::from("/t/x"), PathBuf::from("/src"));
        Unit::Binary(Binary { name: name.to_owned(), executable, directory, end_to_end })
    }

    #[test]
    fn the_longest_begins_and_nodes_have_a_lane_of_their_own() {
        let times = Times(
            [("a --lib", 3), ("b --lib", 9), ("t --test pods", 50), ("t --test nodes", 60)]
                .map(|(name, seconds)| (name.to_owned(), seconds))
                .into(),
        );
        let units = vec![
            unit("a --lib", false),
            unit("b --lib", false),
            unit("t --test new", true),
            unit("t --test pods", true),
            unit("t --test nodes", true),
            unit("x --test nodes", false),
        ];
        let Queues { nodes, others } = queues(units, &times);
        let names = |queue: RefCell<VecDeque<Unit>>| queue.into_inner().iter().map(Unit::name).collect::<Vec<_>>();
        assert_eq!(names(nodes), ["t --test nodes", "t --test pods"]);
        assert_eq!(names(others), ["t --test new", "x --test nodes", "b --lib", "a --lib"]);
    }
}
