//! What a kubelet's kubeconfig says of the API server: its address, and nothing else.
//!
//! The file also names the kubelet's credential, which the agent must not have: only the init container sees it.

use std::io;
use std::path::{Path, PathBuf};

use cattle_agent::{Address, InvalidAddress};
use serde::Deserialize;
use url::Url;

use crate::distribution::Distribution;

/// Largest kubeconfig that is read, in bytes: one with all certificates in it has about 10 KiB.
const KUBECONFIG: u64 = 1024 * 1024;

/// The address of the API server that the kubelet of the node with this root uses; `None` when there is no kubeconfig of a
/// known distribution.
///
/// # Errors
/// When there is one, and it cannot be read or names no server.
pub fn api_server(root: &Path) -> Result<Option<Address>, KubeconfigError> {
    for file in Distribution::kubeconfigs().map(|file| root.join(file)) {
        match read(&file) {
            Ok(text) => return address(&text).map(Some).map_err(|reason| KubeconfigError { file, reason }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(KubeconfigError { file, reason: error.into() }),
        }
    }
    Ok(None)
}

/// No address in a kubeconfig.
#[derive(Debug, thiserror::Error)]
#[error("{} says no address of an API server", file.display())]
pub struct KubeconfigError {
    file: PathBuf,
    #[source]
    reason: Reason,
}

/// Why not. The file's text is never repeated: it may hold keys.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    #[error("it is no kubeconfig")]
    Syntax,
    #[error("its current context names no cluster with a server")]
    NoServer,
    #[error("its server is no https URL")]
    Url,
    #[error(transparent)]
    Address(#[from] InvalidAddress),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: Option<String>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    server: Option<String>,
}

fn read(file: &Path) -> io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    std::fs::File::open(file)?.take(KUBECONFIG).read_to_string(&mut text)?;
    Ok(text)
}

fn address(text: &str) -> Result<Address, Reason> {
    let Kubeconfig { current_context, contexts, clusters } =
        serde_saphyr::from_str(text).map_err(|_| Reason::Syntax)?;
    let context = current_context.and_then(|current| contexts.into_iter().find(|context| context.name == current));
    // A file without contexts that has one cluster means that one.
    let cluster = match context {
        Some(context) => clusters.into_iter().find(|cluster| cluster.name == context.context.cluster),
        None => clusters.into_iter().next(),
    };
    let server = cluster.and_then(|cluster| cluster.cluster.server).ok_or(Reason::NoServer)?;
    let url = Url::parse(&server).ok().filter(|url| url.scheme() == "https").ok_or(Reason::Url)?;
    let host = url.host_str().ok_or(Reason::Url)?.trim_start_matches('[').trim_end_matches(']');
    Ok(Address::new(host, url.port_or_known_default().ok_or(Reason::Url)?)?)
}

#[cfg(test)]
mod tests {
    use cattle_runtime::ErrorChain as _;

    use super::*;

    fn kubeconfig(server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: default\n\
             contexts:\n- name: default\n  context: {{cluster: local, user: kubelet}}\n\
             clusters:\n- name: other\n  cluster: {{server: 'https://192.0.2.9'}}\n\
             - name: local\n  cluster:\n    certificate-authority-data: aGk=\n    server: {server}\n\
             users:\n- name: kubelet\n  user: {{client-key: /var/lib/kubelet/pki/kubelet-client-current.pem}}\n"
        )
    }

    #[test]
    fn the_server_of_the_current_context_is_the_address() {
        for (server, shown) in [
            ("https://10.0.0.1:6443", "10.0.0.1:6443"),
            ("https://127.0.0.1:6444", "127.0.0.1:6444"),
            ("https://api.example.com", "api.example.com:443"),
            ("\"https://[fd00::1]:6443\"", "[fd00::1]:6443"),
        ] {
            assert_eq!(address(&kubeconfig(server)).unwrap().to_string(), shown);
        }
        let short = "clusters: [{name: a, cluster: {server: 'https://10.0.0.2:6443/'}}]";
        assert_eq!(address(short).unwrap().to_string(), "10.0.0.2:6443");
    }

    #[test]
    fn what_is_no_address_has_a_reason_and_no_secret_in_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(Distribution::Kubeadm.kubeconfig());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        for (text, reason) in [
            (kubeconfig("http://10.0.0.1:6443"), "its server is no https URL"),
            (kubeconfig("unix:///hunter2"), "its server is no https URL"),
            (kubeconfig("").replace("    server: \n", ""), "its current context names no cluster with a server"),
            ("users: [hunter2".to_owned(), "it is no kubeconfig"),
            (String::new(), "its current context names no cluster with a server"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = api_server(root.path()).unwrap_err().chain().to_string();
            assert!(error.ends_with(reason) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_kubelet_that_is_there_counts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(api_server(root.path()).unwrap(), None);
        for (distribution, server) in [(Distribution::Kubeadm, "10.0.0.1"), (Distribution::Rke2, "10.0.0.2")] {
            let file = root.path().join(distribution.kubeconfig());
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, kubeconfig(&format!("https://{server}:6443"))).unwrap();
            assert_eq!(api_server(root.path()).unwrap().unwrap().to_string(), format!("{server}:6443"));
        }
    }
}
