//! One start of the program: what is left to do, done.

use std::process::ExitCode;

use anyhow::Context as _;
use cattle_matrix::Seed;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::binary;
use crate::checkout::Checkout;
use crate::ledger::Ledger;
use crate::machine::machine;
use crate::report::{Report, again, duration};
use crate::runner;
use crate::say;
use crate::unit::{Unit, units_of};

/// The shell's code for a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Runs what is left, and reports.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let checkout = Checkout::look(&args.report)?;
    let clean = checkout.changed.is_empty();
    anyhow::ensure!(
        clean || args.allow_dirty,
        "the tree is not its commit ({}): commit first, or use --allow-dirty, whose results nobody can repeat",
        checkout.changed.join(", ")
    );
    let seed = Seed::of_this_run();
    let units = all_units(&checkout).await?;
    let place = cattle_harness::cache_directory()?.join(checkout.place(seed));
    let mut ledger = Ledger::open(place, !clean)?;
    let mut left = Vec::new();
    for unit in &units {
        let name = unit.name();
        let done = !args.again && ledger.of(&name).is_some_and(|entry| entry.outcome.is_good());
        if args.wants(&name) && !done {
            left.push(unit);
        }
    }
    say(&format!("{} test programs, {} to run; results in {}", units.len(), left.len(), ledger.directory().display()));
    if args.list {
        left.iter().for_each(|unit| say(&unit.name()));
        return Ok(ExitCode::SUCCESS);
    }
    if !run_all(&left, args, &checkout, seed, &mut ledger).await? {
        say("stopped; the next start goes on here");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    finish(args, &checkout, seed, &units, &ledger)
}

/// Everything there is, in the order of the report, documentation last.
async fn all_units(checkout: &Checkout) -> anyhow::Result<Vec<Unit>> {
    let mut units = Vec::new();
    for binary in binary::build(&checkout.root).await? {
        let tests = runner::tests_of(&binary).await?;
        units.extend(units_of(binary, tests));
    }
    units.push(Unit::Documentation);
    Ok(units)
}

/// Runs one after the other; false when somebody stopped it.
async fn run_all(
    units: &[&Unit],
    args: &Args,
    checkout: &Checkout,
    seed: Seed,
    ledger: &mut Ledger,
) -> anyhow::Result<bool> {
    let mut terminated = signal(SignalKind::terminate())?;
    for (number, unit) in units.iter().enumerate() {
        let name = unit.name();
        let log = ledger.log(&name);
        let outcome = tokio::select! {
            // Dropping the unit ends its processes; it has no result then.
            outcome = runner::run(unit, &checkout.root, &log, Some(seed), args.deadline()) => outcome?,
            interrupted = tokio::signal::ctrl_c() => { interrupted?; return Ok(false) }
            _ = terminated.recv() => return Ok(false),
        };
        let result = if outcome.is_good() { "passed".to_owned() } else { format!("FAILED, see {}", log.display()) };
        let (passed, skipped) = (outcome.passed, outcome.skipped.len());
        let counts = format!("{passed} passed, {skipped} skipped, {}", duration(outcome.seconds));
        say(&format!("[{}/{}] {name}: {result} ({counts})", number + 1, units.len()));
        ledger.note(&name, outcome)?;
    }
    Ok(true)
}

/// Says what failed, and writes the report when everything has run.
fn finish(args: &Args, checkout: &Checkout, seed: Seed, units: &[Unit], ledger: &Ledger) -> anyhow::Result<ExitCode> {
    let names: Vec<_> = units.iter().map(Unit::name).collect();
    let results: Vec<_> =
        units.iter().zip(&names).filter_map(|(unit, name)| Some((unit.group(), ledger.of(name)?))).collect();
    let mut good = true;
    for (_, entry) in results.iter().filter(|(_, entry)| !entry.outcome.is_good() && args.wants(&entry.unit)) {
        good = false;
        say(&format!("failed: {}: {}\n  again: {}", entry.unit, entry.outcome.failed.join(", "), again(&entry.unit)));
    }
    let missing = units.len() - results.len();
    if missing == 0 {
        let (commit, clean) = (checkout.commit.as_str(), checkout.changed.is_empty());
        let report = Report { commit, clean, seed: seed.to_string(), machine: machine(), results };
        let path = checkout.root.join(&args.report);
        std::fs::write(&path, report.render()).with_context(|| format!("{}", path.display()))?;
        say(&format!("everything has run; {} says what came of it", path.display()));
    } else {
        say(&format!("{missing} of {} have not run on this commit yet: no report", units.len()));
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
