use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::image::{Architecture, Image};
use crate::layer::header;
use crate::name::Name;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Nobody could find such an image again.
    #[error("an image has no name")]
    Nameless,
    /// Two images have the same name and platform.
    #[error("two images are both called {0} for {1}")]
    Duplicate(Name, Architecture),
    /// The output or a layer's file failed.
    #[error("the archive cannot be written")]
    Io(#[from] io::Error),
}

/// Writes images as one tar file: an OCI image layout, and a docker archive over the same blobs.
///
/// Images that share a name are the platforms of one multi-platform image. The docker part, which knows no platforms,
/// shows the first of them. The same images give the same bytes.
///
/// # Errors
/// [`ArchiveError`]; the output then holds part of an archive.
pub fn write_archive(images: &[Image], output: impl Write) -> Result<(), ArchiveError> {
    let mut archive = Archive { tar: tar::Builder::new(output), blobs: BTreeSet::new() };
    archive.file("oci-layout", &encode(&json!({ "imageLayoutVersion": "1.0.0" })))?;

    let mut platforms: BTreeMap<Name, BTreeMap<Architecture, Value>> = BTreeMap::new();
    let mut docker = Vec::new();
    for image in images {
        let written = archive.image(image)?;
        let mut tags = Vec::new();
        for name in &image.names {
            let known = platforms.entry(name.clone()).or_default();
            if known.is_empty() {
                tags.push(name.to_string());
            }
            if known.insert(image.architecture, written.descriptor.clone()).is_some() {
                return Err(ArchiveError::Duplicate(name.clone(), image.architecture));
            }
        }
        if !tags.is_empty() {
            docker.push(json!({ "Config": written.config, "RepoTags": tags, "Layers": written.layers }));
        }
    }
    let mut manifests = Vec::new();
    for (name, platforms) in platforms {
        manifests.push(archive.named(&name, platforms.into_values().collect())?);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    archive.file("index.json", &encode(&index))?;
    archive.file("manifest.json", &encode(&Value::Array(docker)))?;
    archive.tar.into_inner()?.flush()?;
    Ok(())
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
    blobs: BTreeSet<Digest>,
}

struct WrittenImage {
    descriptor: Value,
    config: String,
    layers: Vec<String>,
}

impl<W: Write> Archive<W> {
    fn image(&mut self, image: &Image) -> Result<WrittenImage, ArchiveError> {
        if image.names.is_empty() {
            return Err(ArchiveError::Nameless);
        }
        let mut layers = Vec::new();
        for layer in &image.layers {
            self.blob(layer.digest(), layer.size(), layer.open()?)?;
            layers.push(descriptor(layer.media_type(), layer.digest(), layer.size()));
        }
        let config = self.json_blob(CONFIG, &image.configuration())?;
        let config_path = path_of(&config);
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut descriptor = self.json_blob(MANIFEST, &manifest)?;
        descriptor["platform"] = json!({ "architecture": image.architecture.to_string(), "os": "linux" });
        Ok(WrittenImage { descriptor, config: config_path, layers: layers.iter().map(path_of).collect() })
    }

    /// The entry of `index.json` for a name: its one manifest, or an index of its platforms' manifests.
    fn named(&mut self, name: &Name, mut platforms: Vec<Value>) -> Result<Value, ArchiveError> {
        let mut entry = if platforms.len() == 1 {
            platforms.remove(0)
        } else {
            self.json_blob(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": platforms }))?
        };
        entry["annotations"] = json!({
            "io.containerd.image.name": name.to_string(),
            "org.opencontainers.image.ref.name": name.tag(),
        });
        Ok(entry)
    }

    fn json_blob(&mut self, media_type: &str, value: &Value) -> Result<Value, ArchiveError> {
        let bytes = encode(value);
        let digest = Digest::of(&bytes);
        self.blob(&digest, bytes.len() as u64, bytes.as_slice())?;
        Ok(descriptor(media_type, &digest, bytes.len() as u64))
    }

    fn blob(&mut self, digest: &Digest, size: u64, content: impl Read) -> Result<(), ArchiveError> {
        if self.blobs.insert(digest.clone()) {
            let mut header = header(tar::EntryType::Regular, 0o644, size);
            self.tar.append_data(&mut header, format!("blobs/sha256/{}", digest.hex()), content)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
        Ok(self.tar.append_data(&mut header, path, bytes)?)
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
}

fn path_of(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
}

/// `Value`s serialize: their keys are strings. Maps are sorted, so equal values give equal bytes.
fn encode(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
