//! What an agent has to be told to be connected.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use cattle_proto::id::ClusterId;
use clap::Args;

use crate::BoxError;
use crate::credential::TokenFile;
use crate::proxy::{NoProxy, ProxySettings, ProxyUrl};
use crate::server_url::ServerUrl;
use crate::trust::{CaChecksum, Trust};

/// Name of the registration token's file in the credentials directory.
const REGISTRATION_TOKEN: &str = "token";

/// Arguments of every agent, to flatten. Empty values count as absent, since manifests write empty variables.
///
/// Values that may hold a password are parsed only when [`ConnectConfig`] is made: clap repeats a value that it refuses.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// The server, https only
    #[arg(long, env = "CATTLE_SERVER", value_name = "URL", value_parser = unjudged::<ServerUrl>)]
    server: Unjudged<ServerUrl>,

    /// SHA-256 of the server's CA certificates as `/v3/settings/cacerts` shows them; absent: the system's roots
    #[arg(long, env = "CATTLE_CA_CHECKSUM", value_name = "HEX", value_parser = unjudged::<CaChecksum>)]
    ca_checksum: Option<Unjudged<CaChecksum>>,

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
    /// HTTP proxy to the server: http://[USER:PASSWORD@]HOST:PORT; with a password use the environment
    #[arg(long, env = "HTTPS_PROXY", hide_env_values = true, value_name = "URL", value_parser = unjudged::<ProxyUrl>)]
    https_proxy: Option<Unjudged<ProxyUrl>>,

    #[arg(long, env = "https_proxy", hide_env_values = true, hide = true, value_parser = unjudged::<ProxyUrl>)]
    https_proxy_lower: Option<Unjudged<ProxyUrl>>,

    /// Servers that are reached without the proxy: names, addresses and networks, separated by commas
    #[arg(long, env = "NO_PROXY", value_name = "LIST")]
    no_proxy: Option<NoProxy>,

    #[arg(long, env = "no_proxy", hide = true)]
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

impl TryFrom<ConnectArgs> for ConnectConfig {
    type Error = ArgumentError;

    fn try_from(args: ConnectArgs) -> Result<Self, Self::Error> {
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
        let server = judged("CATTLE_SERVER", Some(server))?.ok_or(ArgumentError::Missing("CATTLE_SERVER"))?;
        let https_proxy = judged("HTTPS_PROXY", https_proxy)?
            .map_or_else(|| judged("https_proxy", https_proxy_lower), |proxy| Ok(Some(proxy)))?;
        let in_credentials = || credentials_dir.join(REGISTRATION_TOKEN);
        Ok(Self {
            server,
            trust: judged("CATTLE_CA_CHECKSUM", ca_checksum)?.map_or(Trust::System, Trust::Checksum),
            audience: format!("cattle:{cluster_id}:{server_id}"),
            cluster: cluster_id,
            token: TokenFile::new(token_file),
            registration_token: TokenFile::new(registration_token_file.unwrap_or_else(in_credentials)),
            proxy: ProxySettings { https_proxy, no_proxy: no_proxy.or(no_proxy_lower).unwrap_or_default() },
        })
    }
}

/// An argument cannot be used. The value itself may hold a password and is not repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// It has another form.
    #[error("{name} (or its flag) cannot be used")]
    Invalid {
        /// Its environment variable.
        name: &'static str,
        /// What is wrong.
        source: BoxError,
    },
    /// It is empty.
    #[error("{0} (or its flag) is empty")]
    Missing(&'static str),
}

/// What came of parsing a value: nothing for an empty text, or the error, for later.
#[derive(Clone)]
struct Unjudged<T>(Result<Option<T>, Arc<dyn Error + Send + Sync>>);

impl<T> fmt::Debug for Unjudged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unjudged")
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap's parsers return a `Result`")]
fn unjudged<T>(text: &str) -> Result<Unjudged<T>, Infallible>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let parse = |text: &str| text.parse().map(Some).map_err(|error| Arc::new(error) as _);
    Ok(Unjudged(if text.trim().is_empty() { Ok(None) } else { parse(text.trim()) }))
}

fn judged<T>(name: &'static str, value: Option<Unjudged<T>>) -> Result<Option<T>, ArgumentError> {
    let invalid = |source: Arc<dyn Error + Send + Sync>| ArgumentError::Invalid { name, source: Box::new(source) };
    value.map_or(Ok(None), |Unjudged(value)| value.map_err(invalid))
}

fn cluster_id(text: &str) -> Result<ClusterId, &'static str> {
    text.parse().map_err(|_| "not a cluster id (c- and 5 to 40 of a-z, 0-9 and -)")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cattle_runtime::ErrorChain as _;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        connect: ConnectArgs,
    }

    const REQUIRED: [&str; 4] = ["test", "--server=https://cattle.example", "--cluster-id=c-abcde", "--server-id=7f0c"];

    fn parse(more: &[&str]) -> Result<ConnectConfig, BoxError> {
        let command = Command::try_parse_from(REQUIRED.iter().chain(more))?;
        Ok(command.connect.try_into()?)
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
    fn plain_http_no_server_and_wrong_ids_are_refused() {
        for (server, cluster, error) in [
            (
                "http://a",
                "c-abcde",
                "CATTLE_SERVER (or its flag) cannot be used: the server URL must begin with https://",
            ),
            ("", "c-abcde", "CATTLE_SERVER (or its flag) is empty"),
        ] {
            let (server, cluster) = (format!("--server={server}"), format!("--cluster-id={cluster}"));
            let command = Command::try_parse_from(["test", &server, &cluster, "--server-id=x"]).unwrap();
            let refused = ConnectConfig::try_from(command.connect).unwrap_err();
            assert_eq!(refused.chain().to_string(), error);
        }
        assert!(Command::try_parse_from(["test", "--server=https://a", "--cluster-id=../x", "--server-id=x"]).is_err());
    }

    #[test]
    fn a_password_is_in_no_error_and_no_debug_output() {
        for proxy in ["--https-proxy=https://user:hunter2@proxy", "--https-proxy-lower=://user:hunter2@proxy"] {
            let error = parse(&[proxy]).unwrap_err();
            assert!(error.chain().to_string().contains("(or its flag) cannot be used: "), "{}", error.chain());
            assert!(!format!("{} {error:?}", error.chain()).contains("hunter2"), "{error:?}");
        }
        let command =
            Command::try_parse_from(REQUIRED.iter().chain(&["--https-proxy=http://user:hunter2@proxy"])).unwrap();
        assert!(!format!("{:?}", command.connect).contains("hunter2"));
        let config = ConnectConfig::try_from(command.connect).unwrap();
        assert!(config.proxy.https_proxy.is_some() && !format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn capitals_win_and_an_empty_value_is_none() {
        let shown = |more: &[&str]| parse(more).unwrap().proxy.https_proxy.map(|proxy| proxy.to_string());
        assert_eq!(shown(&["--https-proxy=a:1", "--https-proxy-lower=b:2"]).as_deref(), Some("http://a:1"));
        assert_eq!(shown(&["--https-proxy=", "--https-proxy-lower=b:2"]).as_deref(), Some("http://b:2"));
        assert_eq!(shown(&[]), None);
    }
}
