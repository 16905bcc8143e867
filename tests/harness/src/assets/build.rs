use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::digest::{Context, SHA256};
use tokio::process::Command;

use super::{HYPERKUBE_PROGRAMS, KUBERNETES_VERSION};
use crate::process::tail;

/// Raised when the way of building changes, so that old results are not taken for new ones.
const RECIPE: &str = "2";

/// A Go module of `tests/kubernetes`: its folder, what is compiled in it, and the program it gives.
struct Module {
    folder: &'static str,
    package: &'static str,
    program: &'static str,
    /// The version that Kubernetes code in it believes to be; without one kubeadm and the kubelet refuse to work.
    kubernetes: Option<&'static str>,
}

const MODULES: [Module; 5] = [
    Module { folder: "hyperkube", package: ".", program: "hyperkube", kubernetes: Some(KUBERNETES_VERSION) },
    Module { folder: "coredns", package: ".", program: "coredns", kubernetes: None },
    Module { folder: "helm", package: "helm.sh/helm/v4/cmd/helm", program: "helm", kubernetes: None },
    Module {
        folder: "crane",
        package: "github.com/google/go-containerregistry/cmd/crane",
        program: "crane",
        kubernetes: None,
    },
    Module { folder: "kubectl-1.20", package: ".", program: "kubectl-1.20", kubernetes: Some("v1.20.15") },
];

/// The Go sources that Kubernetes is compiled from.
pub(super) struct Sources {
    root: PathBuf,
    key: String,
}

impl Sources {
    /// Reads them and computes their key.
    pub(super) fn find() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kubernetes");
        let root = root.canonicalize().with_context(|| {
            format!("the Go modules are not at {}: set KUBERNETES_ASSETS to a directory of programs", root.display())
        })?;
        let key = key_of(&root)?;
        Ok(Self { root, key })
    }

    /// The same sources have the same key, on the same kind of machine.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Compiles everything into `output`.
    pub(super) async fn build(&self, output: &Path, deadline: Duration) -> anyhow::Result<()> {
        tokio::time::timeout(deadline, self.build_all(output)).await.context("compiling Kubernetes took too long")?
    }

    async fn build_all(&self, output: &Path) -> anyhow::Result<()> {
        for module in &MODULES {
            let mut go = Command::new("nice");
            go.args(["-n", "5", "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags"]);
            go.arg(linker_flags(module.kubernetes)).arg("-o").arg(output.join(module.program)).arg(module.package);
            go.env("CGO_ENABLED", "0").current_dir(self.root.join(module.folder));
            run(go, &format!("go build {}", module.folder)).await?;
        }
        for program in HYPERKUBE_PROGRAMS {
            symlink("hyperkube", output.join(program))?;
        }
        fetch_busybox(output).await
    }
}

fn linker_flags(kubernetes: Option<&str>) -> String {
    let mut flags = "-s -w".to_owned();
    let Some(version) = kubernetes else { return flags };
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        flags += &format!(
            " -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
             -X {package}.gitTreeState=clean"
        );
    }
    flags
}

/// A static busybox for test pods: `sh`, `tar` and `cat` where images have nothing else. Taken out of the
/// distribution's package without installing it, because it would displace an installed busybox.
async fn fetch_busybox(output: &Path) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir_in(output)?;
    let mut fetch = Command::new("sh");
    fetch.current_dir(scratch.path()).arg("-ec").arg(
        "apt-get download busybox-static >/dev/null || { apt-get update >/dev/null; apt-get download busybox-static; }
         dpkg-deb -x busybox-static_*.deb package
         busybox=$(find package -type f -path '*bin/busybox')
         cp \"$busybox\" ../busybox",
    );
    run(fetch, "fetching busybox-static").await
}

async fn run(mut command: Command, what: &str) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = output.await.with_context(|| format!("{what}: cannot start it"))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("{what} ended with {}:\n{}", output.status, tail(&log));
    }
    Ok(())
}

fn key_of(root: &Path) -> anyhow::Result<String> {
    let mut files = BTreeMap::new();
    for module in &MODULES {
        for entry in fs::read_dir(root.join(module.folder))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == "go.mod" || name == "go.sum" || name.ends_with(".go") {
                files.insert(format!("{}/{name}", module.folder), fs::read(&path)?);
            }
        }
    }
    let mut context = Context::new(&SHA256);
    for part in [RECIPE, KUBERNETES_VERSION, std::env::consts::ARCH] {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    for (name, content) in files {
        context.update(name.as_bytes());
        context.update(&[0]);
        context.update(&(content.len() as u64).to_le_bytes());
        context.update(&content);
    }
    Ok(context.finish().as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect())
}
