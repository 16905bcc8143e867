use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::elf::{Executable, ExecutableError};
use crate::image::{Image, Process};
use crate::layer::{Compression, LayerBuilder, LayerError};
use crate::name::Name;

/// Where programs look for public roots first.
const ROOTS: &str = "etc/ssl/certs/ca-certificates.crt";

/// The user and group that our containers run as. Numeric, so that a kubelet can check `runAsNonRoot`.
pub const NONROOT: &str = "65532:65532";

/// An image of ours: one static program, and the public roots that it may have to trust; not run by root.
#[derive(Clone, Debug)]
pub struct Release {
    /// The program for one or several processors.
    pub binaries: Vec<PathBuf>,
    /// Under which references it is found.
    pub names: Vec<Name>,
    /// Written into `org.opencontainers.image.version`.
    pub version: String,
    /// The commit, for `org.opencontainers.image.revision`; empty when unknown.
    pub revision: String,
    /// Public CA certificates, PEM. An agent with a pinned CA does not look at them; one whose server has a publicly
    /// trusted certificate needs them.
    pub roots: Option<PathBuf>,
    /// Tests choose [`Compression::None`].
    pub compression: Compression,
}

/// Why an image of ours could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A binary that such an image could not run.
    #[error("{path} cannot be put into an image")]
    Binary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ExecutableError,
    },
    /// The file name is no program name.
    #[error("{0} has no usable file name")]
    FileName(PathBuf),
    /// The layer failed.
    #[error("the image's layer cannot be made")]
    Layer(#[from] LayerError),
}

impl Release {
    /// One image for each binary; its processor is read from the binary itself.
    ///
    /// # Errors
    /// [`ReleaseError`]; nothing is written anywhere but to temporary files.
    pub fn images(&self) -> Result<Vec<Image>, ReleaseError> {
        self.binaries.iter().map(|binary| self.image(binary)).collect()
    }

    fn image(&self, binary: &Path) -> Result<Image, ReleaseError> {
        let executable =
            Executable::inspect(binary).map_err(|source| ReleaseError::Binary { path: binary.to_owned(), source })?;
        let program = binary
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| ReleaseError::FileName(binary.to_owned()))?;
        let mut layer = LayerBuilder::new().file(program, 0o755, binary)?;
        if let Some(roots) = &self.roots {
            layer = layer.file(ROOTS, 0o644, roots)?;
        }
        let layer = layer.finish(self.compression)?;
        let mut labels = BTreeMap::from([
            ("org.opencontainers.image.title".to_owned(), program.to_owned()),
            ("org.opencontainers.image.version".to_owned(), self.version.clone()),
            ("org.opencontainers.image.licenses".to_owned(), "Apache-2.0".to_owned()),
        ]);
        if !self.revision.is_empty() {
            labels.insert("org.opencontainers.image.revision".to_owned(), self.revision.clone());
        }
        Ok(Image {
            names: self.names.clone(),
            architecture: executable.architecture(),
            layers: vec![Arc::new(layer)],
            process: Process {
                entrypoint: vec![format!("/{program}")],
                user: NONROOT.to_owned(),
                directory: "/".to_owned(),
                ..Process::default()
            },
            labels,
        })
    }
}
