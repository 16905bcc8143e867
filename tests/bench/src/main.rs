//! What the way through the server costs, against the API server itself.
//!
//! Every figure is a ratio taken inside one round: the same requests directly and through the server, in turn, on the same
//! machine at the same time. Absolute times are this machine's and say little. `make bench` builds everything for release,
//! runs this and writes `docs/performance.md`.
//!
//! With root the cluster has nodes, and the agents are the pods of the import manifest; without it, it is a control plane of
//! plain processes, and the rows that need a pod are left out. [`tunnel`] measures the tunnel alone.

mod cluster;
mod environment;
mod exec;
mod measure;
mod processes;
mod report;
mod row;
mod samples;
mod standby;
mod tunnel;
mod way;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

use cluster::Cluster;
use environment::Environment;
use measure::Bench;
use report::Report;

/// As in the programs that are measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the way through the server against the API server itself, and the tunnel against other tunnels.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Rounds of each row
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// What to measure; the report is written only of both
    #[arg(long)]
    part: Option<Part>,
    /// The program with remotedialer's two ends
    #[arg(long, required_unless_present = "part")]
    remotedialer: Option<PathBuf>,
    /// Only rows whose name contains this; for work on one of them
    #[arg(long)]
    only: Option<String>,
    /// The commit that was built
    #[arg(long, default_value = "unknown")]
    revision: String,
    /// Do without nodes and pods, as if not started by root
    #[arg(long)]
    no_nodes: bool,
    /// Where the report is written, besides standard output
    #[arg(long)]
    output: Option<PathBuf>,
}

/// One process of what is measured; this program starts them itself.
#[derive(Subcommand)]
enum Command {
    #[command(subcommand, hide = true)]
    Part(tunnel::Role),
}

/// Half of the report.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Through the server, against the API server
    Cluster,
    /// The tunnel, against other tunnels
    Tunnel,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.command {
        Some(Command::Part(role)) => role.run(),
        None => tokio::runtime::Runtime::new()?.block_on(measure(args)),
    }
}

async fn measure(args: Args) -> anyhow::Result<()> {
    let environment = Environment::of_this_run(&args.revision)?;
    let wanted = |part| args.part.is_none_or(|only| only == part);
    let mut tunnel = None;
    if wanted(Part::Tunnel) {
        let peer = args.remotedialer.clone().context("--remotedialer is missing")?;
        let run = Box::pin(tunnel::run(args.rounds, peer)).await?;
        tunnel = Some(tunnel::section(&run));
    }
    if let Some(tunnel) = &tunnel {
        write!(std::io::stdout(), "{tunnel}")?;
    }
    if !wanted(Part::Cluster) {
        return Ok(());
    }
    let cluster = Box::pin(Cluster::start(args.no_nodes)).await?;
    let left_out = cluster.without_pods().map(str::to_owned);
    let standby = cluster.standby().await?.map(|standby| standby.verdict());
    let bench = Box::pin(Bench::prepare(cluster, args.rounds)).await?;
    let idle = bench.idle().await?;
    let rows = Box::pin(bench.rows(args.only.as_deref())).await?;
    let after = bench.idle().await?;
    let report = Report { environment, rounds: args.rounds, rows, idle, after, left_out, standby, tunnel };
    write!(std::io::stdout(), "{}", report.table())?;
    if let Some(path) = args.output.filter(|_| report.tunnel.is_some()) {
        std::fs::write(&path, report.document()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
