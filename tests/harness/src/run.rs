//! What a test process owns on the machine, and how it goes away again.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

const SWEEP: &str = include_str!("sweep.sh");

/// The directory of one process's clusters. Names of everything made carry its [`Run::id`].
#[derive(Debug)]
pub struct Run {
    directory: PathBuf,
    id: String,
    next: AtomicU32,
    /// Held open for as long as the process lives: its end is how the watcher learns of ours, even by SIGKILL.
    _watched: Option<ChildStdin>,
}

/// A directory of a run that is swept when the value is dropped: its ledger names what lives outside of it.
#[derive(Debug)]
pub struct Scope {
    directory: PathBuf,
    id: String,
    keep: bool,
}

impl Run {
    /// The run of this process: made at the first call, which also sweeps the runs of dead processes.
    ///
    /// A watcher process outlives this one, and removes whatever is still there.
    ///
    /// # Errors
    /// When the directory cannot be made or the watcher cannot be started.
    pub fn of_this_process() -> anyhow::Result<&'static Self> {
        static RUN: OnceLock<Result<Run, String>> = OnceLock::new();
        RUN.get_or_init(|| Self::watched().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow::anyhow!("this process has no run directory: {error}"))
    }

    /// A run that outlives its process, such as the demo's, in a directory of the caller's choice. What an earlier one
    /// left there is removed.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn persistent(directory: &Path, id: &str) -> anyhow::Result<Self> {
        if directory.exists() {
            sweep("run", directory)?;
        }
        private_directory(directory)?;
        Ok(Self { directory: directory.to_owned(), id: id.to_owned(), next: AtomicU32::new(0), _watched: None })
    }

    /// Removes a persistent run with all that it owns.
    ///
    /// # Errors
    /// When `sh` cannot be started.
    pub fn remove(directory: &Path) -> anyhow::Result<()> {
        if directory.exists() { sweep("run", directory) } else { Ok(()) }
    }

    /// Short and unique on this machine: the process id in hexadecimal, or the name of a persistent run.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A new scope; its id is the run's with a number.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn scope(&self, purpose: &str) -> anyhow::Result<Scope> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = if number == 0 { self.id.clone() } else { format!("{}-{number}", self.id) };
        let directory = self.directory.join(format!("{purpose}-{number}"));
        private_directory(&directory)?;
        private_directory(&directory.join("ledger"))?;
        Ok(Scope { directory, id, keep: self._watched.is_none() })
    }

    fn watched() -> anyhow::Result<Self> {
        // Not /tmp: where that is memory, two nodes' images would fill it.
        let root = PathBuf::from(format!("/var/tmp/cattle-harness-{}", nix::unistd::getuid()));
        private_directory(&root)?;
        sweep("dead", &root)?;
        let pid = std::process::id();
        let directory = root.join(format!("run-{pid}-{}", start_time(pid)?));
        private_directory(&directory)?;
        let mut watcher = script("watch", &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the watcher")?;
        let watched = watcher.stdin.take();
        Ok(Self { directory, id: format!("{pid:x}"), next: AtomicU32::new(0), _watched: watched })
    }
}

impl Scope {
    /// Where this scope keeps its files; for its owner only.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Unique on this machine among living runs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Writes down something that is about to be made outside of the directory, so that every sweep finds it.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn record(&self, kind: &str, name: &str, content: &str) -> io::Result<()> {
        fs::write(self.directory.join("ledger").join(format!("{kind}-{name}")), format!("{content}\n"))
    }

    /// The ledger file in which a started process writes itself down.
    pub(crate) fn pid_record(&self, name: &str) -> PathBuf {
        self.directory.join("ledger").join(format!("pid-{name}"))
    }

    /// The scope stays when the value goes: for a persistent run that has come up.
    pub fn set_keep(&mut self, keep: bool) {
        self.keep = keep;
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = sweep("cluster", &self.directory)
        {
            tracing::warn!(directory = %self.directory.display(), %error, "not swept now; the watcher will");
        }
    }
}

/// The start time of a process in clock ticks since boot; with its number it names the process for ever.
///
/// # Errors
/// When there is no such process.
pub(crate) fn start_time(pid: u32) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("there is no process {pid}"))?;
    // The second field is the program's name in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?;
    let field = fields.split(' ').nth(19).context("/proc/PID/stat has no start time")?;
    Ok(field.parse()?)
}

fn sweep(occasion: &str, directory: &Path) -> anyhow::Result<()> {
    let status = script(occasion, directory).stdin(Stdio::null()).status().context("cannot run sh")?;
    anyhow::ensure!(status.success(), "sweeping {} ended with {status}", directory.display());
    Ok(())
}

fn script(occasion: &str, directory: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SWEEP, "sweep", occasion]).arg(directory);
    command
}

/// Makes a directory that only its owner may look into; an existing one must belong to us.
pub(crate) fn private_directory(path: &Path) -> anyhow::Result<()> {
    match fs::DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Ok(()) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
    }
    let found = fs::symlink_metadata(path)?;
    let owner = std::os::unix::fs::MetadataExt::uid(&found);
    anyhow::ensure!(
        found.is_dir() && owner == nix::unistd::getuid().as_raw(),
        "{} belongs to somebody else",
        path.display()
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    Ok(())
}
