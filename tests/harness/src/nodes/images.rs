use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use cattle_images::{Compression, Executable, Image, LayerBuilder, Process, write_archive};

use crate::assets::{Assets, HYPERKUBE_PROGRAMS};

/// The image of test pods: a shell with tar, cat and sha256sum, Kubernetes' `agnhost`, and all other programs of
/// Kubernetes. It is there on every node, under this name only, and never pulled.
pub const TOOLBOX_IMAGE: &str = "cattle.test/toolbox:v1";

/// The sandbox image that containerd is configured with.
pub(super) const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.1";

const SHELL_PROGRAMS: [&str; 26] = [
    "sh",
    "ls",
    "cat",
    "echo",
    "tar",
    "sleep",
    "env",
    "id",
    "head",
    "tail",
    "wc",
    "dd",
    "grep",
    "sed",
    "mkdir",
    "rm",
    "cp",
    "sha256sum",
    "seq",
    "wget",
    "nc",
    "nslookup",
    "stty",
    "tty",
    "date",
    "true",
];

/// Writes what kubeadm asks for, made from our one binary: images differ in their names and what they start.
pub(super) fn write_kubernetes_images(assets: &Assets, list: &str, output: &Path) -> anyhow::Result<()> {
    let hyperkube = assets.program("kube-apiserver").canonicalize()?;
    let architecture = Executable::inspect(&hyperkube)?.architecture();
    let mut programs = LayerBuilder::new().file("usr/local/bin/hyperkube", 0o755, &hyperkube)?;
    for name in HYPERKUBE_PROGRAMS {
        programs = programs.link(&format!("usr/local/bin/{name}"), "hyperkube")?;
    }
    let programs = Arc::new(programs.link("pause", "usr/local/bin/pause")?.finish(Compression::None)?);
    let coredns = LayerBuilder::new().file("coredns", 0o755, &assets.program("coredns"))?;
    let coredns = Arc::new(coredns.finish(Compression::None)?);

    let mut images = Vec::new();
    for name in list.split_whitespace().chain([PAUSE_IMAGE, TOOLBOX_IMAGE]) {
        let program = name.rsplit_once(':').map_or(name, |(path, _)| path).rsplit('/').next().unwrap_or_default();
        let mut process = Process { environment: vec!["PATH=/usr/local/bin:/bin".to_owned()], ..Process::default() };
        let layers = match program {
            "coredns" => {
                process.entrypoint = vec!["/coredns".to_owned()];
                vec![Arc::clone(&coredns)]
            }
            "toolbox" => {
                process.entrypoint = vec!["agnhost".to_owned()];
                process.arguments = vec!["pause".to_owned()];
                vec![Arc::clone(&programs), shell(assets)?]
            }
            other => {
                process.entrypoint = vec![format!("/usr/local/bin/{other}")];
                vec![Arc::clone(&programs)]
            }
        };
        let name: cattle_images::Name = name.parse()?;
        if !images.iter().any(|image: &Image| image.names.contains(&name)) {
            images.push(Image { names: vec![name], architecture, layers, process, labels: BTreeMap::new() });
        }
    }
    let file = File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
    Ok(write_archive(&images, BufWriter::new(file))?)
}

fn shell(assets: &Assets) -> anyhow::Result<Arc<cattle_images::Layer>> {
    let mut layer = LayerBuilder::new().directory("tmp", 0o1777)?.directory("home", 0o777)?;
    if let Some(busybox) = assets.optional("busybox") {
        layer = layer.file("bin/busybox", 0o755, &busybox)?;
        for name in SHELL_PROGRAMS {
            layer = layer.link(&format!("bin/{name}"), "busybox")?;
        }
    }
    Ok(Arc::new(layer.finish(Compression::None)?))
}
