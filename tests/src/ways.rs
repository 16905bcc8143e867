//! One user by two ways, for tests that compare them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cattle_harness::Output;
use serde_json::{Value, json};

use crate::server::{Server, User};

/// Kubeconfigs of one user: through the server, and straight to the API server as the same identity.
///
/// *Direct* is an administrator's kubeconfig of the cluster with `as`, `as-groups` and `as-user-extra`, which every kubectl
/// and helm understands. Each lies in a directory of its own, which is the client's home.
#[derive(Clone, Debug)]
pub struct Ways {
    /// Through the server.
    pub through: PathBuf,
    /// To the API server.
    pub direct: PathBuf,
}

impl Ways {
    /// Writes both into a directory. `administrator` is a kubeconfig, as JSON, that may impersonate.
    ///
    /// # Errors
    /// When a file cannot be written or a kubeconfig has no user.
    pub fn write(
        directory: &Path,
        server: &Server,
        cluster: &str,
        (user, login): (&User, &str),
        administrator: &Value,
    ) -> anyhow::Result<Self> {
        let through = std::fs::read_to_string(server.kubeconfig(user, &format!("/k8s/clusters/{cluster}"))?)?;
        let mut direct = administrator.clone();
        let credentials = direct["users"][0]["user"].as_object_mut().context("no credentials")?;
        credentials.insert("as".to_owned(), json!(user.name));
        credentials.insert("as-groups".to_owned(), json!(["system:authenticated", "system:cattle:authenticated"]));
        let extra = json!({ "principalid": [format!("local://{}", user.name)], "username": [login] });
        credentials.insert("as-user-extra".to_owned(), extra);
        Ok(Self {
            through: kubeconfig(&directory.join(format!("through-{login}")), &through)?,
            direct: kubeconfig(&directory.join(format!("direct-{login}")), &direct.to_string())?,
        })
    }

    /// Both, named.
    #[must_use]
    pub fn both(&self) -> [(&'static str, &Path); 2] {
        [("through", &self.through), ("direct", &self.direct)]
    }

    /// What each of them printed, for the message of a failed comparison.
    #[must_use]
    pub fn shown(through: &Output, direct: &Output) -> String {
        let one = |name: &str, output: &Output| {
            format!("--- {name} ({}):\n{}{}", output.status, output.text(), output.error())
                .chars()
                .take(3000)
                .collect::<String>()
        };
        format!("{}\n{}\n", one("through", through), one("direct", direct))
    }
}

fn kubeconfig(directory: &Path, text: &str) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    let file = directory.join("kubeconfig");
    std::fs::write(&file, text)?;
    // helm warns of files that others may read.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}
