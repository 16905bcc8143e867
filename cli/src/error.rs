//! Why a command failed, and what to do next.

use crate::api::ApiError;
use crate::config::ConfigError;
use crate::exit::Exit;
use crate::kubeconfig::{MergeError, WriteError};
use crate::trust::TrustError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is wrong in a way that only shows now.
    #[error("{0}")]
    Usage(String),
    /// Nobody is signed in at the server.
    #[error("not signed in at {0}")]
    NotSignedIn(String),
    /// No server is known at all.
    #[error("no server is known")]
    NoServer,
    /// An object of this kind and name does not exist, or is not visible.
    #[error("no {kind} named {name:?}")]
    NotFound {
        /// `cluster`, `user` and so on.
        kind: &'static str,
        /// As it was given.
        name: String,
    },
    /// A name that stands for several objects.
    #[error("{name:?} could be {}", .candidates.join(" or "))]
    Ambiguous {
        /// As it was given.
        name: String,
        /// The ids.
        candidates: Vec<String>,
    },
    /// A person said no.
    #[error("nothing was changed")]
    NotConfirmed,
    /// A question had to be asked and nobody is there.
    #[error("{0}")]
    NoTerminal(&'static str),
    /// It did not happen in time.
    #[error("{0}")]
    NotReady(String),
    /// The name or the password is wrong, or the account is disabled, in the server's words.
    #[error("{0}")]
    SignInRefused(String),
    /// The password must be changed, and no new one was given.
    #[error("the password must be changed before anything else")]
    PasswordChangeRequired,
    /// The two passwords that were typed differ.
    #[error("the two passwords differ")]
    PasswordsDiffer,
    /// The server's answer does not make sense.
    #[error("the server's answer has no {0}")]
    Answer(&'static str),
    /// The server refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The server is not trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Our configuration cannot be read or written.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kubeconfigs cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The kubeconfig cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Standard input or output failed.
    #[error("reading or writing failed")]
    Io(#[from] std::io::Error),
    /// kubectl asks for a credential in a way that is not known here.
    #[error("KUBERNETES_EXEC_INFO is no ExecCredential of client.authentication.k8s.io/v1 or v1beta1")]
    ExecInfo,
    /// The name of another server.
    #[error("{name:?} is what {url} is called here")]
    NameTaken {
        /// As it was given.
        name: String,
        /// The other server.
        url: String,
    },
    /// A WebSocket upgrade does not get to the server.
    #[error("something before the server takes the WebSocket upgrade out of a request")]
    UpgradeLost,
    /// Something cannot be shown as YAML.
    #[error("the answer cannot be shown")]
    Render(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CliError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Ambiguous { .. } | Self::NoTerminal(_) | Self::ExecInfo | Self::NameTaken { .. } => {
                Exit::Usage
            }
            Self::NotFound { .. } => Exit::NotFound,
            Self::NotSignedIn(_) | Self::NoServer | Self::SignInRefused(_) | Self::PasswordChangeRequired => {
                Exit::Denied
            }
            Self::UpgradeLost => Exit::Unreachable,
            Self::NotReady(_) => Exit::NotReady,
            Self::Api(error) => error.exit(),
            Self::Trust(error) => error.exit(),
            Self::NotConfirmed
            | Self::PasswordsDiffer
            | Self::Answer(_)
            | Self::Config(_)
            | Self::Merge(_)
            | Self::Write(_)
            | Self::Io(_)
            | Self::Render(_) => Exit::Failure,
        }
    }

    /// Whether a server of another version could be the reason: it does not understand us, or we do not understand it.
    #[must_use]
    pub fn may_be_skew(&self) -> bool {
        let unread = matches!(
            self,
            Self::Answer(_)
                | Self::Api(ApiError::Answer { .. } | ApiError::Status { status: 400 | 405 | 406 | 415, .. })
        );
        // A 404 without a reason is of something that knows no Kubernetes API at this path.
        unread || matches!(self, Self::Api(ApiError::Status { status: 404, reason, .. }) if reason.is_empty())
    }

    /// What the person can do now.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        let text = match self {
            Self::NoServer => "sign in first: cattle login https://SERVER",
            Self::NotSignedIn(server) => return Some(format!("sign in: cattle login {server}")),
            Self::ExecInfo => "set apiVersion to client.authentication.k8s.io/v1beta1 in the kubeconfig",
            Self::NameTaken { .. } => "choose another name with --name",
            Self::Config(error) => return error.next_step(),
            Self::PasswordsDiffer => "nothing was changed; try again",
            Self::Ambiguous { .. } => "use the id",
            Self::SignInRefused(_) => "check the name and the password; an administrator can set another one",
            Self::PasswordChangeRequired => {
                "run `cattle login` on a terminal, or give the new password as a second line to --password-stdin"
            }
            Self::NotFound { kind: "cluster", .. } => "cattle cluster list shows the clusters that you may enter",
            Self::NotFound { kind: "user", .. } => {
                "cattle user list shows the users that you may see; others are named by id (u-…)"
            }
            Self::NotFound { kind: "such member", .. } => "cattle cluster member list CLUSTER shows who is",
            Self::Answer(_) => "cattle whoami shows the server, and its version",
            Self::NoTerminal(_) => "run it on a terminal, or see --help for what to give instead",
            Self::Api(error) => return error.next_step(),
            Self::Trust(error) => return error.next_step(),
            Self::Merge(error) => return error.next_step(),
            Self::Write(error) => return error.next_step(),
            Self::Usage(_) => "cattle --help, or COMMAND --help, shows how",
            Self::UpgradeLost => {
                "let the load balancer or proxy before the server pass `Connection: Upgrade` on: agents, exec and port-forward need it"
            }
            Self::NotReady(_) => "cattle cluster status NAME shows every hop; wait longer with --timeout",
            Self::NotFound { .. } | Self::NotConfirmed | Self::Io(_) | Self::Render(_) => return None,
        };
        Some(text.to_owned())
    }
}
