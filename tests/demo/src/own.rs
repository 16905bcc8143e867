use std::path::PathBuf;

use cattle_harness::{KUBERNETES_VERSION, Nodes, NodesOptions, Run, write_agent_images};
use cattle_images::Compression;

use crate::place::{CLUSTER, Place};
use crate::server::Address;
use crate::stage::Stage;

/// The server's port on the cluster's network.
const PORT: u16 = 8443;

/// Starts a cluster of two nodes that knows the agent's image.
pub(crate) async fn start(stage: &Stage, place: &Place, run: &Run) -> anyhow::Result<Nodes> {
    stage.heading(&format!("Kubernetes {KUBERNETES_VERSION} with two nodes, in network namespaces"));
    place.link_programs().await?;
    let images = write_agent_images(place.directory(), None, Compression::None)?;
    let options = NodesOptions { name: CLUSTER.to_owned(), images, ..NodesOptions::default() };
    let cluster = Nodes::start_in(run, options).await?;
    stage.say(&format!("Its API server is {}. Cattle is not told, and never uses it.", cluster.url()));
    Ok(cluster)
}

/// Where the server listens, and what agents and users call it.
pub(crate) fn server_address(cluster: &Nodes) -> Address {
    let host = cluster.host_address();
    Address { url: format!("https://{host}:{PORT}"), listen: format!("{host}:{PORT}"), admin: format!("{host}:9180") }
}

/// The kubeconfig of the cluster's administrator: what `kubectl apply` of the manifest runs with.
pub(crate) fn downstream(cluster: &Nodes) -> PathBuf {
    cluster.kubeconfig()
}
