//! The command line of `cattle-server`.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf};

use cattle_runtime::args::LogArgs;
use clap::{Args as ClapArgs, Parser, Subcommand};

const ABOUT: &str = "Manages many Kubernetes clusters that cannot be reached from outside";
const LONG_ABOUT: &str = "\
Manages many Kubernetes clusters that cannot be reached from outside.

Without a command the server is started:

    cattle-server --data-dir /var/lib/cattle --url https://cattle.example.org

The first start makes the data directory, a certificate authority and an administrator, whose password is shown once on a
terminal, else written to DATA-DIR/bootstrap-password.";

/// The command line of `cattle-server`.
#[derive(Debug, Parser)]
#[command(name = "cattle-server", version, about = ABOUT, long_about = LONG_ABOUT, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// What to log and how.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What `cattle-server` can do besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a consistent copy of the server's data while it runs.
    ///
    /// The copy is sealed with the server's key. The key itself goes to KEY-FILE, encrypted under a passphrase that
    /// is asked for, or read from standard input with --passphrase-stdin. Keep the two apart.
    Backup(BackupArgs),
    /// Make a new data directory from a backup.
    ///
    /// The restored server starts a new epoch: watches begin anew. With --revoke-tokens every token that the backup
    /// knows stops working, since some may have been revoked after it was taken.
    Restore(RestoreArgs),
    /// Give the administrator a new random password (needs the data directory; the server must be stopped).
    ResetAdmin(DataDirArgs),
}

/// How to serve.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct ServeArgs {
    /// YAML file with the same options, without the leading dashes; unknown keys are errors.
    #[arg(long, env = "CATTLE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything that must survive is kept; made with mode 0700.
    #[arg(long, env = "CATTLE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What users and agents reach: https://NAME or https://NAME:PORT. Needed for anything but loopback; may change later.
    #[arg(long, env = "CATTLE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Where to listen for users and agents. Default: the port of --url on every address, else 127.0.0.1:8443.
    #[arg(long, env = "CATTLE_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where to serve /metrics, /healthz and /readyz, without authentication. Default: 127.0.0.1:9180.
    #[arg(long, env = "CATTLE_ADMIN_LISTEN", value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// Your own certificate chain, PEM, leaf first; read again when it changes.
    #[arg(long, env = "CATTLE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, PEM.
    #[arg(long, env = "CATTLE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The authority of --tls-cert, PEM, unless it is a publicly trusted one; agents and users trust exactly it.
    #[arg(long, env = "CATTLE_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Most connections at a time; more wait. Default: 16384.
    #[arg(long, env = "CATTLE_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<NonZeroUsize>,
    /// Most connections at a time from one IPv4 address or IPv6 /64; more are closed. Sessions of agents and of exec, attach and
    /// port-forward do not count. Raise it for many users behind one address. Default: 4096.
    #[arg(long, env = "CATTLE_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub max_connections_per_address: Option<NonZeroUsize>,
    /// Most TLS handshakes at a time from one IPv4 address or IPv6 /64; more are closed. Raise it for very many agents behind one
    /// address. Default: 256.
    #[arg(long, env = "CATTLE_MAX_HANDSHAKES_PER_ADDRESS", value_name = "N")]
    pub max_handshakes_per_address: Option<NonZeroUsize>,
}

/// Where the data is.
#[derive(Clone, Debug, ClapArgs)]
pub struct DataDirArgs {
    /// The server's data directory.
    #[arg(long, env = "CATTLE_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// What to back up and where to.
#[derive(Clone, Debug, ClapArgs)]
pub struct BackupArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// The copy to write; must not exist.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// The encrypted key to write; must not exist.
    #[arg(long, value_name = "KEY-FILE")]
    pub key_output: PathBuf,
    /// Read the passphrase from the first line of standard input instead of asking for it.
    #[arg(long)]
    pub passphrase_stdin: bool,
}

/// What to restore and where to.
#[derive(Clone, Debug, ClapArgs)]
pub struct RestoreArgs {
    /// The new data directory; must not exist or be empty.
    #[command(flatten)]
    pub data: DataDirArgs,
    /// The copy that `backup` wrote.
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// The encrypted key that `backup` wrote.
    #[arg(long, value_name = "KEY-FILE")]
    pub key_input: PathBuf,
    /// Read the passphrase from the first line of standard input instead of asking for it.
    #[arg(long)]
    pub passphrase_stdin: bool,
    /// Revoke every token that the backup knows.
    #[arg(long)]
    pub revoke_tokens: bool,
}
