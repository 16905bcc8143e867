//! What node agents say of their hosts, on its way to the controllers.

use cattle_api::management::node::{Disk, Host};
use cattle_controllers::nodes::{AgentPod, HostBook, Teller};
use cattle_gateway::AgentIdentity;
use cattle_proto::{
    control::Facts,
    facts::{DiskFacts, HostFacts},
    handshake::AgentKind,
};

/// Most disks that are kept of a host, and most roles.
const ENTRIES: usize = 64;
/// Most characters of a text.
const TEXT: usize = 256;

/// Takes down the facts of a node agent. Which node they are of is what its token proves, never what it says.
pub fn take_down(hosts: &HostBook, identity: &AgentIdentity, facts: &Facts) {
    if identity.kind != AgentKind::NodeAgent {
        return;
    }
    let pod = || AgentPod { name: identity.pod.to_string(), uid: identity.pod_uid.clone() };
    let teller = identity.node.as_ref().map_or_else(|| Teller::Pod(pod()), |node| Teller::Node(node.to_string()));
    match facts.read() {
        Ok(facts) => hosts.tell(&identity.cluster, teller, host(facts)),
        Err(error) => tracing::warn!(cluster = %identity.cluster, pod = %identity.pod, %error, "facts of a node agent"),
    }
}

fn host(facts: HostFacts) -> Host {
    let HostFacts { operating_system, kernel, architecture, cpus, cpu_model, memory_bytes, disks, distribution, roles } =
        facts;
    Host {
        operating_system: cut(&operating_system),
        kernel: cut(&kernel),
        architecture: cut(&architecture),
        cpus: cpus.into(),
        cpu_model: cut(&cpu_model),
        memory_bytes: number(memory_bytes),
        disks: disks.iter().take(ENTRIES).map(disk).collect(),
        distribution: cut(&distribution),
        roles: roles.iter().take(ENTRIES).map(|role| cut(role)).collect(),
    }
}

fn disk(disk: &DiskFacts) -> Disk {
    Disk { name: cut(&disk.name), bytes: number(disk.bytes), rotational: disk.rotational }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn cut(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_has_a_bound_and_no_control_characters() {
        let facts = HostFacts {
            operating_system: "x".repeat(10_000),
            kernel: "6.12\u{1b}[2J".to_owned(),
            memory_bytes: u64::MAX,
            disks: vec![DiskFacts::default(); 10_000],
            roles: vec!["etcd".to_owned(); 10_000],
            ..HostFacts::default()
        };
        let host = host(facts);
        assert_eq!((host.operating_system.len(), host.kernel.as_str()), (TEXT, "6.12[2J"));
        assert_eq!((host.disks.len(), host.roles.len(), host.memory_bytes), (ENTRIES, ENTRIES, i64::MAX));
    }
}
