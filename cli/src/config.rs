//! What the client remembers: servers, what they are trusted by, and the token of whoever is signed in.
//!
//! One YAML file, `config.yaml` in the user's configuration directory (`~/.config/cattle`), readable by nobody else. It is
//! written whole to a new file that takes the old one's place, under a lock, so that neither a crash nor another process
//! leaves half of one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy as _;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::kubeconfig::quoted;
use crate::trust::Trust;

/// How long another process may hold the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The server that commands go to when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All servers.
    #[serde(default)]
    pub servers: Vec<Server>,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// What it is called here; `host[:port]` unless said otherwise.
    pub name: String,
    /// `https://host[:port]`.
    pub url: Url,
    /// The pinned CA, PEM; absent when the system's roots are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Who is signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The token: `name:secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When it ends (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("name", &self.name).field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Server {
    /// What its certificate is checked against.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.ca.clone().map_or(Trust::System, Trust::Pinned)
    }
}

/// Why the configuration cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no home directory.
    #[error("there is no home directory: name the file with --config")]
    NoHome,
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could read it, so what is in it is no secret any more.
    #[error("{} can be read by others (mode {mode:03o})", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is not ours, or damaged.
    #[error("{} is not a configuration of cattle: move it away", path.display())]
    Parse {
        /// Which. The parser's own words are left out, since they can quote a token.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("another process changes {} for too long", path.display())]
    Locked {
        /// Which.
        path: PathBuf,
    },
}

impl ConfigError {
    /// What the person can do now.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        let shown = |path: &Path| quoted(&path.display().to_string());
        match self {
            Self::NoHome => None,
            Self::Read { .. } => Some("make it readable for you, or name another file with --config".to_owned()),
            Self::Exposed { path, .. } => {
                let path = shown(path);
                Some(format!("chmod 600 {path}, then sign in again: others may know the token"))
            }
            Self::Parse { path } => {
                let path = shown(path);
                Some(format!("repair it, or keep it aside and sign in again: mv {path} {path}.broken"))
            }
            Self::Write { .. } => Some("make its directory writable, or name another file with --config".to_owned()),
            Self::Locked { path } => {
                Some(format!("look for another cattle that waits for an answer (fuser {}.lock)", shown(path)))
            }
        }
    }
}

/// Where the configuration is.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
}

impl ConfigFile {
    /// The named file, or the one in the user's configuration directory.
    ///
    /// # Errors
    /// [`ConfigError::NoHome`].
    pub fn find(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => {
                let base = etcetera::choose_base_strategy().map_err(|_| ConfigError::NoHome)?;
                base.config_dir().join("cattle").join("config.yaml")
            }
        };
        Ok(Self { path })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; a file that is not there is an empty configuration.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        let read = |source| ConfigError::Read { path: self.path.clone(), source };
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
            Err(error) => return Err(read(error)),
        };
        let mode = fs::metadata(&self.path).map_err(read)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(ConfigError::Exposed { path: self.path.clone(), mode });
        }
        if text.trim().is_empty() {
            return Ok(Config::default());
        }
        serde_saphyr::from_str(&text).map_err(|_| ConfigError::Parse { path: self.path.clone() })
    }

    /// Reads, changes and writes it while no other process does.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn change<T>(&self, change: impl FnOnce(&mut Config) -> T) -> Result<T, ConfigError> {
        let _lock = self.lock()?;
        let mut config = self.load()?;
        let result = change(&mut config);
        self.store(&config)?;
        Ok(result)
    }

    /// Finds out whether it can be written, before something is done that should be remembered in it.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check_writable(&self) -> Result<(), ConfigError> {
        let _lock = self.lock()?;
        tempfile::NamedTempFile::new_in(self.directory())
            .map(drop)
            .map_err(|source| ConfigError::Write { path: self.path.clone(), source })
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    fn lock(&self) -> Result<File, ConfigError> {
        let write = |source| ConfigError::Write { path: self.path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(self.directory()).map_err(write)?;
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(name).map_err(write)?;
        let start = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => pause(),
                Err(TryLockError::WouldBlock) => return Err(ConfigError::Locked { path: self.path.clone() }),
                Err(TryLockError::Error(error)) => return Err(write(error)),
            }
        }
    }

    fn store(&self, config: &Config) -> Result<(), ConfigError> {
        let write = |source| ConfigError::Write { path: self.path.clone(), source };
        let text = serde_saphyr::to_string(config).map_err(|error| write(io::Error::other(error)))?;
        // A temporary file has mode 0600, and renaming replaces a link instead of following it.
        let mut file = tempfile::NamedTempFile::new_in(self.directory()).map_err(write)?;
        file.write_all(text.as_bytes()).map_err(write)?;
        file.as_file().sync_all().map_err(write)?;
        file.persist(&self.path).map_err(|error| write(error.error))?;
        File::open(self.directory()).and_then(|directory| directory.sync_all()).map_err(write)
    }
}

impl Config {
    /// The server of this name or URL, or the current one.
    #[must_use]
    pub fn server(&self, named: Option<&str>) -> Option<&Server> {
        let Some(named) = named.or(self.current.as_deref()) else {
            return self.servers.first().filter(|_| self.servers.len() == 1);
        };
        let url = crate::login::server_url(named).ok();
        let by_name = self.servers.iter().find(|server| server.name == named);
        by_name.or_else(|| self.server_at(&url?))
    }

    /// The server at this address.
    #[must_use]
    pub fn server_at(&self, url: &Url) -> Option<&Server> {
        self.servers.iter().find(|server| server.url == *url)
    }

    /// Puts a server in the place of the one of its name.
    pub fn put(&mut self, server: Server) {
        match self.servers.iter_mut().find(|known| known.name == server.name) {
            Some(known) => *known = server,
            None => self.servers.push(server),
        }
    }
}

/// The command line has one thread and nothing else to do while it waits for another process.
#[expect(clippy::disallowed_methods, reason = "no runtime is running work beside this wait")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> Server {
        Server {
            name: name.to_owned(),
            url: Url::parse(&format!("https://{name}")).unwrap(),
            ca: Some("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned()),
            user: Some("admin".to_owned()),
            token: Some("token-abcde:secret".to_owned()),
            expires_at: None,
        }
    }

    fn file(directory: &tempfile::TempDir) -> ConfigFile {
        ConfigFile::find(Some(&directory.path().join("new/config.yaml"))).unwrap()
    }

    #[test]
    fn what_is_stored_is_read_again_and_is_ours_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(&directory);
        assert_eq!(file.load().unwrap(), Config::default());
        file.change(|config| config.put(server("one.example"))).unwrap();
        file.change(|config| config.put(server("two.example"))).unwrap();
        assert_eq!(file.load().unwrap().server(None), None, "neither is the current one");
        file.change(|config| config.current = Some("two.example".to_owned())).unwrap();
        let config = file.load().unwrap();
        assert_eq!(config.server(None), Some(&server("two.example")));
        assert_eq!(config.server(Some("one.example")), Some(&server("one.example")));
        assert_eq!(config.server(Some("https://one.example/")), Some(&server("one.example")));
        assert_eq!(config.server(Some("three.example")), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(file.path().parent().unwrap()), 0o700);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(&directory);
        file.change(|config| config.put(server("one.example"))).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(file.load(), Err(ConfigError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn a_damaged_file_is_neither_used_nor_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(&directory);
        file.change(|config| config.put(server("one.example"))).unwrap();
        let damaged = "servers: [token-abcde:secret";
        fs::write(file.path(), damaged).unwrap();
        let error = file.change(|config| config.put(server("two.example"))).unwrap_err();
        assert!(matches!(error, ConfigError::Parse { .. }));
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(fs::read_to_string(file.path()).unwrap(), damaged);
    }

    #[test]
    fn a_link_in_the_files_place_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let file = ConfigFile::find(Some(&directory.path().join("config.yaml"))).unwrap();
        std::os::unix::fs::symlink(&victim, file.path()).unwrap();
        file.change(|config| config.put(server("one.example"))).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "");
    }
}
