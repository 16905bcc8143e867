//! Real Kubernetes clusters for tests and the demo, owned by values.
//!
//! | kind | what runs | needs | ready after |
//! |---|---|---|---|
//! | [`ControlPlane`] | etcd, API server, controller manager as plain processes on a loopback address of their own | nothing | 5 s |
//! | [`Nodes`] | a kubeadm cluster: containerd, kubelets, pods, Services and DNS, each node in namespaces of its own | root, packages | 30 s |
//!
//! Their programs are compiled once per machine from the Go modules in `tests/kubernetes` ([`Assets`]).
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use cattle_harness::{ControlPlane, ControlPlaneOptions, Program, binary};
//!
//! let cluster = ControlPlane::start(ControlPlaneOptions::default()).await?;
//! cluster.kubectl(["create", "namespace", "shop"]).ok().await?;
//! let server = Program::new("server", binary("cattle-server")?).args(["--data-dir", "/data"]).start(cluster.scope())?;
//! # drop(server);
//! # Ok(())
//! # }
//! ```
//!
//! # What belongs to whom
//!
//! A value owns its cluster: dropped, everything is gone, and a test checks that. A process owns its [`Run`]: a watcher
//! process sees the end of this one, by whatever signal, and removes what is left. What even the watcher could not remove
//! (the machine's power) the next run sweeps. All three use one script, `sweep.sh`, over a ledger in which every process,
//! namespace, cgroup and mount is written down before it is made. Names carry the process's number.
//!
//! Parallel tests share nothing but programs. A cluster belongs to no runtime: tests may share one in a `OnceCell`.
//!
//! # Waiting
//!
//! Everything that starts is waited for by its condition (`/readyz`, Node `Ready`, Deployment `Available`), never by time,
//! with a deadline whose error has the ends of the logs. [`wait_for`] is the one loop.
//!
//! # Nodes and this machine
//!
//! [`Nodes::host_address`] is where a listener of this machine is reached from nodes and pods; the API server at
//! [`Nodes::url`] is reached from this machine. No other traffic leaves the cluster's namespaces, and the machine's `/etc`,
//! `/var`, `/run` and kernel settings are left alone. Nodes were run on Debian 12 (containerd 1.6, cgroup v1, root without
//! CAP_SYS_RESOURCE, no service manager).

mod agent_image;
mod assets;
mod binary;
mod control_plane;
mod http;
mod kubectl;
mod nodes;
mod pki;
mod process;
mod run;
mod seclusion;
mod wait;

pub use agent_image::{AGENT_IMAGES, AgentImage, write_agent_images};
pub use assets::{Assets, KUBERNETES_VERSION, cache_directory};
pub use binary::binary;
pub use control_plane::{ApiServer, ControlPlane, ControlPlaneOptions, LoopbackAddress};
pub use kubectl::{Client, Output};
pub use nodes::{Node, Nodes, NodesOptions, TOOLBOX_IMAGE};
pub use pki::{Authority, Identity};
pub use process::{Process, Program};
pub use run::{Run, Scope};
pub use seclusion::Seclusion;
pub use wait::wait_for;
