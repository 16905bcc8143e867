//! What the way through the server costs, against the API server itself.
//!
//! Every figure is a ratio taken inside one round: the same requests directly and through the server, in turn, on the same
//! machine at the same time. Absolute times are this machine's and say little. `make bench` builds everything for release,
//! runs this and writes `docs/performance.md`.
//!
//! With root the cluster has nodes, and the agents are the pods of the import manifest; without it, it is a control plane of
//! plain processes, and the rows that need a pod are left out.

mod cluster;
mod environment;
mod exec;
mod measure;
mod processes;
mod report;
mod row;
mod samples;
mod way;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use cluster::Cluster;
use environment::Environment;
use measure::Bench;
use report::Report;

/// Measures the way through the server against the API server itself.
#[derive(Parser)]
struct Args {
    /// Rounds of each row
    #[arg(long, default_value_t = 9)]
    rounds: usize,
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let environment = Environment::of_this_run(&args.revision)?;
    let cluster = Box::pin(Cluster::start(args.no_nodes)).await?;
    let left_out = cluster.without_pods().map(str::to_owned);
    let bench = Box::pin(Bench::prepare(cluster, args.rounds)).await?;
    let idle = bench.idle().await?;
    let rows = Box::pin(bench.rows(args.only.as_deref())).await?;
    let after = bench.idle().await?;
    let report = Report { environment, rounds: args.rounds, rows, idle, after, left_out };
    write!(std::io::stdout(), "{}", report.table())?;
    if let Some(path) = args.output {
        std::fs::write(&path, report.document()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
