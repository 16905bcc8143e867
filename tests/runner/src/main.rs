//! Runs the tests of the workspace, one test binary as one process.
//!
//! `make test` ([`slice`](mod@slice)) runs every test over its slice of each matrix, several binaries at a time.
//!
//! `make test-long` ([`session`]) runs every test over all of its matrix, one binary after the other. It takes hours, so it can
//! be stopped at any moment and started again: what passed is remembered in the cache under the checked-out commit and its seed,
//! what failed is tried again. When everything has run, `docs/test-long.md` says what came of it.
//!
//! | module | |
//! |---|---|
//! | [`checkout`] | the commit, and whether the tree is that commit |
//! | [`binary`] | the test binaries, from what cargo says |
//! | [`mod@unit`] | what is run and remembered as one |
//! | [`outcome`] | what came of it, from what the test program says |
//! | [`ledger`] | what was done before |
//! | [`runner`] | runs one |
//! | [`report`] | `docs/test-long.md` |

mod args;
mod binary;
mod checkout;
mod ledger;
mod machine;
mod outcome;
mod report;
mod runner;
mod session;
mod slice;
mod unit;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

/// Runs the tests of the workspace.
#[derive(clap::Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Every test over its slice of each matrix, several programs at a time
    Slice(slice::Args),
    /// Every test over all of its matrix; goes on where it was stopped
    Long(args::Args),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Slice(args) => slice::run(&args).await,
        Command::Long(args) => session::run(&args).await,
    }
}

/// A line for the person who waits.
fn say(line: &str) {
    // Nobody reading is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}
