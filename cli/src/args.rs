//! The command line.

mod cluster;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::cluster::{ClusterCommand, MemberCommand, WaitFor};
use crate::trust::CaChecksum;

const AFTER: &str = "\
First steps:
  cattle login https://cattle.example.com
  cattle cluster create prod            # prints what to run where the cluster is
  cattle cluster wait prod
  cattle kubeconfig prod --merge
  kubectl --context prod get nodes

Exit codes:
  0 done          3 does not exist              5 not ready in time
  1 failed        4 not signed in or permitted  6 server unreachable or not trusted
  2 wrong usage

Results go to standard output, everything else to standard error. -o json and -o yaml show
the server's objects as they are; when a command fails, standard output stays empty.";

/// Reach Kubernetes clusters that nobody can reach from outside.
#[derive(Debug, Parser)]
#[command(name = "cattle", version, after_help = AFTER, disable_help_subcommand = true)]
pub struct Cli {
    /// The server, by name or URL, instead of the current one
    #[arg(long, global = true, value_name = "SERVER", env = "CATTLE_SERVER")]
    pub server: Option<String>,
    /// Where servers and tokens are remembered
    #[arg(long, global = true, value_name = "FILE", env = "CATTLE_CLI_CONFIG")]
    pub config: Option<PathBuf>,
    /// No colours (see no-color.org)
    #[arg(long, global = true, hide_env_values = true)]
    pub no_color: bool,
    /// The environment variable; any value but the empty one counts
    #[arg(long = "no-color-env", hide = true, env = "NO_COLOR")]
    pub no_color_env: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign in at a server and remember it
    Login(LoginArgs),
    /// End the session and forget its token
    #[command(after_help = "\
Examples:
  cattle logout
  cattle logout --server cattle.example.com

The pinned CA is kept: the next sign-in trusts it and no other.")]
    Logout,
    /// Show who you are at the server
    #[command(after_help = "\
Examples:
  cattle whoami
  cattle whoami -o json | jq -r .status.userInfo.username")]
    Whoami(OutputArgs),
    /// Walk the way of a request, and say which step fails
    #[command(after_help = "\
Examples:
  cattle doctor              # as far as the server
  cattle doctor prod         # through the server and an agent, into a cluster
  cattle doctor prod -o json | jq -r '.steps[] | [.name, .microseconds] | @tsv'

dns, tcp, tls, http, upgrade, authentication, session, api-server, impersonation: each is
tried once, with its time. What follows the step that fails is not tried.")]
    Doctor {
        /// Name or id of a cluster
        cluster: Option<String>,
        /// How to show the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Register, look at, and delete clusters
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Get a kubeconfig for a cluster, or for the server itself
    Kubeconfig(KubeconfigArgs),
    /// Manage users
    #[command(subcommand)]
    User(UserCommand),
    /// Manage API tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  cattle completion bash > ~/.local/share/bash-completion/completions/cattle
  cattle completion zsh > ~/.zfunc/_cattle       # with fpath+=(~/.zfunc) before compinit
  cattle completion fish > ~/.config/fish/completions/cattle.fish")]
    Completion {
        /// Which shell
        shell: Shell,
    },
}

/// `cattle login`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cattle login https://cattle.example.com
  cattle login cattle.example.com --username ann --password-stdin < password-file
  cattle login cattle.example.com --ca-checksum 6b2d… --token-stdin < token-file

A server with a CA of its own is pinned at the first sign-in: its checksum is shown
and must be confirmed, or given with --ca-checksum. From then on only this CA is
trusted for this server. There is no way to skip the check.

When the server demands another password (always at the first sign-in), it is asked
for on a terminal; with --password-stdin it is the second line.")]
pub struct LoginArgs {
    /// The server's URL: https://HOST or https://HOST:PORT
    pub url: String,
    /// Who you are; asked for when missing
    #[arg(long, short)]
    pub username: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long, conflicts_with = "token_stdin")]
    pub password_stdin: bool,
    /// Read an API token (name:secret) from standard input instead
    #[arg(long)]
    pub token_stdin: bool,
    /// SHA-256 of the server's CA certificates, 64 hex digits
    #[arg(long, value_name = "SHA256")]
    pub ca_checksum: Option<CaChecksum>,
    /// What to call the server here; host and port of the URL when missing
    #[arg(long)]
    pub name: Option<String>,
}

/// How results are shown.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct OutputArgs {
    /// How to show the result
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// A form of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// The objects as JSON
    Json,
    /// The objects as YAML
    Yaml,
    /// Names only, one a line
    Name,
}

/// `cattle kubeconfig`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cattle kubeconfig prod --merge              # into $KUBECONFIG or ~/.kube/config
  cattle kubeconfig prod --merge --use        # and make it the current context
  cattle kubeconfig prod --file prod.yaml
  cattle kubeconfig --merge                   # the server itself: kubectl get clusters
  KUBECONFIG=<(cattle kubeconfig prod) kubectl get nodes

Merging keeps everything that is in the file, also comments and order; the file before the
change stays beside it as FILE.cattle-backup. Of several files in $KUBECONFIG the one that
has the cluster already is changed, else the first that exists, as kubectl does.")]
pub struct KubeconfigArgs {
    /// Name or id; the server's own API when missing
    pub cluster: Option<String>,
    /// Write to a new file (mode 0600)
    #[arg(long, conflicts_with = "merge")]
    pub file: Option<PathBuf>,
    /// Put it into the kubeconfig that kubectl uses
    #[arg(long)]
    pub merge: bool,
    /// With --merge: make it the current context
    #[arg(long, requires = "merge")]
    pub r#use: bool,
    /// What to call the context instead of the cluster's name
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// How long its token lasts: 8h, 30d; the server's setting when missing
    #[arg(long, value_parser = parse_duration)]
    pub ttl: Option<Duration>,
    /// As kubectl reads it
    #[arg(long, hide = true, env = "KUBECONFIG")]
    pub kubeconfig: Option<std::ffi::OsString>,
}

/// `cattle user …`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user
    #[command(after_help = "\
Examples:
  cattle user create ann
  cattle user create ops --admin --password-stdin < password-file

The user must set another password at the first sign-in.")]
    Create {
        /// What the user signs in with
        username: String,
        /// The name that people see
        #[arg(long, default_value = "")]
        display_name: String,
        /// Make the user an administrator
        #[arg(long)]
        admin: bool,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// The password may stay as it is
        #[arg(long)]
        keep_password: bool,
        /// How to show the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set a password: your own, or as an administrator somebody's
    #[command(after_help = "\
Examples:
  cattle user passwd
  cattle user passwd ann
  cattle user passwd --password-stdin < two-lines

With --password-stdin the lines are the current and the new password; for somebody else
the new one only. A password has at least as many characters as the server's setting
password-min-length says (12), and is none of those that are guessed first.")]
    Passwd {
        /// Whose; your own when missing
        user: Option<String>,
        /// Read from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Refuse a user's sign-ins and tokens, and end what runs
    #[command(after_help = "Example:\n  cattle user disable ann")]
    Disable {
        /// Sign-in name or id
        user: String,
    },
    /// Let a disabled user in again
    #[command(after_help = "Example:\n  cattle user enable ann")]
    Enable {
        /// Sign-in name or id
        user: String,
    },
    /// List users
    #[command(visible_alias = "ls", after_help = "Example:\n  cattle user list -o json | jq -r '.items[].username'")]
    List(OutputArgs),
    /// Delete a user
    #[command(visible_alias = "rm", after_help = "Example:\n  cattle user delete ann --yes")]
    Delete {
        /// Sign-in name or id
        user: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `cattle token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make an API token and print it, once
    #[command(after_help = "\
Example:
  cattle token create --description ci --ttl 30d --cluster prod > ci-token")]
    Create {
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// How long it lasts: 8h, 30d; the longest that is allowed when missing
        #[arg(long, value_parser = parse_duration)]
        ttl: Option<Duration>,
        /// Good for this cluster only, and not for the server's own API
        #[arg(long)]
        cluster: Option<String>,
    },
    /// List your tokens
    #[command(visible_alias = "ls", after_help = "Example:\n  cattle token list")]
    List(OutputArgs),
    /// End tokens; what runs with them ends
    #[command(after_help = "Example:\n  cattle token revoke token-abcde token-fghij")]
    Revoke {
        /// Names, token-…
        #[arg(required = true)]
        tokens: Vec<String>,
    },
    /// Print the session's token for kubectl, which runs this by itself
    #[command(after_help = "\
A kubeconfig that was made while the setting kubeconfig-generate-token is false holds no
token: kubectl (1.20 and later) runs `cattle token exec --server URL` for each command
and gets the token of the session at that server. Without a session it asks for the
password, where there is a terminal.

Example of such a kubeconfig's user:
  exec:
    apiVersion: client.authentication.k8s.io/v1beta1
    command: cattle
    args: [token, exec, --server, https://cattle.example.com]
    interactiveMode: IfAvailable
    provideClusterInfo: true")]
    Exec {
        /// What kubectl says about itself
        #[arg(long, hide = true, env = "KUBERNETES_EXEC_INFO", hide_env_values = true)]
        info: Option<String>,
    },
}

/// `30s`, `10m`, `2h`, `7d`; a plain number is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 30s, 10m, 2h or 7d");
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    // Ten years; longer lives are nobody's wish, and sums with it stay in every range.
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=315_360_000).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Whoever asks for help gets something to copy.
    #[test]
    fn every_command_shows_an_example() {
        fn visit(path: &str, command: &clap::Command) {
            let path = format!("{path} {}", command.get_name());
            if !command.has_subcommands() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                let shows = |line: &str| line.trim_start() == path || line.contains(&format!("{path} "));
                assert!(help.lines().any(shows), "{path}: {help}");
            }
            let widest = command.get_after_help().map(|help| help.to_string()).unwrap_or_default();
            let widest = widest.lines().map(|line| line.chars().count()).max().unwrap_or_default();
            assert!(widest <= 92, "{path}: a line of {widest} characters");
            command.get_subcommands().for_each(|inner| visit(&path, inner));
        }
        Cli::command().get_subcommands().for_each(|command| visit("cattle", command));
    }

    #[test]
    fn durations() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs()).ok();
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("10m"), Some(600));
        assert_eq!(seconds("2h"), Some(7200));
        assert_eq!(seconds("7d"), Some(604_800));
        assert_eq!(seconds("45"), Some(45));
        for bad in ["", "s", "-1s", "1.5h", "1w", "0", "99999999999999999999d", "10 m", "1h30m", "ä"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    /// A secret in argv is in every process list: no flag takes one.
    #[test]
    fn no_flag_takes_a_secret() {
        fn visit(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let takes_value = argument.get_action().takes_values();
                let names_a_secret = name.contains("password") || (name.contains("token") && name != "tokens");
                assert!(!(names_a_secret && takes_value), "{} {name}", command.get_name());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
