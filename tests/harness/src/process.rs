use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::run::Scope;
use crate::wait::wait_for;

/// Writes the process into the ledger and becomes the program: between the two nothing can be lost, and when the
/// ledger is gone (the run was swept meanwhile) the program does not start.
const RECORD_AND_EXEC: &str = r#"set -eu
record=$1; shift
read -r stat <"/proc/$$/stat"
program=$1
pid=$$
fields=${stat##*) }
index=1
for field in $fields; do [ $index -eq 20 ] && break; index=$((index + 1)); done
echo "$pid $field" >"$record"
exec "$@"
"#;

const LOG_TAIL_LINES: usize = 60;

/// How a process is to be started; it can be started more than once.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    clear_environment: bool,
    directory: PathBuf,
}

/// A running process in a process group of its own, with its output in a file. Dropped, it is killed.
///
/// It belongs to no runtime: tests with a runtime each may share it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// A program under a name that is unique in its scope; the name is that of its log and ledger entry.
    pub fn new(name: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            clear_environment: false,
            directory: PathBuf::from("/"),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Takes none of this process's environment over.
    #[must_use]
    pub fn clean_environment(mut self) -> Self {
        self.clear_environment = true;
        self
    }

    /// Starts it through another program, which ends in becoming it.
    #[must_use]
    pub fn under<A: Into<OsString>>(
        mut self,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let inner = std::mem::replace(&mut self.program, program.into());
        let before = arguments.into_iter().map(Into::into).chain([inner.into_os_string()]);
        self.arguments.splice(0..0, before.collect::<Vec<_>>());
        self
    }

    /// Starts in this directory instead of `/`.
    #[must_use]
    pub fn current_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Starts it. Output is appended to `NAME.log` in the scope's directory.
    ///
    /// # Errors
    /// When the log or the process cannot be made.
    pub fn start(&self, scope: &Scope) -> anyhow::Result<Process> {
        let log = scope.directory().join(format!("{}.log", self.name));
        let output = OpenOptions::new().create(true).append(true).open(&log)?;
        let errors: File = output.try_clone()?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", RECORD_AND_EXEC, "start"]).arg(scope.pid_record(&self.name));
        command.arg(&self.program).args(&self.arguments).current_dir(&self.directory);
        if self.clear_environment {
            command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        Ok(Process { name: self.name.clone(), child, log })
    }
}

impl Process {
    /// What it was called in [`Program::new`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file that its output goes to.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All that it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of its output, for an error message.
    pub fn log_tail(&self) -> String {
        tail(&self.log())
    }

    /// Whether it runs; a stopped one does.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal to it, not to its children.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.pid()?, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// SIGKILL to it and its group, and waits for its end.
    ///
    /// # Errors
    /// When it does not end, which only a hanging kernel can cause.
    pub async fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        if self.is_running() {
            killpg(self.pid()?, Signal::SIGKILL).ok();
        }
        self.wait(Duration::from_secs(10)).await
    }

    /// SIGTERM, and SIGKILL when it has not ended after `grace`.
    ///
    /// # Errors
    /// When it had to be killed: the message has the end of its log.
    pub async fn stop(&mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        if self.is_running() {
            self.signal(Signal::SIGTERM)?;
        }
        match self.wait(grace).await {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill().await?;
                Err(error.context(format!("{} had to be killed. Its log ends:\n{}", self.name, self.log_tail())))
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let (name, child) = (&self.name, &mut self.child);
        wait_for(&format!("the end of {name}"), deadline, async || {
            child.try_wait()?.with_context(|| format!("process {} still runs", child.id()))
        })
        .await
    }

    /// Waits for a condition that this process brings about; fails at once when the process ends first. The error has
    /// the end of its log.
    ///
    /// # Errors
    /// At the deadline or the process's end.
    pub async fn wait_until<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let child = &mut self.child;
        let mut ended = None;
        let waited = wait_for(what, deadline, async || {
            if let Some(status) = child.try_wait()? {
                ended = Some(status);
                return Ok(None);
            }
            probe().await.map(Some)
        })
        .await;
        let result = match (waited, ended) {
            (Ok(Some(value)), _) => return Ok(value),
            (_, Some(status)) => Err(anyhow::anyhow!("{} ended with {status} before: {what}", self.name)),
            (Ok(None), None) => Err(anyhow::anyhow!("{} ended", self.name)),
            (Err(error), None) => Err(error),
        };
        result.with_context(|| format!("{} did not get there. Its log ends:\n{}\n", self.name, self.log_tail()))
    }

    /// Gives the process up: it goes on when the value is dropped, until its scope is swept.
    pub fn detach(self) {
        // The child's number stays in the ledger; `Drop` would kill it.
        std::mem::forget(self);
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            if let Ok(pid) = self.pid() {
                killpg(pid, Signal::SIGKILL).ok();
            }
            self.child.wait().ok();
        }
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
