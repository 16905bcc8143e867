//! `make test-long`: every test of the workspace over all of its matrix, one test binary after the other.
//!
//! It takes hours, so it can be stopped at any moment and started again: what passed is remembered in the cache under the
//! checked-out commit and its seed, what failed is tried again. When everything has run, `docs/test-long.md` says what came
//! of it.
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
mod unit;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    session::run(&args::Args::parse()).await
}

/// A line for the person who waits.
fn say(line: &str) {
    // Nobody reading is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}
