//! What the init container leaves for the agent: the little of this node's own files that the agent is to know.
//!
//! The files themselves hold credentials of the kubelet, of etcd and of the cluster's CA. The init container
//! (`cattle-node-agent inspect`) sees them, read-only and for a moment; the agent's own container never does.

use std::fs;
use std::io;
use std::path::Path;

use cattle_agent::{Address, InvalidAddress};
use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::kubelet::{self, KubeconfigError};

/// Largest os-release(5) and largest node file that are read, in bytes.
const TEXT: u64 = 64 * 1024;

/// What an inspection has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeFile {
    /// Where the kubelet finds the API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_server: Option<String>,
    /// `PRETTY_NAME` of os-release(5).
    pub operating_system: String,
    /// The Kubernetes distribution.
    pub distribution: Option<Distribution>,
    /// What runs here by the distribution's files.
    pub roles: Vec<String>,
}

impl NodeFile {
    /// Looks at the files of the node whose root is `root`.
    ///
    /// # Errors
    /// When there is a kubeconfig of a kubelet and it does not say where the API server is.
    pub fn inspect(root: &Path) -> Result<Self, KubeconfigError> {
        let distribution = Distribution::find(root);
        Ok(Self {
            api_server: kubelet::api_server(root)?.map(|address| address.to_string()),
            operating_system: operating_system(root).unwrap_or_default(),
            roles: distribution.map(|found| found.roles(root)).unwrap_or_default(),
            distribution,
        })
    }

    /// Reads what an inspection has written; one that never took place has found nothing.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn read(file: &Path) -> Result<Self, NodeFileError> {
        match read(file) {
            Ok(text) => serde_json::from_str(&text).map_err(|_| NodeFileError::Syntax),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(NodeFileError::Read(error)),
        }
    }

    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_string(self)?)?;
        fs::rename(new, file)
    }

    /// Where the kubelet finds the API server.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn api_server(&self) -> Result<Option<Address>, InvalidAddress> {
        self.api_server.as_deref().map(str::parse).transpose()
    }
}

/// The file that the inspection has left cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeFileError {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// It holds something else.
    #[error("the file is not what an inspection writes")]
    Syntax,
}

fn operating_system(root: &Path) -> Option<String> {
    let text = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|file| read(&root.join(file)).ok())?;
    let quoted = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(quoted.trim().trim_matches(['"', '\'']).to_owned())
}

fn read(file: &Path) -> io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    fs::File::open(file)?.take(TEXT).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("node.json");
        assert_eq!(NodeFile::read(&file).unwrap(), NodeFile::default());
        let found = NodeFile {
            api_server: Some("10.0.0.1:6443".to_owned()),
            operating_system: "Debian".to_owned(),
            distribution: Some(Distribution::Rke2),
            roles: vec!["etcd".to_owned()],
        };
        found.write(&file).unwrap();
        assert_eq!(NodeFile::read(&file).unwrap(), found);
        assert_eq!(found.api_server().unwrap().unwrap().to_string(), "10.0.0.1:6443");
        fs::write(&file, "10.0.0.1:6443").unwrap();
        assert!(matches!(NodeFile::read(&file), Err(NodeFileError::Syntax)));
    }

    #[test]
    fn an_empty_node_has_nothing_to_say() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(NodeFile::inspect(root.path()).unwrap(), NodeFile::default());
    }

    #[test]
    fn a_node_of_kubeadm_says_who_it_is() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("usr/lib/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n");
        write("etc/kubernetes/kubelet.conf", "clusters: [{name: a, cluster: {server: 'https://10.0.0.2:6443/'}}]");
        write("etc/kubernetes/manifests/kube-apiserver.yaml", "");
        let found = NodeFile::inspect(root.path()).unwrap();
        assert_eq!(found.api_server.as_deref(), Some("10.0.0.2:6443"));
        assert_eq!(found.operating_system, "Debian GNU/Linux 13 (trixie)");
        assert_eq!((found.distribution, found.roles), (Some(Distribution::Kubeadm), vec!["control-plane".to_owned()]));
    }
}
