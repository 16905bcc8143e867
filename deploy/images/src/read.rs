use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Deserialize;

use crate::digest::Digest;

/// JSON documents of an image are small; a bigger one is not read into memory.
const JSON_LIMIT: u64 = 1024 * 1024;

/// An image as it stands in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// The full reference.
    pub name: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `uid:gid`, empty for root.
    pub user: String,
    /// Program and fixed arguments.
    pub entrypoint: Vec<String>,
    /// Labels of the configuration.
    pub labels: BTreeMap<String, String>,
    /// Bytes that a registry sends for it: manifest, configuration and stored layers.
    pub size: u64,
    /// What the layers hold, by path.
    pub files: BTreeMap<String, StoredFile>,
}

/// A file in a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Seconds since 1970.
    pub modified: u64,
    /// Of the contents; of nothing for directories and links.
    pub digest: Digest,
    /// Where a symbolic link points.
    pub target: Option<String>,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The tar or a layer is torn.
    #[error("the archive cannot be read")]
    Io(#[from] io::Error),
    /// A document is no JSON of the expected form.
    #[error("{0} in the archive is not as the OCI image specification says")]
    Document(String, #[source] serde_json::Error),
    /// The archive does not hold what one of its documents names.
    #[error("the archive has no {0}")]
    Missing(String),
    /// A blob's bytes do not have the digest or the length that it is named by.
    #[error("{0} is not what its digest says")]
    Digest(String),
    /// Bigger than any such document is.
    #[error("{0} is too big")]
    TooBig(String),
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Configuration {
    architecture: String,
    #[serde(default)]
    config: Settings,
    rootfs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Settings {
    user: String,
    entrypoint: Vec<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// What is kept of a blob of the tar: small ones whole, layers as their list of files.
enum Blob {
    Document(Vec<u8>),
    Layer { diff_id: Digest, files: BTreeMap<String, StoredFile>, size: u64 },
}

/// Reads every image of an archive and checks each blob against its digest and each layer against its configuration.
///
/// # Errors
/// [`ReadError`] for the first thing that is wrong.
pub fn read_archive(input: impl Read) -> Result<Vec<StoredImage>, ReadError> {
    let entries = read_entries(input)?;
    let index: Index = document(&entries, "index.json")?;
    let mut images = Vec::new();
    for entry in &index.manifests {
        let name = entry.annotations.get("io.containerd.image.name").cloned().unwrap_or_default();
        if entry.media_type.contains("image.index") {
            let platforms: Index = document(&entries, &path_of(entry))?;
            for platform in &platforms.manifests {
                images.push(image(&entries, &name, platform)?);
            }
        } else {
            images.push(image(&entries, &name, entry)?);
        }
    }
    Ok(images)
}

fn image(entries: &BTreeMap<String, Blob>, name: &str, manifest: &Descriptor) -> Result<StoredImage, ReadError> {
    let size = manifest.size;
    let manifest: Manifest = document(entries, &path_of(manifest))?;
    let config: Configuration = document(entries, &path_of(&manifest.config))?;
    let mut image = StoredImage {
        name: name.to_owned(),
        architecture: config.architecture,
        user: config.config.user,
        entrypoint: config.config.entrypoint,
        labels: config.config.labels,
        size: size + manifest.config.size,
        files: BTreeMap::new(),
    };
    for (layer, diff) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let path = path_of(layer);
        match entries.get(&path) {
            Some(Blob::Layer { diff_id, files, size }) if *diff == diff_id.to_string() && layer.size == *size => {
                image.files.extend(files.clone());
                image.size += size;
            }
            Some(Blob::Layer { .. } | Blob::Document(_)) => return Err(ReadError::Digest(path)),
            None => return Err(ReadError::Missing(path)),
        }
    }
    if manifest.layers.len() != config.rootfs.diff_ids.len() {
        return Err(ReadError::Digest(path_of(&manifest.config)));
    }
    Ok(image)
}

fn read_entries(input: impl Read) -> Result<BTreeMap<String, Blob>, ReadError> {
    let mut entries = BTreeMap::new();
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut start = Vec::new();
        (&mut entry).take(JSON_LIMIT).read_to_end(&mut start)?;
        let blob = if matches!(start.first(), Some(b'{' | b'[')) {
            if entry.read(&mut [0])? != 0 {
                return Err(ReadError::TooBig(path));
            }
            if let Some(hex) = path.strip_prefix("blobs/sha256/")
                && Digest::of(&start).hex() != hex
            {
                return Err(ReadError::Digest(path));
            }
            Blob::Document(start)
        } else {
            read_layer(&path, io::Cursor::new(start).chain(&mut entry))?
        };
        entries.insert(path, blob);
    }
    Ok(entries)
}

fn read_layer(path: &str, content: impl Read) -> Result<Blob, ReadError> {
    // Spooled to disk: a layer is read twice, as stored and as tar, and may not fit into memory.
    let mut spool = tempfile::tempfile()?;
    let mut content = content;
    io::copy(&mut content, &mut spool)?;
    let mut rewound = || -> io::Result<std::fs::File> {
        use std::io::Seek as _;
        spool.rewind()?;
        spool.try_clone()
    };
    let (digest, size) = Digest::of_reader(io::BufReader::new(rewound()?))?;
    if path.strip_prefix("blobs/sha256/") != Some(digest.hex()) {
        return Err(ReadError::Digest(path.to_owned()));
    }
    let mut magic = [0; 2];
    let gzip = Read::read(&mut rewound()?, &mut magic)? == 2 && magic == [0x1f, 0x8b];
    let mut plain = || -> io::Result<Box<dyn Read>> {
        let stored = io::BufReader::new(rewound()?);
        Ok(if gzip { Box::new(flate2::read::GzDecoder::new(stored)) } else { Box::new(stored) })
    };
    let (diff_id, _) = Digest::of_reader(plain()?)?;
    let files = list_files(plain()?)?;
    Ok(Blob::Layer { diff_id, files, size })
}

fn list_files(tar: impl Read) -> Result<BTreeMap<String, StoredFile>, ReadError> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let target = entry.link_name()?.map(|target| target.to_string_lossy().into_owned());
        let header = entry.header();
        let (mode, uid, modified) = (header.mode()?, header.uid()?, header.mtime()?);
        let (digest, _) = Digest::of_reader(&mut entry)?;
        files.insert(path, StoredFile { mode, uid, modified, digest, target });
    }
    Ok(files)
}

fn document<T: for<'de> Deserialize<'de>>(entries: &BTreeMap<String, Blob>, path: &str) -> Result<T, ReadError> {
    match entries.get(path) {
        Some(Blob::Document(bytes)) => {
            serde_json::from_slice(bytes).map_err(|error| ReadError::Document(path.to_owned(), error))
        }
        Some(Blob::Layer { .. }) => Err(ReadError::Digest(path.to_owned())),
        None => Err(ReadError::Missing(path.to_owned())),
    }
}

fn path_of(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.trim_start_matches("sha256:"))
}
