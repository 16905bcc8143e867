//! Where the programs of Kubernetes come from.

mod build;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;

use crate::wait::wait_for;

/// The version that the Go module compiles.
pub const KUBERNETES_VERSION: &str = "v1.34.4";

/// The variable that names a directory of ready programs.
const VARIABLE: &str = "KUBERNETES_ASSETS";

/// From nothing on two busy cores it takes a quarter of an hour.
const BUILD_DEADLINE: Duration = Duration::from_secs(60 * 60);

/// The names that the one Kubernetes binary is called by.
pub(crate) const HYPERKUBE_PROGRAMS: [&str; 12] = [
    "agnhost",
    "etcd",
    "etcdctl",
    "etcdutl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubeadm",
    "kubectl",
    "kubelet",
    "pause",
];

/// A directory with programs: all of Kubernetes and etcd by their usual names, `agnhost`, `pause`, `coredns`, `helm`,
/// `crane`, `kubectl-1.20` and `busybox`.
#[derive(Clone, Debug)]
pub struct Assets {
    directory: PathBuf,
}

impl Assets {
    /// The programs, compiled now if nobody has before: from `KUBERNETES_ASSETS`, else from the cache
    /// (`$XDG_CACHE_HOME/cattle/kubernetes/<hash of the sources>`).
    ///
    /// # Errors
    /// When they have to be compiled and cannot; the message has the end of the compiler's log.
    pub async fn ready() -> anyhow::Result<Self> {
        static FOUND: OnceLock<Assets> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found.clone());
        }
        let assets = Self::find_or_build().await?;
        Ok(FOUND.get_or_init(|| assets).clone())
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A program that always is there.
    ///
    /// # Panics
    /// When there is no such program: the name is a mistake in the test.
    pub fn program(&self, name: &str) -> PathBuf {
        self.optional(name).unwrap_or_else(|| panic!("no program {name} in {}", self.directory.display()))
    }

    /// A program that may be missing where `KUBERNETES_ASSETS` names a directory of the user's.
    pub fn optional(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.join(name)).filter(|path| path.is_file())
    }

    async fn find_or_build() -> anyhow::Result<Self> {
        match Origin::of(std::env::var_os(VARIABLE).as_deref()) {
            Origin::Given(directory) => Self::given(&directory),
            Origin::Compiled => {
                let sources = build::Sources::find()?;
                let cache = cache_directory()?.join("kubernetes");
                let directory = cache.join(sources.key());
                if !directory.is_dir() {
                    build_once(&sources, &cache, &directory).await?;
                }
                Ok(Self { directory })
            }
        }
    }

    fn given(directory: &Path) -> anyhow::Result<Self> {
        let found = directory.canonicalize().with_context(|| format!("{VARIABLE}={}", directory.display()))?;
        let missing = missing(|name| found.join(name).is_file());
        anyhow::ensure!(missing.is_empty(), "{VARIABLE}={} lacks {missing:?}", directory.display());
        Ok(Self { directory: found })
    }
}

/// Where the programs are to come from.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// A directory of the user's, which is never written to.
    Given(PathBuf),
    /// The Go modules, by way of the cache.
    Compiled,
}

impl Origin {
    /// What `KUBERNETES_ASSETS` says; empty is as if it were not there, as with most variables.
    fn of(variable: Option<&OsStr>) -> Self {
        variable.filter(|given| !given.is_empty()).map_or(Self::Compiled, |given| Self::Given(PathBuf::from(given)))
    }
}

/// The programs that no cluster can do without and that are not there. A release of Kubernetes has no `agnhost`, and what
/// else is missing here fails the one test that asks for it.
fn missing(is_there: impl Fn(&str) -> bool) -> BTreeSet<&'static str> {
    let needed = |name: &&str| !matches!(*name, "agnhost" | "etcdctl" | "etcdutl" | "pause");
    HYPERKUBE_PROGRAMS.into_iter().filter(needed).filter(|name| !is_there(name)).collect()
}

/// What may be kept from one checkout to the next: `$CATTLE_CACHE`, else `cattle` in the user's cache directory.
///
/// # Errors
/// When there is neither a cache directory nor a home.
pub fn cache_directory() -> anyhow::Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("CATTLE_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|cache| cache.join("cattle")))
        .or_else(|| named("HOME").map(|home| home.join(".cache/cattle")))
        .context("neither CATTLE_CACHE, XDG_CACHE_HOME nor HOME is set")
}

/// Builds into a directory beside and renames it, under a lock that parallel runs wait for.
async fn build_once(sources: &build::Sources, cache: &Path, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(cache)?;
    let lock = fs::File::create(cache.join("lock"))?;
    wait_for("another build of Kubernetes to end", BUILD_DEADLINE, async || Ok(lock.try_lock()?)).await?;
    if directory.is_dir() {
        return Ok(());
    }
    writeln!(std::io::stderr(), "Compiling Kubernetes into {} (once; minutes)", directory.display())?;
    let unfinished = tempfile::Builder::new().prefix("building-").tempdir_in(cache)?;
    sources.build(unfinished.path(), BUILD_DEADLINE).await?;
    fs::set_permissions(unfinished.path(), fs::Permissions::from_mode(0o755))?;
    fs::rename(unfinished.path(), directory)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_used_when_it_is_named() {
        assert_eq!(Origin::of(None), Origin::Compiled);
        assert_eq!(Origin::of(Some(OsStr::new(""))), Origin::Compiled);
        let given = Origin::of(Some(OsStr::new("/opt/kubernetes")));
        assert_eq!(given, Origin::Given(PathBuf::from("/opt/kubernetes")));
    }

    #[test]
    fn a_directory_without_an_api_server_is_refused_by_name() {
        let release = |name: &str| !matches!(name, "agnhost" | "etcdctl" | "etcdutl" | "pause");
        assert!(missing(release).is_empty());
        assert_eq!(missing(|name| release(name) && name != "kube-apiserver"), BTreeSet::from(["kube-apiserver"]));

        let directory = tempfile::tempdir().unwrap();
        for name in HYPERKUBE_PROGRAMS.into_iter().filter(|name| release(name) && *name != "kubelet") {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let error = Assets::given(directory.path()).unwrap_err().to_string();
        assert!(error.starts_with("KUBERNETES_ASSETS=") && error.ends_with("lacks {\"kubelet\"}"), "{error}");
        fs::write(directory.path().join("kubelet"), "").unwrap();
        let assets = Assets::given(directory.path()).unwrap();
        assert!(assets.program("kube-apiserver").is_file());
        assert_eq!(assets.optional("helm"), None, "only what asks for it fails");

        let error = Assets::given(&directory.path().join("nowhere")).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error:#}");
    }
}
