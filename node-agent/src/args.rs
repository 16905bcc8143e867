//! Flags and environment of the binary.

use std::net::SocketAddr;
use std::path::PathBuf;

use cattle_agent::args::ArgumentError;
use cattle_agent::{Address, ConnectArgs, ConnectConfig, InvalidAddress};
use cattle_runtime::{AdminArgs, LogArgs};
use clap::{Parser, Subcommand, ValueEnum};

use crate::api_server::Places;
use crate::node_file::{NodeFile, NodeFileError};

/// Keeps a node of a Kubernetes cluster connected to its management server.
///
/// Every flag has an environment variable, and inside a pod of the import manifest all of them are set.
#[derive(Parser, Clone, Debug)]
#[command(name = "cattle-node-agent", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What the binary can do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Keep the node connected
    Run(RunArgs),
    /// Try each step of a connection once and print what came out; fails if any step does
    Doctor {
        /// What to try.
        #[command(flatten)]
        args: RunArgs,
        /// Form of the output
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: OutputFormat,
    },
    /// Write down what the agent may know of this node's own files: where the kubelet finds the API server, the
    /// distribution, its roles and the operating system. Nothing else of them leaves this command
    Inspect {
        /// The node's root
        #[arg(long, env = "CATTLE_NODE_ROOT", value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// The file to write
        #[arg(long, env = "CATTLE_NODE_FILE", value_name = "FILE")]
        file: PathBuf,
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

/// What a running agent has to be told.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    admin: AdminArgs,

    #[command(flatten)]
    connect: ConnectArgs,

    #[command(flatten)]
    kubernetes: KubernetesArgs,
}

/// Where the cluster's own API server is: all of them are tried, in this order.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Kubernetes")]
struct KubernetesArgs {
    /// An API server on this node
    #[arg(long, env = "CATTLE_LOCAL_API_SERVER", value_name = "HOST:PORT", default_value = "127.0.0.1:6443")]
    local_api_server: Address,

    /// File with what `inspect` has found on this node
    #[arg(long, env = "CATTLE_NODE_FILE", value_name = "FILE")]
    node_file: Option<PathBuf>,

    /// Host of the service address, as Kubernetes sets it in every pod
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_name = "HOST")]
    kubernetes_service_host: Option<String>,

    /// Port of the service address
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", value_name = "PORT", default_value_t = 443)]
    kubernetes_service_port: u16,
}

/// What the agent needs to know: [`RunArgs`], checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the admin listener listens.
    pub admin_listen: SocketAddr,
    /// The server.
    pub connect: ConnectConfig,
    /// Where the cluster's API server is looked for, nearest first.
    pub api_servers: Vec<Address>,
    /// What the inspection has found on this node.
    pub node: NodeFile,
}

impl TryFrom<RunArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: RunArgs) -> Result<Self, Self::Error> {
        let RunArgs { admin: AdminArgs { admin_listen }, connect, kubernetes } = args;
        let KubernetesArgs {
            local_api_server,
            node_file,
            kubernetes_service_host: host,
            kubernetes_service_port: port,
        } = kubernetes;
        let node = match &node_file {
            Some(file) => {
                NodeFile::read(file).map_err(|source| ConfigError::NodeFile { file: file.clone(), source })?
            }
            None => NodeFile::default(),
        };
        let kubelet = node.api_server().map_err(ConfigError::Kubelet)?;
        let service = host.filter(|host| !host.is_empty()).map(|host| Address::new(&host, port)).transpose()?;
        let places = Places { local: Some(local_api_server), kubelet, service };
        Ok(Self { admin_listen, connect: connect.try_into()?, api_servers: places.addresses(), node })
    }
}

/// The arguments cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Those of the connection.
    #[error(transparent)]
    Connect(#[from] ArgumentError),
    /// The service address.
    #[error("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are {0}")]
    Service(#[from] InvalidAddress),
    /// The kubelet's API server.
    #[error("the kubelet's API server in CATTLE_NODE_FILE is {0}")]
    Kubelet(#[source] InvalidAddress),
    /// What the init container has left.
    #[error("{} (CATTLE_NODE_FILE) cannot be used", file.display())]
    NodeFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: NodeFileError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: [&str; 5] =
        ["agent", "run", "--server=https://cattle.example", "--cluster-id=c-abcde", "--server-id=7f0c"];

    fn addresses(more: &[&str]) -> Vec<String> {
        let args = Args::try_parse_from(CONNECT.iter().chain(more)).unwrap();
        let Command::Run(args) = args.command else { panic!("another command") };
        Config::try_from(args).unwrap().api_servers.iter().map(Address::to_string).collect()
    }

    #[test]
    fn the_api_server_is_looked_for_here_then_at_the_kubelets_then_at_the_service() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("node.json");
        std::fs::write(&file, r#"{"apiServer": "10.0.0.1:6443"}"#).unwrap();
        let file = format!("--node-file={}", file.display());
        assert_eq!(
            addresses(&["--kubernetes-service-host=fd00::1", &file]),
            ["127.0.0.1:6443", "10.0.0.1:6443", "[fd00::1]:443"]
        );
        assert_eq!(addresses(&["--local-api-server=127.0.0.1:7443"]), ["127.0.0.1:7443"]);
        assert_eq!(addresses(&["--kubernetes-service-host="]), ["127.0.0.1:6443"]);
    }

    #[test]
    fn the_arguments_are_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
