//! The machine, as it looks from a container on it: `/proc` and `/sys` are the host's.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cattle_proto::control::Facts;
use cattle_proto::facts::{DiskFacts, HostFacts};
use tokio::sync::watch;

use crate::distribution::Distribution;
use crate::node_file::NodeFile;

/// Between two looks. A machine changes seldom, and what has not changed is not sent.
const LOOK: Duration = Duration::from_secs(300);
/// The unit of `/sys/block/*/size`, whatever the disk's own is.
const SECTOR: u64 = 512;
/// Most disks that are told of.
const DISKS: usize = 64;
/// Kernel names of block devices that are made of others, or of memory, or can be taken out.
const NO_DISKS: [&str; 9] = ["dm-", "fd", "loop", "md", "nbd", "ram", "sr", "zd", "zram"];

/// Looks at the machine again and again, and tells when something is another than before. Never ends. Cancel safe.
pub async fn follow(node: NodeFile, facts: watch::Sender<Facts>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(now) = look(Path::new("/"), &node) {
            facts.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }
}

/// What there is to tell at the moment; `None` when it does not fit into a message.
#[must_use]
pub fn look(root: &Path, node: &NodeFile) -> Option<Facts> {
    let facts = describe(root, node);
    Facts::new(&facts).inspect_err(|error| tracing::warn!(%error, "the host's facts cannot be sent")).ok()
}

fn describe(root: &Path, node: &NodeFile) -> HostFacts {
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let processors = read("proc/cpuinfo");
    HostFacts {
        operating_system: node.operating_system.clone(),
        kernel: read("proc/sys/kernel/osrelease").trim().to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        cpus: u32::try_from(values(&processors, "processor").count()).unwrap_or(u32::MAX),
        cpu_model: values(&processors, "model name").next().unwrap_or_default().to_owned(),
        memory_bytes: memory(&read("proc/meminfo")).unwrap_or_default(),
        disks: disks(&root.join("sys/block")),
        distribution: node.distribution.map(Distribution::name).unwrap_or_default().to_owned(),
        roles: node.roles.clone(),
    }
}

/// The values of a name in `/proc/cpuinfo`.
fn values<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(move |(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

fn memory(text: &str) -> Option<u64> {
    let kibibytes = values(text, "MemTotal").next()?.strip_suffix(" kB")?;
    Some(kibibytes.trim().parse::<u64>().ok()?.saturating_mul(1024))
}

fn disks(block: &Path) -> Vec<DiskFacts> {
    let number = |name: &str, file: &str| -> u64 {
        let text = fs::read_to_string(block.join(name).join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    };
    let entries = fs::read_dir(block).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let disks = names.filter(|name| !NO_DISKS.iter().any(|prefix| name.starts_with(prefix))).map(|name| DiskFacts {
        bytes: number(&name, "size").saturating_mul(SECTOR),
        rotational: number(&name, "queue/rotational") == 1,
        name,
    });
    let mut disks: Vec<_> = disks.filter(|disk| disk.bytes > 0).collect();
    disks.sort_by(|one, other| one.name.cmp(&other.name));
    disks.truncate(DISKS);
    disks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described_by_its_proc_and_sys() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("proc/sys/kernel/osrelease", "6.12.48-amd64\n");
        let cpu = |number: u32| format!("processor\t: {number}\nmodel name\t: EPYC\n\n");
        write("proc/cpuinfo", &(cpu(0) + &cpu(1)));
        write("proc/meminfo", "MemTotal:       16384000 kB\nMemFree:        1 kB\n");
        for (disk, size, rotational) in
            [("sdb", "100", "1"), ("nvme0n1", "8", "0"), ("loop0", "9", "0"), ("sdc", "0", "0")]
        {
            write(&format!("sys/block/{disk}/size"), size);
            write(&format!("sys/block/{disk}/queue/rotational"), rotational);
        }
        let node = NodeFile { operating_system: "Debian".to_owned(), ..NodeFile::default() };
        let disk = |name: &str, bytes, rotational| DiskFacts { name: name.to_owned(), bytes, rotational };
        let wanted = HostFacts {
            operating_system: "Debian".to_owned(),
            kernel: "6.12.48-amd64".to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            cpus: 2,
            cpu_model: "EPYC".to_owned(),
            memory_bytes: 16_384_000 * 1024,
            disks: vec![disk("nvme0n1", 4096, false), disk("sdb", 51200, true)],
            ..HostFacts::default()
        };
        assert_eq!(describe(root.path(), &node), wanted);
    }

    #[test]
    fn this_machine_has_a_kernel_processors_and_memory() {
        let facts: HostFacts = look(Path::new("/"), &NodeFile::default()).unwrap().read().unwrap();
        assert!(!facts.kernel.is_empty() && facts.cpus > 0 && facts.memory_bytes > 0, "{facts:?}");
    }

    #[test]
    fn a_machine_that_says_nothing_is_no_failure() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(describe(root.path(), &NodeFile::default()).memory_bytes, 0);
    }
}
