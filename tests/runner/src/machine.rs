//! What the tests ran on.

use std::fs;

/// The kind of this machine in one line: cores, memory, kernel, distribution, and who ran.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = file("/proc/sys/kernel/osrelease");
    let user = if nix::unistd::geteuid().is_root() { "root" } else { "an ordinary user" };
    let (memory, distribution) = (gibibytes(&file("/proc/meminfo")), distribution(&file("/etc/os-release")));
    format!(
        "{cores} cores ({}), {memory} GiB of memory, Linux {}, {distribution}, as {user}",
        std::env::consts::ARCH,
        kernel.trim()
    )
}

fn gibibytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes: u64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default();
    (kibibytes + (1 << 19)) >> 20
}

fn distribution(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("an unknown distribution", |name| name.trim_matches('"')).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_words_are_read() {
        assert_eq!(gibibytes("MemTotal:       24641880 kB\nMemFree: 1 kB\n"), 24);
        assert_eq!(gibibytes(""), 0);
        assert_eq!(
            distribution("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(distribution(""), "an unknown distribution");
        assert!(machine().contains(" cores ("));
    }
}
