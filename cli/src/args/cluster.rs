//! `cattle cluster …` on the command line.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::{OutputArgs, parse_duration};
use crate::trust::CaChecksum;

/// `cattle cluster …`
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster record and print how to register the cluster
    #[command(after_help = "\
Example:
  cattle cluster create prod --description 'the shop'

What is printed is run once, where a kubectl with administrator rights reaches the
cluster. It holds a registration token that is good for a day and for this cluster.")]
    Create {
        /// What to call it
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// How to show the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List the clusters that you may enter
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  cattle cluster list
  cattle cluster list -o json | jq -r '.items[].spec.displayName'"
    )]
    List(OutputArgs),
    /// Show a cluster's state, hop by hop, and why
    #[command(after_help = "\
Examples:
  cattle cluster status prod
  cattle cluster status prod -o json | jq '.status.conditions'")]
    Status {
        /// Name or id
        cluster: String,
        /// How to show the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List the machines of a cluster
    #[command(after_help = "\
What stands there comes from the cluster's own Node objects and from the node agents, which
tell of their machines also while the cluster's API server does not answer.

Examples:
  cattle cluster nodes prod
  cattle cluster nodes prod -o json | jq '.items[].status.host'")]
    Nodes {
        /// Name or id
        cluster: String,
        /// How to show the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Wait until a cluster is ready
    #[command(after_help = "\
Examples:
  cattle cluster wait prod
  cattle cluster wait prod --for connected --timeout 2m
  cattle cluster wait prod -o json            # the cluster, when it is ready

Progress goes to standard error. Exit code 5 when it is not in time; the last reason is
printed.")]
    Wait {
        /// Name or id
        cluster: String,
        /// What to wait for
        #[arg(long = "for", value_enum, default_value_t = WaitFor::Ready)]
        condition: WaitFor,
        /// How long: 30s, 10m, 2h
        #[arg(long, default_value = "10m", value_parser = parse_duration)]
        timeout: Duration,
        /// How to show the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Print the manifest that registers a cluster, with a fresh token
    #[command(after_help = "\
Examples:
  cattle cluster manifest prod | kubectl apply -f -
  cattle cluster manifest prod --curl        # a line for a machine without this program")]
    Manifest {
        /// Name or id
        cluster: String,
        /// Print a curl line that fetches it, with the server's CA and key pinned
        #[arg(long)]
        curl: bool,
        /// How long the token is good for: 30m, 24h, 7d
        #[arg(long, value_parser = parse_duration)]
        ttl: Option<Duration>,
    },
    /// Allow a cluster to come back with a new CA, once
    #[command(after_help = "\
Example:
  cattle cluster rebind prod --ca-sha256 6b2d…

The checksum is taken where the cluster is, from the CA that it publishes:
  kubectl config view --raw --minify --flatten \\
    -o jsonpath='{.clusters[0].cluster.certificate-authority-data}' | base64 -d | sha256sum
Then apply a fresh manifest: cattle cluster manifest NAME | kubectl apply -f -")]
    Rebind {
        /// Name or id
        cluster: String,
        /// SHA-256 of the new CA's PEM text, 64 hex digits
        #[arg(long, value_name = "SHA256")]
        ca_sha256: CaChecksum,
    },
    /// Delete a cluster and everything that was made for it downstream
    #[command(after_help = "\
Examples:
  cattle cluster delete prod
  cattle cluster delete prod --yes --timeout 30m
  cattle cluster delete prod --forget

With --forget the record goes at once, without waiting for a cluster that is gone; what
is left there is removed by the lines that are printed.")]
    Delete {
        /// Name or id
        cluster: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Do not wait for the cluster to clean up
        #[arg(long)]
        forget: bool,
        /// How long to wait: 30s, 10m, 2h
        #[arg(long, default_value = "10m", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Who may enter a cluster
    #[command(subcommand)]
    Member(MemberCommand),
}

/// A state to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// The record is bound to a cluster
    Registered,
    /// An agent has a live session
    Connected,
    /// Requests reach the cluster's API server
    Ready,
    /// The record is gone
    Deleted,
}

/// `cattle cluster member …`
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Let a user enter a cluster
    #[command(after_help = "\
Examples:
  cattle cluster member add prod ann
  cattle cluster member add prod ann --role owner
  cattle cluster member add prod u-abcde --role my-role   # any role template of the server

An owner may do everything in the cluster and decides who its members are; a member may
look at nodes and storage, and do what roles inside of the cluster give.")]
    Add {
        /// Name or id
        cluster: String,
        /// Sign-in name or id of the user
        user: String,
        /// `owner`, `member`, or the name of a role template
        #[arg(long, default_value = "member")]
        role: String,
    },
    /// Take a user's roles in a cluster away; running streams end
    #[command(
        visible_alias = "rm",
        after_help = "\
Examples:
  cattle cluster member remove prod ann
  cattle cluster member remove prod ann --role owner"
    )]
    Remove {
        /// Name or id
        cluster: String,
        /// Sign-in name or id of the user
        user: String,
        /// Only this role
        #[arg(long)]
        role: Option<String>,
    },
    /// List who may enter a cluster
    #[command(visible_alias = "ls", after_help = "Example:\n  cattle cluster member list prod")]
    List {
        /// Name or id
        cluster: String,
        /// How to show the result.
        #[command(flatten)]
        output: OutputArgs,
    },
}
