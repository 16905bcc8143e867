//! What is being tested: a commit, or a tree that nobody else has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use cattle_matrix::Seed;

/// The tree that this program was built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkout {
    pub(crate) root: PathBuf,
    /// The whole hash.
    pub(crate) commit: String,
    /// Files that are not as the commit has them.
    pub(crate) changed: Vec<String>,
}

impl Checkout {
    /// Looks at the tree. `report` may differ from the commit: it is what the last run wrote.
    pub(crate) fn look(report: &Path) -> anyhow::Result<Self> {
        let root = root()?;
        let git = |arguments: &[&str]| -> anyhow::Result<String> {
            let output =
                Command::new("git").arg("-C").arg(&root).args(arguments).output().context("git cannot be run")?;
            anyhow::ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8(output.stdout)?)
        };
        let commit = git(&["rev-parse", "HEAD"])?.trim().to_owned();
        let changed = changed(&git(&["status", "--porcelain", "--untracked-files=normal"])?, report);
        Ok(Self { root, commit, changed })
    }

    /// Where the results of this commit with this seed are remembered, below the cache.
    pub(crate) fn place(&self, seed: Seed) -> PathBuf {
        let dirty = if self.changed.is_empty() { "" } else { "-changed" };
        Path::new("test-long").join(format!("{}-{seed}{dirty}", &self.commit[..self.commit.len().min(12)]))
    }
}

/// The root of the tree that this program was built in.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?)
}

/// The files that `git status --porcelain` names, but for the report.
fn changed(status: &str, report: &Path) -> Vec<String> {
    let names = status.lines().filter_map(|line| line.get(3..));
    names.filter(|name| Path::new(name) != report).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_report_may_differ() {
        let report = Path::new("docs/test-long.md");
        assert!(changed(" M docs/test-long.md\n", report).is_empty());
        assert!(changed("", report).is_empty());
        let status = " M Makefile\n?? tests/new.rs\n M docs/test-long.md\n";
        assert_eq!(changed(status, report), ["Makefile", "tests/new.rs"]);
    }

    #[test]
    fn each_commit_seed_and_kind_of_tree_has_its_own_place() {
        let tree = |commit: &str, changed: &[&str]| Checkout {
            root: PathBuf::from("/src"),
            commit: commit.to_owned(),
            changed: changed.iter().map(|name| (*name).to_owned()).collect(),
        };
        let seed = "7".parse().unwrap();
        let clean = tree("0123456789abcdef", &[]).place(seed);
        assert_eq!(clean, Path::new("test-long/0123456789ab-0000000000000007"));
        let others = [
            tree("1123456789abcdef", &[]).place(seed),
            tree("0123456789abcdef", &["Makefile"]).place(seed),
            tree("0123456789abcdef", &[]).place("8".parse().unwrap()),
        ];
        assert!(!others.contains(&clean));
    }
}
