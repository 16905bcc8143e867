//! Runs one unit as a process.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cattle_matrix::{Seed, Tier};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::binary::Binary;
use crate::outcome::{Ended, Outcome};
use crate::unit::{Unit, listed};

/// Time for a test's own processes to be swept after it was told to end.
const SWEEP: Duration = Duration::from_secs(30);

/// The tests of a binary that are not ignored.
pub(crate) async fn tests_of(binary: &Binary) -> anyhow::Result<Vec<String>> {
    let list = async |more: &[&str]| {
        let mut command = Command::new(&binary.executable);
        command.args(["--list", "--format", "terse"]).args(more).current_dir(&binary.directory).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("{} cannot be run", binary.name))?;
        anyhow::ensure!(output.status.success(), "{} does not list its tests", binary.name);
        Ok(String::from_utf8(output.stdout)?)
    };
    Ok(listed(&list(&[]).await?, &list(&["--ignored"]).await?))
}

/// Runs `unit` with its output in `log`, with a seed over all of its matrix.
///
/// Cancel safe: a unit that is dropped while it runs is ended with all its processes, and has no outcome.
pub(crate) async fn run(
    unit: &Unit,
    root: &Path,
    log: &Path,
    all: Option<Seed>,
    deadline: Duration,
) -> anyhow::Result<Outcome> {
    let file = File::create(log).with_context(|| format!("{}", log.display()))?;
    let mut command = command(unit, root);
    if let Some(seed) = all {
        command.env(Tier::VARIABLE, "1").env(Seed::VARIABLE, seed.to_string());
    }
    // As cargo sets it for what it runs (`.cargo/config.toml`).
    command.env("RUST_LIB_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    let begun = Instant::now();
    let mut group = Group(command.spawn().with_context(|| format!("{} cannot be run", unit.name()))?);
    let ended = match tokio::time::timeout(deadline, group.0.wait()).await {
        Ok(status) => ended(status?),
        Err(_) => {
            group.end();
            // Its answer to that is of no interest.
            let _ = tokio::time::timeout(SWEEP, group.0.wait()).await;
            Ended::Deadline
        }
    };
    let output = std::fs::read(log)?;
    Ok(Outcome::read(&String::from_utf8_lossy(&output), ended, begun.elapsed().as_secs()))
}

/// As cargo would run it.
fn command(unit: &Unit, root: &Path) -> Command {
    let (binary, filter) = match unit {
        Unit::Documentation => {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["test", "--doc", "--workspace", "--locked"]).current_dir(root);
            return cargo;
        }
        Unit::Binary(binary) => (binary, None),
        Unit::Test { binary, test } => (binary, Some(test)),
    };
    let mut command = Command::new(&binary.executable);
    command.args(["--show-output", "--color", "never"]).current_dir(&binary.directory);
    command.env("CARGO_MANIFEST_DIR", &binary.directory);
    if let Some(test) = filter {
        command.args(["--exact", test]);
    }
    command
}

fn ended(status: ExitStatus) -> Ended {
    status.code().map_or_else(|| Ended::Signal(status.signal().unwrap_or_default()), Ended::Code)
}

/// A process and whatever it started in its group: ended together, also when the wait for it is given up.
struct Group(Child);

impl Group {
    fn end(&self) {
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // It may be gone already.
            let _ = killpg(Pid::from_raw(id), Signal::SIGTERM);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A shell script as a test binary.
    fn unit(script: &str) -> (Unit, PathBuf) {
        use std::os::unix::fs::PermissionsExt;
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("cattle-runner-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let executable = directory.join("program");
        std::fs::write(&executable, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&executable, PermissionsExt::from_mode(0o755)).unwrap();
        let name = "x --lib".to_owned();
        (Unit::Binary(Binary { name, executable, directory: directory.clone(), end_to_end: false }), directory)
    }

    async fn outcome(script: &str, deadline: Duration) -> Outcome {
        let (unit, directory) = unit(script);
        let log = directory.join("log");
        let outcome = run(&unit, &directory, &log, Some("7".parse().unwrap()), deadline).await.unwrap();
        std::fs::remove_dir_all(directory).unwrap();
        outcome
    }

    const PLENTY: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn the_long_tier_and_the_seed_are_asked_for() {
        let script = r#"echo "test $CATTLE_LONG-$CATTLE_SEED-$1 ... FAILED"; exit 101"#;
        let outcome = outcome(script, PLENTY).await;
        assert_eq!(outcome.failed, ["1-0000000000000007---show-output"]);
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_has_failed_and_is_gone() {
        let outcome = outcome("echo 'test a ... ok'; sleep 1000", Duration::from_millis(300)).await;
        assert_eq!((outcome.passed, outcome.failed.len()), (1, 1));
        assert!(outcome.failed[0].contains("did not end"), "{:?}", outcome.failed);
    }

    #[tokio::test]
    async fn a_signal_is_a_failure() {
        let outcome = outcome("kill -6 $$", PLENTY).await;
        assert_eq!(outcome.failed, ["(the program ended by signal 6)"]);
    }
}
