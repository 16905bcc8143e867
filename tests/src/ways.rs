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

    /// What each of them printed, for the message of a failed comparison: of long outputs, from where they part.
    #[must_use]
    pub fn shown(through: &Output, direct: &Output) -> String {
        let texts = (through.text(), direct.text());
        let errors = (through.error(), direct.error());
        let (text, error) = (parting(&texts.0, &texts.1), parting(&errors.0, &errors.1));
        let one = |name: &str, status, text: &str, error: &str| {
            let (standard, errors) = (excerpt(text), excerpt(error));
            format!("--- {name} ({status}), standard output:\n{standard}--- {name}, standard error:\n{errors}")
        };
        let through = one("through", through.status, &texts.0[text..], &errors.0[error..]);
        let direct = one("direct", direct.status, &texts.1[text..], &errors.1[error..]);
        format!("from bytes {text} and {error}:\n{through}{direct}")
    }
}

/// The start of the line before the first one that differs: where two texts are worth reading.
fn parting(one: &str, other: &str) -> usize {
    let (mut line, mut at) = (0, 0);
    for (one, other) in one.split_inclusive('\n').zip(other.split_inclusive('\n')) {
        if one != other {
            return line;
        }
        (line, at) = (at, at + one.len());
    }
    // Texts that do not differ are shown from their start.
    if one.len() == other.len() { 0 } else { line }
}

fn excerpt(text: &str) -> String {
    const CHARACTERS: usize = 1500;
    let cut = text.char_indices().nth(CHARACTERS).map(|(at, _)| at);
    cut.map_or_else(|| text.to_owned(), |at| format!("{}\n({} bytes more)\n", &text[..at], text.len() - at))
}

fn kubeconfig(directory: &Path, text: &str) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    let file = directory.join("kubeconfig");
    std::fs::write(&file, text)?;
    // helm warns of files that others may read.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_part_before_their_first_difference() {
        assert_eq!(parting("a\nb\nc\n", "a\nb\nd\n"), 2);
        assert_eq!(parting("a\nb\n", "a\nb\nend\n"), 2);
        assert_eq!(parting("a\n", "b\n"), 0);
        assert_eq!(parting("a\nb\n", "a\nb\n"), 0);
        assert_eq!(excerpt(&"é".repeat(1501)), format!("{}\n(2 bytes more)\n", "é".repeat(1500)));
    }
}
