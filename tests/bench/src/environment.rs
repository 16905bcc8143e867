//! Where a run took place, as far as it matters to its numbers.

use std::path::Path;
use std::thread::available_parallelism;

use anyhow::Context as _;
use cattle_harness::KUBERNETES_VERSION;

/// What a reader has to know to compare two runs. No names and no paths of the machine.
pub(crate) struct Environment {
    pub(crate) cores: usize,
    /// Runnable tasks of the machine when the run began: anything else that ran measured along.
    pub(crate) load: f64,
    pub(crate) kernel: String,
    pub(crate) kubernetes: &'static str,
    pub(crate) version: &'static str,
    pub(crate) revision: String,
    pub(crate) date: String,
    /// A debug build's numbers are for its author only.
    pub(crate) optimised: bool,
}

impl Environment {
    pub(crate) fn of_this_run(revision: &str) -> anyhow::Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let load = read("/proc/loadavg")?;
        Ok(Self {
            cores: available_parallelism()?.get(),
            load: load.split(' ').next().unwrap_or_default().parse()?,
            kernel: kernel(&read("/proc/sys/kernel/osrelease")?),
            kubernetes: KUBERNETES_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            revision: revision.to_owned(),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            optimised: !cfg!(debug_assertions) && of_a_release(&std::env::current_exe()?),
        })
    }
}

/// The numbers alone: what a distribution appends says nothing here.
fn kernel(release: &str) -> String {
    release.trim().chars().take_while(|char| char.is_ascii_digit() || *char == '.').collect()
}

/// The programs that are measured are those beside this one.
fn of_a_release(program: &Path) -> bool {
    program.parent().is_some_and(|folder| folder.ends_with("release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_kernel_the_numbers_are_kept() {
        assert_eq!(kernel("6.1.0-21-amd64\n"), "6.1.0");
        assert_eq!(kernel("6.18.44-name"), "6.18.44");
    }

    #[test]
    fn debug_programs_are_told_from_released_ones() {
        assert!(of_a_release(Path::new("/target/release/cattle-bench")));
        assert!(!of_a_release(Path::new("/target/debug/cattle-bench")));
    }
}
