//! Container images `FROM scratch`, made from static binaries without Docker, a registry or root.
//!
//! The same code makes the images of a release (`cattle-images build`, `make images`) and those that tests import into
//! the containerd of their nodes, so that what is tested is what is shipped.
//!
//! - [`Layer`] is a tar archive of files with sorted entries and no times: the same files give the same digest.
//! - [`Image`] is a configuration over layers for one platform, with one or more [`Name`]s.
//! - [`write_archive`] writes images as an [OCI image layout] in a tar file that is a `docker load` archive, too:
//!   `ctr images import`, `docker load`, `podman load`, `skopeo copy` and `crane push` read it.
//! - [`read_archive`] reads such a file back and checks every digest in it.
//! - [`Executable`] says what a binary runs on, so that a dynamic binary or one for another processor never gets into
//!   an image that could not start.
//!
//! [OCI image layout]: https://github.com/opencontainers/image-spec/blob/main/image-layout.md

mod archive;
mod digest;
mod elf;
mod image;
mod layer;
mod name;
mod read;
mod release;

pub use archive::{ArchiveError, write_archive};
pub use digest::Digest;
pub use elf::{Executable, ExecutableError};
pub use image::{Architecture, Image, Process, UnknownArchitecture};
pub use layer::{Compression, Layer, LayerBuilder, LayerError};
pub use name::{InvalidName, Name};
pub use read::{ReadError, StoredFile, StoredImage, read_archive};
pub use release::{NONROOT, Release, ReleaseError};
