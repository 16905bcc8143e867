//! The data directory: who may read it, and who has it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::open_error::OpenError;

/// Name of the database's file.
const DATABASE: &str = "cattle.db";
/// Name of a database that is being restored.
const RESTORE: &str = "cattle.db.restore";
/// Name of the file with the keys that sealed values are encrypted with.
const KEYS: &str = "seal.key";
/// Name of the file that a running server holds locked.
const LOCK: &str = "cattle.lock";

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) root: PathBuf,
    pub(super) database: PathBuf,
    pub(super) keys: PathBuf,
}

impl Paths {
    pub(super) fn of(root: &Path) -> Self {
        Self { root: root.to_owned(), database: root.join(DATABASE), keys: root.join(KEYS) }
    }

    /// The database of a restore that has not ended.
    pub(super) fn partial_restore(&self) -> PathBuf {
        self.root.join(RESTORE)
    }
}

/// The data directory, held by this process. The kernel lets go of the lock when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DataDir {
    pub(super) paths: Paths,
    _lock: File,
}

impl DataDir {
    /// Makes the directory when it is not there, and takes it.
    pub(super) fn acquire(root: &Path) -> Result<Self, OpenError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        if !root.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(at(root))?;
        }
        private(root).map_err(at(root))?;
        let path = root.join(LOCK);
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { paths: Paths::of(root), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: root.to_owned() }),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
        }
    }
}

/// Takes the rights of others away from an empty directory; refuses a directory with files that others may have read.
fn private(root: &Path) -> io::Result<()> {
    let mode = fs::metadata(root)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    if fs::read_dir(root)?.next().is_some() {
        let message = "others may enter this directory: make it the server's own with `chmod 700`";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    fs::set_permissions(root, Permissions::from_mode(0o700))
}

/// Writes a file that only its owner may read, whole or not at all: after a crash there is the old one or the new one.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = directory.join(name);
    // Left by a crash; nobody else writes here.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_directory(directory)
}

/// Makes names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_new_directory_is_private_and_taken_once() {
        let temporary = tempfile::tempdir().expect("a directory");
        let root = temporary.path().join("a/b");
        let first = DataDir::acquire(&root).expect("free");
        assert_eq!(mode(&root), 0o700);
        let refused = DataDir::acquire(&root).expect_err("taken");
        assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
        drop(first);
        DataDir::acquire(&root).expect("free again");
    }

    #[test]
    fn an_empty_directory_is_made_private_and_a_used_one_is_refused() {
        let temporary = tempfile::tempdir().expect("a directory");
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o755)).expect("ours");
        drop(DataDir::acquire(temporary.path()).expect("empty"));
        assert_eq!(mode(temporary.path()), 0o700);
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o750)).expect("ours");
        let refused = DataDir::acquire(temporary.path()).expect_err("others could read it");
        assert!(matches!(refused, OpenError::Io { .. }), "{refused}");
    }

    #[test]
    fn a_private_file_replaces_what_a_crash_left() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("file");
        fs::write(temporary.path().join("file.new"), "torn").expect("written");
        write_private(&path, b"whole").expect("written");
        assert_eq!((fs::read(&path).expect("there"), mode(&path)), (b"whole".to_vec(), 0o600));
    }
}
