//! `cattle-images`: builds and checks container images of static binaries.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use cattle_images::{Compression, Name, Release, read_archive, write_archive};
use clap::{Parser, Subcommand};

/// Builds container images from static binaries, and looks into them.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write an image archive that `ctr images import`, `docker load`, `skopeo` and `crane push` read.
    Build {
        /// The static program; once for each processor.
        #[arg(long, required = true)]
        binary: Vec<PathBuf>,
        /// The image's reference; several give it several.
        #[arg(long, required = true)]
        name: Vec<Name>,
        /// The archive to write; replaced when it is complete.
        #[arg(long)]
        output: PathBuf,
        /// The version label.
        #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
        version: String,
        /// The commit label.
        #[arg(long, default_value = "")]
        revision: String,
        /// Public CA certificates to put into the image, PEM.
        #[arg(long, value_name = "FILE")]
        roots: Option<PathBuf>,
        /// Store layers uncompressed: for tests on one machine.
        #[arg(long)]
        uncompressed: bool,
    },
    /// Read an archive back, check its digests and print its images and their sizes.
    Check {
        /// The archive.
        archive: PathBuf,
        /// Fail when an image is bigger than this many MB (10^6 bytes) as a registry sends it.
        #[arg(long)]
        max_megabytes: Option<u64>,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Build { binary, name, output, version, revision, roots, uncompressed } => {
            let compression = if uncompressed { Compression::None } else { Compression::Gzip };
            let release = Release { binaries: binary, names: name, version, revision, roots, compression };
            build(&release, &output)
        }
        Command::Check { archive, max_megabytes } => check(&archive, max_megabytes),
    }
}

fn build(release: &Release, output: &Path) -> anyhow::Result<()> {
    let images = release.images()?;
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let file =
        tempfile::NamedTempFile::new_in(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    write_archive(&images, BufWriter::new(file.as_file()))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(output).with_context(|| format!("cannot write {}", output.display()))?;
    Ok(())
}

fn check(archive: &Path, max_megabytes: Option<u64>) -> anyhow::Result<()> {
    let file = File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let images = read_archive(BufReader::new(file)).with_context(|| format!("{} is damaged", archive.display()))?;
    let mut output = std::io::stdout().lock();
    let mut too_big = Vec::new();
    for image in &images {
        let tenths = image.size / 100_000;
        writeln!(output, "{} {} {}.{} MB", image.name, image.architecture, tenths / 10, tenths % 10)?;
        if max_megabytes.is_some_and(|limit| image.size > limit * 1_000_000) {
            too_big.push(format!("{} ({})", image.name, image.architecture));
        }
    }
    if !too_big.is_empty() {
        bail!("bigger than {} MB: {}", max_megabytes.unwrap_or_default(), too_big.join(", "));
    }
    Ok(())
}
