//! The cluster agent's image, from the binary that was built beside the running program.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cattle_images::{Compression, Name, Release, write_archive};

use crate::binary::binary;

/// What the server's manifests call the agent's image, without a registry.
const IMAGE: &str = concat!("cattle/cluster-agent:v", env!("CARGO_PKG_VERSION"));

/// The agent's image under the name that manifests have for it, behind a registry if there is one.
///
/// # Errors
/// When the registry is no prefix of an image's name.
pub fn agent_image_name(prefix: Option<&str>) -> anyhow::Result<Name> {
    let name = prefix.map_or_else(|| IMAGE.to_owned(), |prefix| format!("{}/{IMAGE}", prefix.trim_end_matches('/')));
    Ok(name.parse()?)
}

/// Builds the archive with the agent's image, as the release does, for [`crate::NodesOptions::images`].
///
/// # Errors
/// When the agent is not built or the archive cannot be written.
pub fn write_agent_image(directory: &Path, name: Name, compression: Compression) -> anyhow::Result<PathBuf> {
    let release = Release {
        binaries: vec![binary("cattle-cluster-agent")?],
        names: vec![name],
        version: concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
        revision: String::new(),
        roots: None,
        compression,
    };
    let path = directory.join("cluster-agent.tar");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    write_archive(&release.images()?, BufWriter::new(file))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_goes_in_front_of_the_same_path() {
        let version = env!("CARGO_PKG_VERSION");
        let full = |prefix| agent_image_name(prefix).unwrap().to_string();
        assert_eq!(full(None), format!("docker.io/cattle/cluster-agent:v{version}"));
        assert_eq!(
            full(Some("registry.test:5000/team/")),
            format!("registry.test:5000/team/cattle/cluster-agent:v{version}")
        );
    }
}
