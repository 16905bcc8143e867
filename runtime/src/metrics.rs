//! Metrics that every process has: what it is, when it started, what it uses.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// A registry with `cattle_build_info` and the usual `process_*` metrics, for a component to add its own.
pub fn registry(service: &'static str, version: &'static str) -> Registry {
    let mut registry = Registry::default();
    registry.register(
        "cattle_build",
        "What this process is",
        Info::new(vec![("service", service), ("version", version)]),
    );
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    registry.register_collector(Box::new(Process { started }));
    registry
}

/// `/proc/self` on each scrape; what cannot be read is left out.
#[derive(Debug)]
struct Process {
    started: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        gauge(
            &mut encoder,
            "process_start_time",
            "Start of the process, Unix time",
            Some(&Unit::Seconds),
            self.started,
        )?;
        if let Some(usage) = Usage::read() {
            let cpu = ConstCounter::new(usage.cpu_seconds);
            let metric = encoder.encode_descriptor(
                "process_cpu",
                "User and system CPU time",
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?;
            cpu.encode(metric)?;
            gauge(
                &mut encoder,
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                usage.resident_bytes,
            )?;
            gauge(&mut encoder, "process_threads", "Threads", None, usage.threads)?;
        }
        if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
            let open = descriptors.count() as f64;
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", None, open)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
}

#[derive(Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
    threads: f64,
}

impl Usage {
    /// Linux reports CPU time in `USER_HZ`, which is 100 on every architecture that we build for.
    const TICKS_PER_SECOND: f64 = 100.0;
    /// `VmRSS` is in units of 1024 bytes.
    const STATUS_UNIT: f64 = 1024.0;

    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?, &fs::read_to_string("/proc/self/status").ok()?)
    }

    /// From proc_pid_stat(5), fields 14, 15 and 20, and proc_pid_status(5). The second field of the former is the
    /// program's name in parentheses and may itself hold spaces and parentheses.
    fn parse(stat: &str, status: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(Self {
            cpu_seconds: (number(14)? + number(15)?) / Self::TICKS_PER_SECOND,
            resident_bytes: resident.split_whitespace().next()?.parse::<f64>().ok()? * Self::STATUS_UNIT,
            threads: number(20)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_says_what_the_process_is_and_uses() {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry("cattle-test", "1.2.3")).unwrap();
        assert!(text.contains(r#"cattle_build_info{service="cattle-test",version="1.2.3"} 1"#), "{text}");
        for name in [
            "process_start_time_seconds ",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_threads ",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 3 0 9 1 1 1";
        let usage = Usage::parse(stat, "Name:\ta\nVmRSS:\t    2048 kB\n").unwrap();
        assert_eq!(usage, Usage { cpu_seconds: 2.0, resident_bytes: 2_097_152.0, threads: 3.0 });
        assert_eq!(Usage::parse("7 (a) S", "VmRSS: 1 kB"), None);
        assert_eq!(Usage::parse(stat, "Name: a"), None);
    }
}
