use std::net::Ipv4Addr;

use anyhow::Context as _;

use crate::run::Scope;

use super::commands::ip;

/// A cluster's network: a bridge in a namespace of its own, a veth to the machine, and one to each node.
///
/// Addresses are 198.18.N.0/24 of the range for benchmarks (RFC 2544), which no real network uses:
/// `.1` is the machine, `.254` the bridge, `.11` and up are the nodes.
#[derive(Debug)]
pub(super) struct Network {
    id: String,
    subnet: u8,
}

/// What a node needs to know of it.
#[derive(Clone, Debug)]
pub(super) struct Port {
    /// The node's network namespace.
    pub(super) namespace: String,
    pub(super) address: Ipv4Addr,
    gateway: Ipv4Addr,
    /// The other nodes' pod ranges, through their addresses.
    routes: Vec<(String, Ipv4Addr)>,
}

impl Network {
    pub(super) async fn create(scope: &Scope) -> anyhow::Result<Self> {
        let id = scope.id().to_owned();
        let lan = lan_of(&id);
        scope.record("netns", &lan, "")?;
        ip(&format!("netns add {lan}")).await?;
        ip(&format!("-n {lan} link set lo up")).await?;
        ip(&format!("-n {lan} link add lan type bridge")).await?;
        ip(&format!("-n {lan} link set lan up")).await?;
        let subnet = claim_subnet(&lan).await?;
        let network = Self { id, subnet };
        ip(&format!("-n {lan} addr add {}/24 dev lan", network.at(254))).await?;
        ip(&format!("-n {lan} link set host master lan")).await?;
        ip(&format!("-n {lan} link set host up")).await?;
        // The machine's end dies with the namespace of its peer: nothing to write into the ledger.
        ip(&format!("addr add {}/24 dev cattle{subnet}", network.host_address())).await?;
        ip(&format!("link set cattle{subnet} up")).await?;
        Ok(network)
    }

    /// Where a listener of this machine is reached from nodes and pods.
    pub(super) fn host_address(&self) -> Ipv4Addr {
        self.at(1)
    }

    /// Plugs a node in.
    pub(super) async fn connect(&self, scope: &Scope, number: u8, pod_ranges: &[String]) -> anyhow::Result<Port> {
        let namespace = format!("cattle-{}-{number}", self.id);
        let routes = (1_u8..).zip(pod_ranges).filter(|(other, _)| *other != number);
        let port = Port {
            namespace: namespace.clone(),
            address: self.node(number),
            gateway: self.at(254),
            routes: routes.map(|(other, range)| (range.clone(), self.node(other))).collect(),
        };
        scope.record("netns", &namespace, "")?;
        ip(&format!("netns add {namespace}")).await?;
        let lan = lan_of(&self.id);
        ip(&format!("-n {lan} link add node{number} type veth peer name eth0 netns {namespace}")).await?;
        ip(&format!("-n {lan} link set node{number} master lan")).await?;
        ip(&format!("-n {lan} link set node{number} up")).await?;
        ip(&format!("-n {namespace} link set lo up")).await?;
        ip(&format!("-n {namespace} addr add {}/24 dev eth0", port.address)).await?;
        port.up().await?;
        Ok(port)
    }

    fn node(&self, number: u8) -> Ipv4Addr {
        self.at(10 + number)
    }

    fn at(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, last)
    }
}

impl Port {
    /// The cable is in. Routes go with the link, so they are set each time.
    pub(super) async fn up(&self) -> anyhow::Result<()> {
        let namespace = &self.namespace;
        ip(&format!("-n {namespace} link set eth0 up")).await?;
        ip(&format!("-n {namespace} route replace default via {}", self.gateway)).await?;
        for (range, via) in &self.routes {
            ip(&format!("-n {namespace} route replace {range} via {via}")).await?;
        }
        Ok(())
    }

    /// The cable is out: peers hear nothing, not even a reset.
    pub(super) async fn down(&self) -> anyhow::Result<()> {
        ip(&format!("-n {} link set eth0 down", self.namespace)).await.map(drop)
    }
}

fn lan_of(id: &str) -> String {
    format!("cattle-{id}-lan")
}

/// Creating the machine's interface `cattleN` is the claim of subnet N: the kernel lets only one do it.
async fn claim_subnet(lan: &str) -> anyhow::Result<u8> {
    let mut last = None;
    for subnet in 0..=u8::MAX {
        match ip(&format!("link add cattle{subnet} type veth peer name host netns {lan}")).await {
            Ok(_) => return Ok(subnet),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no attempt was made")?).context("no free network of 198.18.0.0/16")
}
