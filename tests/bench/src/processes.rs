//! What server and agents take of the machine.

use std::fs;
use std::ops::{Add, Sub};

use anyhow::Context as _;

/// The processes that carry the requests.
pub(crate) struct Processes {
    server: u32,
    agents: Vec<u32>,
}

/// One figure of the server and one of its agents.
#[derive(Clone, Copy, Default)]
pub(crate) struct Of<T> {
    pub(crate) server: T,
    pub(crate) agent: T,
}

impl Processes {
    pub(crate) fn new(server: u32, agents: Vec<u32>) -> Self {
        Self { server, agents }
    }

    /// Processor seconds so far; those of all agents together.
    pub(crate) fn cpu(&self) -> anyhow::Result<Of<f64>> {
        let agents: anyhow::Result<f64> = self.agents.iter().map(|agent| cpu(*agent)).sum();
        Ok(Of { server: cpu(self.server)?, agent: agents? })
    }

    /// From now on peaks count anew.
    pub(crate) fn forget_peaks(&self) -> anyhow::Result<()> {
        for process in self.agents.iter().chain([&self.server]) {
            fs::write(format!("/proc/{process}/clear_refs"), "5").context("the peak cannot be reset")?;
        }
        Ok(())
    }

    /// Most bytes of memory since [`Processes::forget_peaks`]; those of the largest agent.
    pub(crate) fn peaks(&self) -> anyhow::Result<Of<u64>> {
        self.memory("VmHWM:")
    }

    /// Bytes of memory now; those of the largest agent.
    pub(crate) fn resident(&self) -> anyhow::Result<Of<u64>> {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> anyhow::Result<Of<u64>> {
        let agents: anyhow::Result<Vec<u64>> = self.agents.iter().map(|agent| memory(*agent, field)).collect();
        Ok(Of { server: memory(self.server, field)?, agent: agents?.into_iter().max().unwrap_or_default() })
    }
}

impl Add for Of<f64> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { server: self.server + other.server, agent: self.agent + other.agent }
    }
}

impl Sub for Of<f64> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { server: self.server - other.server, agent: self.agent - other.agent }
    }
}

/// User and system time of all threads. `stat` would count in hundredths of a second.
fn cpu(process: u32) -> anyhow::Result<f64> {
    let mut nanoseconds = 0_u64;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end between the two.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanoseconds += text.split_whitespace().next().context("no schedstat")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

pub(crate) fn memory(process: u32, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured() {
        let this = std::process::id();
        let processes = Processes::new(this, vec![this, this]);
        let cpu = processes.cpu().unwrap();
        assert!(cpu.server > 0.0 && cpu.agent > cpu.server);
        processes.forget_peaks().unwrap();
        let (peaks, resident) = (processes.peaks().unwrap(), processes.resident().unwrap());
        assert!(peaks.server >= 1024 * 1024 && resident.agent > 0);
    }
}
