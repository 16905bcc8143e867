use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use crate::kubectl::Output;

/// Runs a program of the system to its end.
///
/// # Errors
/// When it cannot be started, does not end in time, or ends with another status than 0: with all that it printed.
pub(super) async fn run<A: Into<OsString>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
    deadline: Duration,
) -> anyhow::Result<String> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let line: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let line = format!("{program} {}", line.join(" "));
    let output = output(program, arguments, deadline).await.with_context(|| line.clone())?;
    anyhow::ensure!(
        output.status.success(),
        "{line} ended with {}:\n{}{}",
        output.status,
        output.text(),
        output.error()
    );
    Ok(output.text())
}

/// Runs a program of the system to its end, whatever its status.
pub(super) async fn output(program: &str, arguments: Vec<OsString>, deadline: Duration) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", PATH).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(deadline, command.output()).await.context("it hangs")??;
    Ok(Output { status: output.status, stdout: output.stdout, stderr: output.stderr })
}

/// A user's PATH may lack the directories of system programs.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const SHORT: Duration = Duration::from_secs(30);

/// `ip ARGUMENTS`, given as one line.
pub(crate) async fn ip(line: &str) -> anyhow::Result<String> {
    run("ip", line.split(' '), SHORT).await
}
