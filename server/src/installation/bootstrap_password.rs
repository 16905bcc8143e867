//! Where the administrator's first password goes: a terminal, else a file that lives until it was changed.

use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use cattle_auth::bootstrap::{self, BootstrapAdmin};
use cattle_store::Store;

use super::InstallError;

/// Name of the file in the data directory.
const FILE: &str = "bootstrap-password";

/// The file with the first password, if there is one.
pub struct BootstrapPassword {
    path: PathBuf,
}

impl BootstrapPassword {
    /// Shows a new administrator's password on the terminal, or writes it to a file that only the owner can read.
    ///
    /// # Errors
    /// When neither is possible: the password would be lost.
    pub(super) fn publish(admin: Option<BootstrapAdmin>, data_dir: &Path) -> Result<Self, InstallError> {
        let path = data_dir.join(FILE);
        let Some(admin) = admin else { return Ok(Self { path }) };
        let password = admin.password.expose_str().unwrap_or_default();
        if io::stdout().is_terminal() {
            let shown = writeln!(
                io::stdout(),
                "\nFirst administrator: {}\nPassword:            {password}\nIt is shown once, and the first login changes it.\n",
                admin.username
            );
            if shown.is_ok() {
                return Ok(Self { path });
            }
        }
        write_private(&path, &format!("{}\n{password}\n{}\n", admin.username, admin.user))
            .map_err(|source| InstallError::PasswordFile { path: path.clone(), source })?;
        tracing::info!(path = %path.display(), "the first administrator's name and password are in this file until the first login changes it");
        Ok(Self { path })
    }

    /// Removes the file once the password was changed. Ends at once when there is no file. Cancel safe.
    pub async fn remove_when_changed(self, store: &dyn Store) {
        let Ok(text) = fs::read_to_string(&self.path) else { return };
        let Some(user) = text.lines().nth(2) else { return };
        loop {
            match bootstrap::password_changed(store, user).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot see whether the first password was changed"
                    );
                    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                }
            }
        }
        match fs::remove_file(&self.path) {
            Ok(()) => tracing::info!(path = %self.path.display(), "the first password was changed; its file is gone"),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the file with the first password cannot be removed")
            }
        }
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
