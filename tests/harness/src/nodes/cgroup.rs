use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::run::Scope;

const ROOT: &str = "/sys/fs/cgroup";
/// What the kubelet asks for under cgroup v2.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "hugetlb", "pids"];

/// Makes a node's cgroup: one directory in the unified hierarchy, or one in each of the old ones.
pub(super) fn create(scope: &Scope, name: &str) -> anyhow::Result<()> {
    scope.record("cgroup", name, name)?;
    let root = PathBuf::from(ROOT);
    let unified = root.join("cgroup.controllers");
    if unified.is_file() {
        let offered = fs::read_to_string(&unified)?;
        for controller in
            CONTROLLERS.into_iter().filter(|wanted| offered.split_whitespace().any(|found| found == *wanted))
        {
            // The service manager usually has switched them on; what it refuses the kubelet reports.
            fs::write(root.join("cgroup.subtree_control"), format!("+{controller}")).ok();
        }
        return make(&root.join(name));
    }
    for hierarchy in fs::read_dir(&root).context("there are no cgroups")? {
        let path = hierarchy?.path();
        // Symbolic links are other names of the same hierarchy.
        if fs::symlink_metadata(&path)?.is_dir() && path.join("cgroup.procs").is_file() {
            make(&path.join(name))?;
        }
    }
    Ok(())
}

fn make(path: &Path) -> anyhow::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.with_context(|| format!("cannot make the cgroup {}", path.display())),
    }
}
