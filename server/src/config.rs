//! What the server was told to do, checked: `Args` (flags, environment) and the file become one [`Config`].

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    str::FromStr,
};

use cattle_runtime::args::{LogArgs, LogFilter, LogFormat};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    args::ServeArgs,
    certificates::CertificateFiles,
    listen::Limits,
    server_url::{ServerUrl, ServerUrlError},
};

/// A validated configuration; nothing after this sees a raw text.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything that must survive is kept.
    pub data_dir: PathBuf,
    /// What users and agents reach, if this start names it; else the stored address holds.
    pub url: Option<ServerUrl>,
    /// Where the server listens for users and agents.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub admin_listen: SocketAddr,
    /// Whose certificate is presented.
    pub tls: TlsSource,
    /// How much of the listener one address may hold.
    pub limits: Limits,
}

/// Whose certificate the server presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// One signed by the server's own authority.
    OwnAuthority,
    /// The user's files, with the authority that agents and users are to trust unless it is a public one.
    Files {
        /// Chain and key.
        files: CertificateFiles,
        /// The authority's certificate, PEM; absent for a publicly trusted chain.
        authority: Option<PathBuf>,
    },
}

/// The configuration file: the same words as the flags; unknown keys are errors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConfigFile {
    data_dir: Option<PathBuf>,
    url: Option<String>,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    max_connections: Option<NonZeroUsize>,
    max_connections_per_address: Option<NonZeroUsize>,
    max_handshakes_per_address: Option<NonZeroUsize>,
    #[serde(deserialize_with = "parsed")]
    log_level: Option<LogFilter>,
    #[serde(deserialize_with = "parsed")]
    log_format: Option<LogFormat>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("the configuration file {path} cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file is not what the server understands.
    #[error("the configuration file {path} is wrong: {reason}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// No data directory was named.
    #[error("no data directory: give --data-dir DIR (or CATTLE_DATA_DIR, or data-dir in the file)")]
    NoDataDir,
    /// The address is no server address.
    #[error("--url {text:?} cannot be used")]
    Url {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ServerUrlError,
    },
    /// Only one of certificate and key was given.
    #[error("--tls-cert and --tls-key belong together: give both or neither")]
    HalfCertificate,
    /// An authority was given for the server's own certificate.
    #[error("--tls-ca names the authority of --tls-cert: give --tls-cert and --tls-key too")]
    AuthorityAlone,
    /// The admin listener would be reachable without a decision to do so.
    #[error("--listen and --admin-listen are the same address")]
    SameListener,
}

impl Config {
    /// Joins flags, environment and the [file](ConfigFile::of); a flag wins over the environment, which wins over the file.
    ///
    /// # Errors
    /// Which option cannot be used and why.
    pub fn resolve(args: &ServeArgs, file: ConfigFile) -> Result<Self, ConfigError> {
        let data_dir = args.data_dir.clone().or(file.data_dir).ok_or(ConfigError::NoDataDir)?;
        let url = args.url.clone().or(file.url).map(parse_url).transpose()?;
        let listen = args.listen.or(file.listen).unwrap_or_else(|| default_listen(url.as_ref()));
        let admin_listen = args.admin_listen.or(file.admin_listen).unwrap_or(DEFAULT_ADMIN_LISTEN);
        if listen == admin_listen && listen.port() != 0 {
            return Err(ConfigError::SameListener);
        }
        let tls = tls_source(
            args.tls_cert.clone().or(file.tls_cert),
            args.tls_key.clone().or(file.tls_key),
            args.tls_ca.clone().or(file.tls_ca),
        )?;
        let usual = Limits::default();
        let limit = |flag: Option<NonZeroUsize>, file: Option<NonZeroUsize>, usual| {
            flag.or(file).map_or(usual, NonZeroUsize::get)
        };
        let limits = Limits {
            connections: limit(args.max_connections, file.max_connections, usual.connections),
            connections_per_address: limit(
                args.max_connections_per_address,
                file.max_connections_per_address,
                usual.connections_per_address,
            ),
            handshakes_per_address: limit(
                args.max_handshakes_per_address,
                file.max_handshakes_per_address,
                usual.handshakes_per_address,
            ),
            ..usual
        };
        Ok(Self { data_dir, url, listen, admin_listen, tls, limits })
    }
}

impl ConfigFile {
    /// The file that the arguments name; empty when they name none.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn of(args: &ServeArgs) -> Result<Self, ConfigError> {
        args.config.as_deref().map_or_else(|| Ok(Self::default()), Self::read)
    }

    /// What it says of the log.
    #[must_use]
    pub fn log(&self) -> LogArgs {
        LogArgs { log_level: self.log_level.clone(), log_format: self.log_format }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), reason: error.to_string() })
    }
}

/// A value in the words of its flag.
fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))).transpose()
}

/// Metrics and health are for this machine unless somebody says otherwise.
const DEFAULT_ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9180);

/// Every address on the port that the URL names; without a URL, loopback only.
fn default_listen(url: Option<&ServerUrl>) -> SocketAddr {
    match url {
        Some(url) if !url.is_loopback() => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), url.port()),
        Some(url) => SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), url.port()),
        None => SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443),
    }
}

fn parse_url(text: String) -> Result<ServerUrl, ConfigError> {
    text.parse().map_err(|source| ConfigError::Url { text, source })
}

fn tls_source(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    authority: Option<PathBuf>,
) -> Result<TlsSource, ConfigError> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Ok(TlsSource::Files { files: CertificateFiles { certificate, key }, authority })
        }
        (None, None) if authority.is_some() => Err(ConfigError::AuthorityAlone),
        (None, None) => Ok(TlsSource::OwnAuthority),
        _ => Err(ConfigError::HalfCertificate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ServeArgs {
        ServeArgs { data_dir: Some("/data".into()), ..ServeArgs::default() }
    }

    fn resolve(args: &ServeArgs) -> Result<Config, ConfigError> {
        Config::resolve(args, ConfigFile::of(args)?)
    }

    /// Every flag of the server, so that an option that is added later is not forgotten here.
    #[test]
    fn the_file_takes_every_option() {
        use clap::CommandFactory;
        let command = crate::args::Args::command();
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            let value = match flag {
                "config" | "help" | "version" => continue,
                "listen" | "admin-listen" => "127.0.0.1:1",
                "log-format" => "json",
                flag if flag.starts_with("max-") => "7",
                _ => "debug",
            };
            let parsed = ConfigFile::parse(Path::new("cattle.yaml"), &format!("{flag}: {value}\n"));
            assert!(parsed.is_ok(), "{flag}: {}", parsed.unwrap_err());
        }
        let file = ConfigFile::parse(Path::new("f"), "log-level: info,cattle=debug\nlog-format: json\n").unwrap();
        assert_eq!(file.log().log_level.unwrap().to_string(), "info,cattle=debug");
        let wrong = ConfigFile::parse(Path::new("f"), "log-level: a=b=c\n").unwrap_err();
        assert!(wrong.to_string().contains("a=b=c"), "{wrong}");
    }

    #[test]
    fn without_anything_but_a_directory_the_server_stays_on_loopback() {
        let config = resolve(&args()).unwrap();
        assert!(config.listen.ip().is_loopback() && config.admin_listen.ip().is_loopback());
        assert_eq!(config.tls, TlsSource::OwnAuthority);
    }

    #[test]
    fn a_public_url_opens_its_port_on_every_address() {
        let config = resolve(&ServeArgs { url: Some("https://cattle.example.org:8443".into()), ..args() });
        let listen = config.unwrap().listen;
        assert!(listen.ip().is_unspecified());
        assert_eq!(listen.port(), 8443);
    }

    #[test]
    fn a_flag_wins_over_the_file_and_unknown_keys_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cattle.yaml");
        std::fs::write(&path, "data-dir: /from-file\nlisten: 127.0.0.1:1234\nmax-connections-per-address: 7\n")
            .unwrap();
        let config = resolve(&ServeArgs { config: Some(path.clone()), ..args() }).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/data"));
        assert_eq!(config.listen.port(), 1234);
        assert_eq!(config.limits, Limits { connections_per_address: 7, ..Limits::default() });

        std::fs::write(&path, "data-dir: /from-file\nlisen: 127.0.0.1:1234\n").unwrap();
        let error = resolve(&ServeArgs { config: Some(path), ..args() }).unwrap_err();
        assert!(error.to_string().contains("lisen"), "{error}");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |args: ServeArgs| resolve(&args).unwrap_err();
        assert!(matches!(refused(ServeArgs::default()), ConfigError::NoDataDir));
        assert!(matches!(refused(ServeArgs { tls_cert: Some("c".into()), ..args() }), ConfigError::HalfCertificate));
        assert!(matches!(refused(ServeArgs { tls_ca: Some("c".into()), ..args() }), ConfigError::AuthorityAlone));
        assert!(matches!(refused(ServeArgs { url: Some("http://x".into()), ..args() }), ConfigError::Url { .. }));
        let same = "127.0.0.1:1".parse().ok();
        assert!(matches!(refused(ServeArgs { listen: same, admin_listen: same, ..args() }), ConfigError::SameListener));
    }
}
