//! How much memory another process has had.

use anyhow::Context;

/// The memory of a process, as the kernel counts it.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pid: u32,
    before: u64,
}

impl Memory {
    /// From now on; forgets what the process had before.
    ///
    /// # Errors
    /// When the process has ended or belongs to somebody else.
    pub fn watch(pid: u32) -> anyhow::Result<Self> {
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak cannot be reset")?;
        Ok(Self { pid, before: field(pid, "VmRSS:")? })
    }

    /// Bytes by which the peak since then is above what the process had then.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn grown(self) -> anyhow::Result<u64> {
        Ok(field(self.pid, "VmHWM:")?.saturating_sub(self.before))
    }
}

fn field(pid: u32, name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
