//! What an agent has to be told to be connected.

use std::path::PathBuf;

use cattle_proto::id::ClusterId;
use clap::Args;

use crate::credential::TokenFile;
use crate::proxy::{NoProxy, ProxySettings, ProxyUrl};
use crate::server_url::ServerUrl;
use crate::trust::{CaChecksum, Trust};

/// Name of the registration token's file in the credentials directory.
const REGISTRATION_TOKEN: &str = "token";

/// Arguments of every agent, to flatten. Empty values count as absent, since manifests write empty variables.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// The server, https only
    #[arg(long, env = "CATTLE_SERVER", value_name = "URL")]
    server: ServerUrl,

    /// SHA-256 of the server's CA certificates as `/v3/settings/cacerts` shows them; absent: the system's roots
    #[arg(long, env = "CATTLE_CA_CHECKSUM", value_name = "HEX", value_parser = optional::<CaChecksum>)]
    ca_checksum: Option<Given<CaChecksum>>,

    /// Id of the cluster that the agent is in
    #[arg(long, env = "CATTLE_CLUSTER_ID", value_name = "ID", value_parser = cluster_id)]
    cluster_id: ClusterId,

    /// Install id of the server; with the cluster's id it is the audience of the agent's token
    #[arg(long, env = "CATTLE_SERVER_ID", value_name = "ID")]
    server_id: String,

    /// File with the agent's own projected service-account token; it is read again whenever it is needed
    #[arg(
        long,
        env = "CATTLE_TOKEN_FILE",
        value_name = "FILE",
        default_value = "/var/run/secrets/cattle.io/agent/token"
    )]
    token_file: PathBuf,

    /// Directory whose file `token` holds the registration token; the file may be missing
    #[arg(long, env = "CATTLE_CREDENTIALS_DIR", value_name = "DIR", default_value = "/cattle-credentials")]
    credentials_dir: PathBuf,

    /// File with the registration token, instead of the one in the credentials directory
    #[arg(long, env = "CATTLE_REGISTRATION_TOKEN_FILE", value_name = "FILE")]
    registration_token_file: Option<PathBuf>,

    #[command(flatten)]
    proxy: ProxyArgs,
}

/// `HTTPS_PROXY` and `NO_PROXY`, in capitals or not; capitals win.
#[derive(Args, Clone, Debug)]
struct ProxyArgs {
    /// HTTP proxy to the server: http://[USER:PASSWORD@]HOST:PORT
    #[arg(long, env = "HTTPS_PROXY", hide_env_values = true, value_name = "URL", value_parser = optional::<ProxyUrl>)]
    https_proxy: Option<Given<ProxyUrl>>,

    #[arg(id = "https_proxy_lower", long = "https-proxy-lower", env = "https_proxy", hide = true, value_parser = optional::<ProxyUrl>)]
    https_proxy_lower: Option<Given<ProxyUrl>>,

    /// Servers that are reached without the proxy: names, addresses and networks, separated by commas
    #[arg(long, env = "NO_PROXY", value_name = "LIST")]
    no_proxy: Option<NoProxy>,

    #[arg(id = "no_proxy_lower", long = "no-proxy-lower", env = "no_proxy", hide = true)]
    no_proxy_lower: Option<NoProxy>,
}

/// What an agent knows about its connection: [`ConnectArgs`], checked.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// The server.
    pub server: ServerUrl,
    /// What the server's certificate is checked against.
    pub trust: Trust,
    /// The agent's cluster.
    pub cluster: ClusterId,
    /// Audience that the agent's projected token must have: this server and this cluster.
    pub audience: String,
    /// The agent's projected token.
    pub token: TokenFile,
    /// The registration token; the file may be absent.
    pub registration_token: TokenFile,
    /// The way to the server.
    pub proxy: ProxySettings,
}

impl From<ConnectArgs> for ConnectConfig {
    fn from(args: ConnectArgs) -> Self {
        let ConnectArgs {
            server,
            ca_checksum,
            cluster_id,
            server_id,
            token_file,
            credentials_dir,
            registration_token_file,
            proxy: ProxyArgs { https_proxy, https_proxy_lower, no_proxy, no_proxy_lower },
        } = args;
        Self {
            server,
            trust: ca_checksum.and_then(|given| given.0).map_or(Trust::System, Trust::Checksum),
            audience: format!("cattle:{cluster_id}:{server_id}"),
            cluster: cluster_id,
            token: TokenFile::new(token_file),
            registration_token: TokenFile::new(
                registration_token_file.unwrap_or_else(|| credentials_dir.join(REGISTRATION_TOKEN)),
            ),
            proxy: ProxySettings {
                https_proxy: https_proxy.and_then(|given| given.0).or_else(|| https_proxy_lower?.0),
                no_proxy: no_proxy.or(no_proxy_lower).unwrap_or_default(),
            },
        }
    }
}

/// A value that was given, perhaps as an empty text.
#[derive(Clone, Debug)]
struct Given<T>(Option<T>);

fn optional<T: std::str::FromStr>(text: &str) -> Result<Given<T>, T::Err> {
    if text.trim().is_empty() { Ok(Given(None)) } else { text.trim().parse().map(|value| Given(Some(value))) }
}

fn cluster_id(text: &str) -> Result<ClusterId, &'static str> {
    text.parse().map_err(|_| "not a cluster id (c- and 5 to 40 of a-z, 0-9 and -)")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        connect: ConnectArgs,
    }

    const REQUIRED: [&str; 4] = ["test", "--server=https://cattle.example", "--cluster-id=c-abcde", "--server-id=7f0c"];

    fn parse(more: &[&str]) -> Result<ConnectConfig, clap::Error> {
        Command::try_parse_from(REQUIRED.iter().chain(more)).map(|command| command.connect.into())
    }

    #[test]
    fn the_least_is_server_cluster_and_server_id() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.audience, "cattle:c-abcde:7f0c");
        assert!(matches!(config.trust, Trust::System));
        assert_eq!(config.registration_token.path(), Path::new("/cattle-credentials/token"));
        assert!(Command::try_parse_from(&REQUIRED[..3]).is_err());
    }

    #[test]
    fn an_empty_checksum_is_none_and_a_wrong_one_an_error() {
        assert!(matches!(parse(&["--ca-checksum="]).unwrap().trust, Trust::System));
        let checksum = format!("--ca-checksum={}", "Ab".repeat(32));
        assert!(matches!(parse(&[&checksum]).unwrap().trust, Trust::Checksum(_)));
        assert!(parse(&["--ca-checksum=abcd"]).is_err());
    }

    #[test]
    fn plain_http_and_wrong_ids_are_refused() {
        assert!(
            Command::try_parse_from(["test", "--server=http://a", "--cluster-id=c-abcde", "--server-id=x"]).is_err()
        );
        assert!(Command::try_parse_from(["test", "--server=https://a", "--cluster-id=../x", "--server-id=x"]).is_err());
    }

    #[test]
    fn a_proxy_password_is_not_repeated_by_an_error() {
        let error = parse(&["--https-proxy=https://user:hunter2@proxy"]).unwrap_err();
        // clap itself repeats what was typed on the command line; the environment is hidden from help output only.
        assert!(error.to_string().contains("http://"));
        let config = parse(&["--https-proxy=http://user:hunter2@proxy:3128", "--no-proxy=.local"]).unwrap();
        assert!(config.proxy.https_proxy.is_some());
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
