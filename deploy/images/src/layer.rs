use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use crate::digest::{Digest, Hashing};

/// How a layer is stored. Tests on one machine take [`Compression::None`]; what is shipped takes [`Compression::Gzip`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The plain tar: fastest to make and to import.
    None,
    /// gzip, the compression that every runtime knows.
    Gzip,
}

/// A finished layer: a tar of files in a temporary file that lives as long as the value.
#[derive(Debug)]
pub struct Layer {
    file: NamedTempFile,
    digest: Digest,
    diff_id: Digest,
    size: u64,
    compression: Compression,
}

/// A layer that is being described. Nothing is read before [`LayerBuilder::finish`].
#[derive(Debug, Default)]
pub struct LayerBuilder {
    entries: BTreeMap<String, Entry>,
}

/// Why a layer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A path that is absolute, empty or leaves the root.
    #[error("'{0}' is no path inside of an image")]
    Path(String),
    /// Two entries have the same path.
    #[error("the image would have '{0}' twice")]
    Duplicate(String),
    /// A source file cannot be read.
    #[error("cannot read {path}")]
    Source {
        /// The file on this machine.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The temporary file of the layer cannot be written.
    #[error("cannot write the layer")]
    Write(#[from] io::Error),
}

#[derive(Debug)]
enum Entry {
    Directory { mode: u32 },
    File { mode: u32, source: PathBuf },
    Bytes { mode: u32, bytes: Vec<u8> },
    Link { target: String },
}

impl LayerBuilder {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory with this mode. Parents of entries come by themselves with mode 0755.
    ///
    /// # Errors
    /// [`LayerError::Path`] and [`LayerError::Duplicate`].
    pub fn directory(self, path: &str, mode: u32) -> Result<Self, LayerError> {
        self.add(path, Entry::Directory { mode })
    }

    /// A copy of a file of this machine.
    ///
    /// # Errors
    /// [`LayerError::Path`] and [`LayerError::Duplicate`].
    pub fn file(self, path: &str, mode: u32, source: &Path) -> Result<Self, LayerError> {
        self.add(path, Entry::File { mode, source: source.to_owned() })
    }

    /// A file with these contents.
    ///
    /// # Errors
    /// [`LayerError::Path`] and [`LayerError::Duplicate`].
    pub fn bytes(self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Result<Self, LayerError> {
        self.add(path, Entry::Bytes { mode, bytes: bytes.into() })
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// [`LayerError::Path`] and [`LayerError::Duplicate`].
    pub fn link(self, path: &str, target: &str) -> Result<Self, LayerError> {
        self.add(path, Entry::Link { target: target.to_owned() })
    }

    /// Writes the tar: entries sorted by path, owned by root, dated 1970, so that equal files give equal bytes.
    ///
    /// # Errors
    /// [`LayerError::Source`] and [`LayerError::Write`].
    pub fn finish(mut self, compression: Compression) -> Result<Layer, LayerError> {
        self.add_parents();
        let file = NamedTempFile::new()?;
        let stored = Hashing::new(io::BufWriter::new(file));
        let (stored, diff_id) = match compression {
            Compression::None => {
                let (stored, diff_id, _) = self.write_tar(Hashing::new(stored))?.finish();
                (stored, diff_id)
            }
            Compression::Gzip => {
                let encoder = GzEncoder::new(stored, flate2::Compression::best());
                let (encoder, diff_id, _) = self.write_tar(Hashing::new(encoder))?.finish();
                (encoder.finish()?, diff_id)
            }
        };
        let (buffered, digest, size) = stored.finish();
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Layer { file, digest, diff_id, size, compression })
    }

    fn add(mut self, path: &str, entry: Entry) -> Result<Self, LayerError> {
        let inside = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !inside {
            return Err(LayerError::Path(path.to_owned()));
        }
        if self.entries.insert(path.to_owned(), entry).is_some() {
            return Err(LayerError::Duplicate(path.to_owned()));
        }
        Ok(self)
    }

    fn add_parents(&mut self) {
        let mut parents = Vec::new();
        for path in self.entries.keys() {
            let mut rest = path.as_str();
            while let Some((parent, _)) = rest.rsplit_once('/') {
                parents.push(parent.to_owned());
                rest = parent;
            }
        }
        for parent in parents {
            self.entries.entry(parent).or_insert(Entry::Directory { mode: 0o755 });
        }
    }

    fn write_tar<W: Write>(&self, writer: W) -> Result<W, LayerError> {
        let mut tar = tar::Builder::new(writer);
        for (path, entry) in &self.entries {
            match entry {
                Entry::Directory { mode } => {
                    let mut header = header(tar::EntryType::Directory, *mode, 0);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Entry::File { mode, source } => append_file(&mut tar, path, *mode, source)?,
                Entry::Bytes { mode, bytes } => {
                    let mut header = header(tar::EntryType::Regular, *mode, bytes.len() as u64);
                    tar.append_data(&mut header, path, bytes.as_slice())?;
                }
                Entry::Link { target } => {
                    let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

impl Layer {
    /// Of the bytes as stored: what a manifest names.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes as stored.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Of the uncompressed tar: what an image configuration names.
    pub(crate) fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    pub(crate) fn media_type(&self) -> &'static str {
        match self.compression {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }

    pub(crate) fn open(&self) -> io::Result<impl Read + use<>> {
        let mut file = self.file.reopen()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(BufReader::new(file))
    }
}

pub(crate) fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn append_file<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32, source: &Path) -> Result<(), LayerError> {
    let unreadable = |error| LayerError::Source { path: source.to_owned(), source: error };
    let file = File::open(source).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut header = header(tar::EntryType::Regular, mode, size);
    // `take` keeps the archive well formed when somebody appends to the file meanwhile; a shorter file is an error.
    let mut reader = Exactly { inner: BufReader::new(file).take(size), left: size };
    tar.append_data(&mut header, path, &mut reader).map_err(unreadable)
}

/// Fails when its reader ends early: tar would pad nothing and the archive would be torn.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        if read == 0 && !buffer.is_empty() && self.left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_description_does_not_matter() {
        let forth = LayerBuilder::new().bytes("b/two", 0o644, *b"2").unwrap().bytes("a", 0o755, *b"1").unwrap();
        let back = LayerBuilder::new().bytes("a", 0o755, *b"1").unwrap().bytes("b/two", 0o644, *b"2").unwrap();
        let forth = forth.finish(Compression::Gzip).unwrap();
        let back = back.finish(Compression::Gzip).unwrap();
        assert_eq!(forth.digest(), back.digest());
        assert_eq!(forth.diff_id(), back.diff_id());
        assert_ne!(forth.digest(), forth.diff_id());
    }

    #[test]
    fn a_file_and_its_time_stamp_are_apart() {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "content").unwrap();
        let first = LayerBuilder::new().file("x", 0o755, file.path()).unwrap().finish(Compression::None).unwrap();
        let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        file.as_file().set_modified(later).unwrap();
        let second = LayerBuilder::new().file("x", 0o755, file.path()).unwrap().finish(Compression::None).unwrap();
        assert_eq!(first.digest(), second.digest());
        assert_eq!(first.digest(), first.diff_id());
    }

    #[test]
    fn paths_stay_inside_and_are_unique() {
        for wrong in ["", "/etc", "a//b", "../x", "a/./b", "a/"] {
            assert!(matches!(LayerBuilder::new().bytes(wrong, 0o644, *b""), Err(LayerError::Path(_))), "{wrong}");
        }
        let once = LayerBuilder::new().link("a", "b").unwrap();
        assert!(matches!(once.directory("a", 0o755), Err(LayerError::Duplicate(_))));
    }

    #[test]
    fn a_missing_source_is_named() {
        let layer = LayerBuilder::new().file("x", 0o755, Path::new("/nonexistent/program")).unwrap();
        let error = layer.finish(Compression::None).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/program"));
    }
}
