//! Writing a kubeconfig so that neither a crash nor a kubectl that runs at the same time loses anything.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::directory_of;
use super::merge::{MergeError, Merged};
use crate::config::pause;

/// How long kubectl may hold its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Why a kubeconfig was not written. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It is there already.
    #[error("{} exists already", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// kubectl's lock file is there.
    #[error("{} is locked by another program", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The files do not fit together.
    #[error("{} was not changed", path.display())]
    Merge {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: MergeError,
    },
}

impl WriteError {
    /// What the person can do now.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("use --merge to put the cluster into it, or name another file".to_owned()),
            Self::Locked { path } => Some(format!("if no kubectl is running, remove {} and try again", path.display())),
            Self::Merge { error, .. } => error.next_step(),
            Self::Io { .. } => Some("check who may write there, or print it: without --merge and --file".to_owned()),
        }
    }
}

/// Writes a new file with mode 0600. One that exists is not touched.
///
/// # Errors
/// See [`WriteError`].
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), WriteError> {
    let failed = |source| WriteError::Io { path: path.to_owned(), source };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(WriteError::Exists { path: path.to_owned() });
        }
        Err(error) => return Err(failed(error)),
    };
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// A file's text; `None` when it is not there.
///
/// # Errors
/// [`WriteError::Io`].
pub(super) fn read(path: &Path) -> Result<Option<String>, WriteError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WriteError::Io { path: path.to_owned(), source }),
    }
}

/// Changes a file under the lock that kubectl uses, keeps the old one as `FILE.cattle-backup`, and answers the context.
///
/// # Errors
/// See [`WriteError`].
pub(super) fn change(
    path: &Path,
    merge: impl FnOnce(Option<&str>) -> Result<Merged, MergeError>,
) -> Result<String, WriteError> {
    let failed = |source| WriteError::Io { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o750).create(directory_of(path)).map_err(failed)?;
    let _lock = Lock::take(path)?;
    // The file may be a link into somebody's dotfiles: the link stays and what it leads to changes.
    let path = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(failed(error)),
    };
    let existing = read(&path)?;
    let merged = merge(existing.as_deref()).map_err(|error| WriteError::Merge { path: path.clone(), error })?;
    if existing.as_deref() == Some(&merged.text) {
        return Ok(merged.context);
    }
    if let Some(existing) = &existing {
        replace(&with_suffix(&path, ".cattle-backup"), existing).map_err(failed)?;
    }
    replace(&path, &merged.text).map_err(failed)?;
    Ok(merged.context)
}

/// A new file of mode 0600 in the old one's place, on the disk when this returns.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = directory_of(path);
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// kubectl's own lock: a file beside the kubeconfig that only one program can create.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Self, WriteError> {
        let lock = with_suffix(path, ".lock");
        let start = Instant::now();
        loop {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock) {
                Ok(_) => return Ok(Self(lock)),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(WriteError::Io { path: lock, source: error });
                }
                Err(_) if start.elapsed() >= LOCK_PATIENCE => return Err(WriteError::Locked { path: lock }),
                Err(_) => pause(),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever finds it later is told what to do.
        let _ = fs::remove_file(&self.0);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "the signature of a merge")]
    fn append(existing: Option<&str>) -> Result<Merged, MergeError> {
        let text = format!("{}x\n", existing.unwrap_or_default());
        Ok(Merged { text, context: "c".to_owned() })
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_change_keeps_the_old_file_and_closes_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config");
        change(&path, append).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        change(&path, append).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "x\nx\n");
        assert_eq!(mode(&path), 0o600);
        let backup = with_suffix(&path, ".cattle-backup");
        assert_eq!(fs::read_to_string(&backup).unwrap(), "x\n");
        assert_eq!(mode(&backup), 0o600);
        assert!(!with_suffix(&path, ".lock").exists());
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        fs::write(&path, "mine").unwrap();
        let refused = change(&path, |_| Err(MergeError::Existing));
        assert!(matches!(refused, Err(WriteError::Merge { error: MergeError::Existing, .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no lock, no backup, no rest");
    }

    #[test]
    fn a_link_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (link, real) = (directory.path().join("config"), directory.path().join("dotfile"));
        fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        change(&link, append).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "x\n");
    }

    #[test]
    fn many_writers_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| change(&path, append).unwrap());
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "x\n".repeat(8));
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_new(&path, "one").unwrap();
        assert!(matches!(write_new(&path, "two"), Err(WriteError::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(mode(&path), 0o600);
    }
}
