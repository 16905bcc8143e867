//! What a node agent costs that waits for its turn.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::sleep;

use crate::processes::memory;

/// Idle memory that a node agent may have.
const MEMORY: u64 = 12 * 1024 * 1024;
/// Bytes that it may send and get in a minute, beyond the keepalive.
const TRAFFIC: u64 = 1024;

/// The node agent that costs most, over a minute.
pub(crate) struct Standby {
    memory: u64,
    /// Bytes in its streams, both ways; pings are not in streams.
    traffic: u64,
}

impl Standby {
    /// Looks for a minute at these processes, and at what the server counts of them.
    pub(crate) async fn watch(processes: &[u32], metrics: &str) -> anyhow::Result<Option<Self>> {
        let mut largest = None;
        for process in processes.iter().filter(|process| is_node_agent(**process)) {
            largest = largest.max(Some(memory(*process, "VmRSS:")?));
        }
        let Some(memory) = largest else { return Ok(None) };
        let before = traffic(metrics).await?;
        sleep(Duration::from_secs(60)).await;
        let after = traffic(metrics).await?;
        let each = after.iter().map(|(pod, bytes)| bytes - before.get(pod).copied().unwrap_or_default());
        Ok(Some(Self { memory, traffic: each.max().context("the server counts no node agent")? }))
    }

    /// A sentence with both promises.
    pub(crate) fn verdict(&self) -> String {
        let kept = |value, limit| if value <= limit { "kept" } else { "**broken**" };
        format!(
            "A node agent that stands by has {:.1} MiB (at most {}: {}) and says and hears {} bytes a minute beside the \
             keepalive (at most {TRAFFIC}: {}).",
            self.memory as f64 / 1024.0 / 1024.0,
            MEMORY / 1024 / 1024,
            kept(self.memory, MEMORY),
            self.traffic,
            kept(self.traffic, TRAFFIC),
        )
    }
}

fn is_node_agent(process: u32) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| {
        line.split(|byte| *byte == 0).next().is_some_and(|program| program.ends_with(b"cattle-node-agent"))
    })
}

/// Bytes in the streams of each node agent so far, by its pod.
async fn traffic(metrics: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    Ok(read(&reqwest::get(metrics).await?.error_for_status()?.text().await?))
}

fn read(text: &str) -> BTreeMap<String, u64> {
    let mut bytes = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("cattle_gateway_session_bytes_")) {
        let Some((labels, value)) = line.rsplit_once(' ') else { continue };
        let pod = labels.split_once("pod=\"").and_then(|(_, rest)| rest.split_once('"'));
        if let (true, Some((pod, _)), Ok(value)) = (labels.contains("agent=\"node-agent\""), pod, value.parse::<u64>())
        {
            *bytes.entry(pod.to_owned()).or_default() += value;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_streams_carried_is_added_up_for_each_pod() {
        let line = |way: &str, agent: &str, pod: &str, bytes: u64| {
            format!(
                "cattle_gateway_session_bytes_{way}_total{{cluster=\"c\",agent=\"{agent}\",pod=\"{pod}\",node=\"n\"}} {bytes}\n"
            )
        };
        let text = line("read", "node-agent", "a", 5)
            + &line("written", "node-agent", "a", 7)
            + &line("read", "cluster-agent", "b", 100)
            + "cattle_gateway_sessions 2\n";
        assert_eq!(read(&text), BTreeMap::from([("a".to_owned(), 12)]));
    }

    #[test]
    fn promises_are_judged_apart() {
        let verdict = Standby { memory: 8 * 1024 * 1024, traffic: 2000 }.verdict();
        assert!(verdict.contains("8.0 MiB (at most 12: kept)") && verdict.contains("2000 bytes a minute"), "{verdict}");
        assert!(verdict.contains("(at most 1024: **broken**)"), "{verdict}");
    }
}
