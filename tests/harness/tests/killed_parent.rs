//! A test process that is killed leaves nothing running and nothing on disk.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cattle_harness::{Program, Run, wait_for};

/// Set for the copy of this test that is to be killed.
const VICTIM: &str = "CATTLE_HARNESS_VICTIM";

/// In the victim: starts a process, says where, and waits for its end. Elsewhere: nothing.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let scope = Run::of_this_process().unwrap().scope("victim").unwrap();
    let process = Program::new("sleeper", "/bin/sleep").arg("1000").start(&scope).unwrap();
    let mut output = std::io::stdout();
    writeln!(output, "\nstarted {} {}", process.id(), scope.directory().display()).unwrap();
    output.flush().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    panic!("nobody killed it");
}

#[tokio::test]
async fn a_killed_process_leaves_nothing() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("started ")).expect("the victim started");
    let mut words = line.split(' ').skip(1);
    let process = Path::new("/proc").join(words.next().unwrap());
    let directory = Path::new(words.next().unwrap()).to_owned();
    let runs = || std::fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("1000"));
    wait_for("the sleeper", Duration::from_secs(20), async || {
        anyhow::ensure!(runs(), "it does not run yet");
        Ok(())
    })
    .await
    .unwrap();
    assert!(directory.is_dir());

    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the watcher to clean up", Duration::from_secs(20), async || {
        anyhow::ensure!(!runs(), "the sleeper still runs");
        anyhow::ensure!(!directory.parent().unwrap().exists(), "{} is still there", directory.display());
        Ok(())
    })
    .await
    .unwrap();
}
