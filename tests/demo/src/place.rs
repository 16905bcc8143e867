use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cattle_harness::{Assets, Client, Run, binary, cache_directory};

/// The name of the cluster in the demo, of its nodes and of its context.
pub(crate) const CLUSTER: &str = "demo";

/// The directory of the demo: everything it has made is in it, or stands in the ledger in it.
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    /// The given one, else `/var/lib/cattle-demo` for root; in the user's cache for others, who can only use a cluster
    /// that exists.
    pub(crate) fn new(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let directory = if let Some(given) = given {
            std::path::absolute(given)?
        } else if nix::unistd::geteuid().is_root() {
            PathBuf::from("/var/lib/cattle-demo")
        } else {
            cache_directory()?.join("demo")
        };
        Ok(Self { directory })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes it, empty.
    pub(crate) fn open(&self) -> anyhow::Result<Run> {
        Run::persistent(&self.directory, &self.id())
    }

    /// Names on the machine follow the directory: `/var/lib/cattle-demo` has `cattle-demo-…`.
    fn id(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.trim_start_matches("cattle-").to_owned()
    }

    /// Removes it with all that its ledger names.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        Run::remove(&self.directory)
    }

    /// Where users find the programs of the demo: one entry for their PATH.
    pub(crate) fn bin(&self) -> PathBuf {
        self.directory.join("bin")
    }

    /// Fills [`Place::bin`].
    pub(crate) async fn link_programs(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.bin())?;
        let programs = [("cattle", binary("cattle")?), ("kubectl", Assets::ready().await?.program("kubectl"))];
        for (name, target) in programs {
            let link = self.bin().join(name);
            if !link.exists() {
                symlink(&target, &link).with_context(|| format!("cannot link {}", target.display()))?;
            }
        }
        Ok(())
    }

    /// The kubeconfig that leads through the server.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// The file in which the administrator's password is.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.directory.join("admin-password")
    }

    /// Where `cattle` remembers the server.
    pub(crate) fn client_config(&self) -> PathBuf {
        self.directory.join("cattle.yaml")
    }

    /// A `cattle` command. It speaks to the demo's server, whatever the user's own environment names.
    pub(crate) fn cattle(&self, arguments: &[&str]) -> Client {
        let config = self.client_config();
        let client = Client::new(self.bin().join("cattle"), &self.kubeconfig()).direct();
        client.args(["--config".into(), config]).args(["--server", CLUSTER]).args(arguments)
    }

    /// kubectl with a kubeconfig. One of ours leads to this machine; a user's may need the user's proxy.
    pub(crate) fn kubectl(&self, kubeconfig: &Path, arguments: &[&str]) -> Client {
        let client = Client::new(self.bin().join("kubectl"), kubeconfig);
        let client = if kubeconfig.starts_with(&self.directory) { client.direct() } else { client };
        client.args(arguments)
    }

    /// Somebody's own cluster gets the manifest: stopping takes it away first.
    pub(crate) fn remember_foreign(&self, kubeconfig: &Path) -> anyhow::Result<()> {
        let path = std::path::absolute(kubeconfig)?;
        Ok(fs::write(self.foreign(), path.as_os_str().as_encoded_bytes())?)
    }

    /// Nothing of ours is in it any more.
    pub(crate) fn forget_foreign(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.foreign())?)
    }

    /// The kubeconfig of somebody's cluster that has the manifest, if there is one.
    pub(crate) fn foreign_cluster(&self) -> anyhow::Result<Option<PathBuf>> {
        match fs::read(self.foreign()) {
            Ok(path) => Ok(Some(PathBuf::from(OsString::from_vec(path)))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn foreign(&self) -> PathBuf {
        self.directory.join("registered-cluster-of")
    }
}
