//! The log file and its predecessors: `audit.log`, `audit.log.1` (newest) … `audit.log.N` (oldest).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An open log that knows how long its whole lines are.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    path: PathBuf,
    file: File,
    /// Length of everything that was acknowledged; what stands after it is the rest of a failed write.
    length: u64,
    max_bytes: u64,
    keep: usize,
}

impl RotatingFile {
    /// Opens or creates the log, readable by its owner only. A line that a crash has torn is ended, never removed.
    pub(crate) fn open(path: &Path, max_bytes: u64, keep: usize) -> io::Result<Self> {
        let (file, length) = open(path)?;
        Ok(Self { path: path.to_owned(), file, length, max_bytes, keep })
    }

    /// Appends whole lines and makes them durable. After an error the file is as long as before.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.length > 0 && self.length + lines.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.length += lines.len() as u64,
            // Best effort: if this fails too, the next start ends the torn line.
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }

    fn rotate(&mut self) -> io::Result<()> {
        let name = |n: usize| match n {
            0 => self.path.clone(),
            n => PathBuf::from(format!("{}.{n}", self.path.display())),
        };
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        }
        for n in (0..self.keep).rev() {
            match fs::rename(name(n), name(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        (self.file, self.length) = open(&self.path)?;
        // The renames are durable when the directory is.
        self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    let mut length = metadata.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_ended_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        fs::write(&path, "{\"a\":1}\n{\"b\":").unwrap();
        let mut log = RotatingFile::open(&path, 1000, 1).unwrap();
        log.append(b"{\"c\":3}\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\":1}\n{\"b\":\n{\"c\":3}\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn rotation_keeps_the_newest_and_loses_no_line_between() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let mut log = RotatingFile::open(&path, 10, 2).unwrap();
        for line in ["1aaaa\n", "2bbbb\n", "3cccc\n", "4dddd\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("audit.log"), "4dddd\n");
        assert_eq!(read("audit.log.1"), "3cccc\n");
        assert_eq!(read("audit.log.2"), "2bbbb\n");
        assert!(!directory.path().join("audit.log.3").exists());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
