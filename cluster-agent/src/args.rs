//! Flags and environment of the binary.

use std::net::SocketAddr;
use std::path::PathBuf;

use cattle_agent::args::ArgumentError;
use cattle_agent::{Address, ConnectArgs, ConnectConfig, InvalidAddress};
use cattle_proto::id::ServerName;
use cattle_runtime::{AdminArgs, LogArgs};
use clap::{Parser, Subcommand, ValueEnum};

use crate::kubernetes::ApiServerConfig;

/// Connects a Kubernetes cluster to its management server.
///
/// Every flag has an environment variable, and inside a pod of the import manifest all of them are set. Outside a pod the
/// files may lie anywhere; certificates are verified all the same.
#[derive(Parser, Clone, Debug)]
#[command(name = "cattle-cluster-agent", version)]
pub struct Args {
    /// What to do; `run` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,

    #[command(flatten)]
    admin: AdminArgs,

    #[command(flatten)]
    connect: ConnectArgs,

    #[command(flatten)]
    kubernetes: KubernetesArgs,
}

/// What the binary can do.
#[derive(Subcommand, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Keep the cluster connected (the default)
    Run,
    /// Try each step of a connection once and print what came out; fails if any step does
    Doctor {
        /// Form of the output
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: OutputFormat,
    },
}

/// Form of an output.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OutputFormat {
    /// A table for people.
    Table,
    /// JSON for programs.
    Json,
}

/// Where the cluster's own API server is, and how the agent shows it who it is.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Kubernetes")]
struct KubernetesArgs {
    /// Host of the cluster's API server, as Kubernetes sets it in every pod
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_name = "HOST", required_unless_present = "kubernetes_address")]
    kubernetes_service_host: Option<String>,

    /// Port of the cluster's API server
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", value_name = "PORT", default_value_t = 443)]
    kubernetes_service_port: u16,

    /// Address of the API server, instead of host and port
    #[arg(long, env = "CATTLE_KUBERNETES_ADDRESS", value_name = "HOST:PORT")]
    kubernetes_address: Option<Address>,

    /// File with the cluster's CA certificates
    #[arg(
        long,
        env = "CATTLE_KUBERNETES_CA_FILE",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    )]
    kubernetes_ca_file: PathBuf,

    /// Name that the API server's certificate bears
    #[arg(
        long,
        env = "CATTLE_KUBERNETES_SERVER_NAME",
        value_name = "NAME",
        default_value = "kubernetes.default.svc",
        value_parser = server_name
    )]
    kubernetes_server_name: ServerName,

    /// File with the agent's token for its own API server
    #[arg(
        long,
        env = "CATTLE_SERVICE_ACCOUNT_TOKEN_FILE",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    service_account_token_file: PathBuf,
}

/// What the agent needs to know: [`Args`], checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the admin listener listens.
    pub admin_listen: SocketAddr,
    /// The server.
    pub connect: ConnectConfig,
    /// The cluster's own API server.
    pub kubernetes: ApiServerConfig,
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, Self::Error> {
        let Args { command: _, log: _, admin: AdminArgs { admin_listen }, connect, kubernetes } = args;
        let KubernetesArgs {
            kubernetes_service_host,
            kubernetes_service_port,
            kubernetes_address,
            kubernetes_ca_file,
            kubernetes_server_name,
            service_account_token_file,
        } = kubernetes;
        let address = match (kubernetes_address, kubernetes_service_host) {
            (Some(address), _) => Ok(address),
            (None, host) => Address::new(&host.unwrap_or_default(), kubernetes_service_port),
        };
        let address = address?;
        Ok(Self {
            admin_listen,
            connect: connect.try_into()?,
            kubernetes: ApiServerConfig {
                address,
                ca_file: kubernetes_ca_file,
                server_name: kubernetes_server_name,
                token_file: service_account_token_file,
            },
        })
    }
}

/// The arguments cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Those of the connection.
    #[error(transparent)]
    Connect(#[from] ArgumentError),
    /// The API server's address.
    #[error(
        "the API server's address (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, or CATTLE_KUBERNETES_ADDRESS) is {0}"
    )]
    Address(#[from] InvalidAddress),
}

fn server_name(text: &str) -> Result<ServerName, &'static str> {
    text.parse().map_err(|_| "not a DNS name")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: [&str; 4] = ["agent", "--server=https://cattle.example", "--cluster-id=c-abcde", "--server-id=7f0c"];

    fn parse(more: &[&str]) -> Result<(Option<Command>, Config), cattle_agent::BoxError> {
        let args = Args::try_parse_from(CONNECT.iter().chain(more))?;
        Ok((args.command, args.try_into()?))
    }

    #[test]
    fn a_pods_environment_is_enough() {
        let (command, config) =
            parse(&["--kubernetes-service-host=fd00::1", "--kubernetes-service-port=6443"]).unwrap();
        assert_eq!(command, None);
        assert_eq!(config.kubernetes.address.to_string(), "[fd00::1]:6443");
        assert_eq!(config.kubernetes.server_name.as_str(), "kubernetes.default.svc");
    }

    #[test]
    fn an_address_replaces_host_and_port() {
        let (_, config) =
            parse(&["--kubernetes-address=127.0.0.1:6443", "--kubernetes-service-host=10.0.0.1"]).unwrap();
        assert_eq!(config.kubernetes.address.to_string(), "127.0.0.1:6443");
        assert!(parse(&[]).is_err(), "no API server at all");
        assert!(parse(&["--kubernetes-service-host=a b"]).is_err());
        assert!(parse(&["--kubernetes-address=127.0.0.1"]).is_err());
    }

    #[test]
    fn doctor_is_a_command_after_the_flags() {
        let more = ["--kubernetes-service-host=10.0.0.1", "doctor", "-o", "json", "--log-level=debug"];
        let (command, _) = parse(&more).unwrap();
        assert_eq!(command, Some(Command::Doctor { output: OutputFormat::Json }));
    }

    #[test]
    fn the_arguments_are_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
