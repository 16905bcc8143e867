//! The agents' images, from the binaries that were built beside the running program.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cattle_images::{Compression, Name, Release, write_archive};

use crate::binary::binary;

/// One of the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentImage {
    /// Of the Deployment.
    ClusterAgent,
    /// Of the DaemonSet.
    NodeAgent,
}

/// All of them.
pub const AGENT_IMAGES: [AgentImage; 2] = [AgentImage::ClusterAgent, AgentImage::NodeAgent];

impl AgentImage {
    /// The image under the name that manifests have for it, behind a registry if there is one.
    ///
    /// # Errors
    /// When the registry is no prefix of an image's name.
    pub fn name(self, prefix: Option<&str>) -> anyhow::Result<Name> {
        let name = format!("cattle/{}:v{}", self.program(), env!("CARGO_PKG_VERSION"));
        let behind = |prefix: &str| format!("{}/{name}", prefix.trim_end_matches('/'));
        Ok(prefix.map_or_else(|| name.clone(), behind).parse()?)
    }

    const fn program(self) -> &'static str {
        match self {
            Self::ClusterAgent => "cluster-agent",
            Self::NodeAgent => "node-agent",
        }
    }
}

/// Builds the archives with the agents' images, as the release does, for [`crate::NodesOptions::images`].
///
/// # Errors
/// When an agent is not built or an archive cannot be written.
pub fn write_agent_images(
    directory: &Path,
    prefix: Option<&str>,
    compression: Compression,
) -> anyhow::Result<Vec<PathBuf>> {
    AGENT_IMAGES.into_iter().map(|image| write(image, directory, prefix, compression)).collect()
}

fn write(
    image: AgentImage,
    directory: &Path,
    prefix: Option<&str>,
    compression: Compression,
) -> anyhow::Result<PathBuf> {
    let program = image.program();
    let release = Release {
        binaries: vec![binary(&format!("cattle-{program}"))?],
        names: vec![image.name(prefix)?],
        version: concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
        revision: String::new(),
        roots: None,
        compression,
    };
    let path = directory.join(format!("{program}.tar"));
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
        let full = |prefix| AgentImage::ClusterAgent.name(prefix).unwrap().to_string();
        assert_eq!(full(None), format!("docker.io/cattle/cluster-agent:v{version}"));
        assert_eq!(
            full(Some("registry.test:5000/team/")),
            format!("registry.test:5000/team/cattle/cluster-agent:v{version}")
        );
    }
}
