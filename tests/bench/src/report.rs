//! `docs/performance.md`.

use std::fmt::Write as _;

use crate::environment::Environment;
use crate::measure::IN_PODS;
use crate::processes::Of;
use crate::row::{Figures, Row};

/// Idle memory that an agent may have.
const AGENT_LIMIT: u64 = 20 * 1024 * 1024;
/// Characters of a bar for a ratio of 1.
const UNIT: f64 = 12.0;
/// Longest bar.
const WIDTH: usize = 60;

/// A whole run.
pub(crate) struct Report {
    pub(crate) environment: Environment,
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
    /// Memory before the first request, and after the last.
    pub(crate) idle: Of<u64>,
    pub(crate) after: Of<u64>,
    /// Why rows that need pods are missing, if they are.
    pub(crate) left_out: Option<String>,
    /// What became of the promises of a node agent that stands by.
    pub(crate) standby: Option<String>,
    /// The section on the tunnel alone.
    pub(crate) tunnel: Option<String>,
}

impl Report {
    /// The numbers alone.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| what | direct, ms p50 / p99 | through, ms p50 / p99 | ratio p50 | MB/s direct → through | \
             CPU ms each, server + agent | peak MiB, server / agent | n |\n|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            table += &line(row);
        }
        if let Some(reason) = &self.left_out {
            let rows = IN_PODS.join("*, *");
            // Writing to a string does not fail.
            let _ = writeln!(table, "\nLeft out: *{rows}*, because {reason}.");
        }
        table += "\n| memory, MiB | server | agent |\n|---|---|---|\n";
        for (what, memory) in [("idle, before the first request", self.idle), ("idle, after the last", self.after)] {
            let _ = writeln!(table, "| {what} | {} | {} |", mebibytes(memory.server), mebibytes(memory.agent));
        }
        table
    }

    /// The page.
    pub(crate) fn document(&self) -> String {
        let environment = &self.environment;
        let Environment { cores, load, kernel, kubernetes, version, revision, date, .. } = environment;
        let kept = if self.idle.agent.max(self.after.agent) <= AGENT_LIMIT { "kept" } else { "**broken**" };
        let build =
            if environment.optimised { "" } else { "\n**Not a release build: a ratio is a first idea, no more.**\n" };
        let meanings: String =
            self.rows.iter().map(|row| format!("- **{}**: {}.\n", row.kind.name, row.kind.meaning)).collect();
        format!(
            "# Performance

What the way through the server costs, against the API server itself. Made by `make bench`, which builds everything for release,
starts a Kubernetes, the server and the agents on one machine, measures, and writes this page. Do not edit it.
{build}
Cattle {version}, commit {revision}, {date}; Kubernetes {kubernetes}; {cores} cores, Linux {kernel}; load before the run {load:.1};
{rounds} rounds.

## How many times as long it takes

Medians through the server as a multiple of direct; the bar of 1 would cost nothing.

```
{chart}```

## Numbers

{table}
The promise for an idle agent is at most {limit} MiB: {kept}. {standby}

{tunnel}
## What a row is

{meanings}
*Direct* is the same client at the API server, with a service account's token and the same user's identity in impersonation
headers: what the server does, without the server. *Through* goes client → server → tunnel → agent → API server, with TLS from the
client to the server, from the server to the API server, and around the tunnel.

## How to read it

- **The ratio** is the one to trust: in each round both ways are measured in turn, each round in the other order, and it is the median
  of the rounds' own ratios. What disturbs the machine disturbs both ways.
- **Milliseconds** are over all rounds, and this machine's; with server, agent, API server, etcd, kubelet and client on the same
  cores, every microsecond of processor time shows as latency. On real networks the distances come on top, once for each hop, and a
  ratio shrinks towards that of the distances.
- **p99** of a few samples is the slowest of them: see *n*, the operations on each way.
- **MB/s** is what one operation moves by its median time.
- **CPU** is processor time of the server's process and of all agents for each operation, by the scheduler's account; what runs
  beside (keepalives, probes, controllers) is in it.
- **Peak** is the most memory that the process had during the row, of the largest agent. Shared pages of the program are counted.
",
            chart = self.chart(),
            table = self.table(),
            standby = self.standby.as_deref().unwrap_or_default(),
            tunnel = self.tunnel.as_deref().unwrap_or_default(),
            rounds = self.rounds,
            limit = AGENT_LIMIT / (1024 * 1024),
        )
    }

    fn chart(&self) -> String {
        let name = self.rows.iter().map(|row| row.kind.name.len()).max().unwrap_or_default();
        let mut chart = format!("{:name$}  {:<7}{}\n", "", "1.00", bar(1.0));
        for row in &self.rows {
            let ratio = row.ratio();
            let _ = writeln!(chart, "{:name$}  {ratio:<7.2}{}", row.kind.name, bar(ratio));
        }
        chart
    }
}

fn line(row: &Row) -> String {
    let (direct, through, cpu) = (row.direct(), row.through(), row.cpu());
    let times = |figures: &Figures| format!("{} / {}", milliseconds(figures.p50), milliseconds(figures.p99));
    let throughput = match (direct.throughput, through.throughput) {
        (Some(direct), Some(through)) => format!("{:.0} → {:.0}", direct / 1e6, through / 1e6),
        _ => "–".to_owned(),
    };
    format!(
        "| {} | {} | {} | **{:.2}** | {throughput} | {} + {} | {} / {} | {} |\n",
        row.kind.name,
        times(&direct),
        times(&through),
        row.ratio(),
        milliseconds(cpu.server),
        milliseconds(cpu.agent),
        mebibytes(row.peaks.server),
        mebibytes(row.peaks.agent),
        row.count(),
    )
}

fn bar(ratio: f64) -> String {
    let length = (ratio * UNIT).round() as usize;
    let more = if length > WIDTH { "…" } else { "" };
    format!("{}{more}", "█".repeat(length.min(WIDTH)))
}

/// Three digits or so.
fn milliseconds(seconds: f64) -> String {
    let value = seconds * 1e3;
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / (1024.0 * 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Kind, tests::row};

    fn report(left_out: Option<&str>, optimised: bool) -> Report {
        let kind = Kind { name: "LIST", meaning: "a list", bytes: Some(1_000_000), parallel: 1 };
        let memory = Of { server: 32 * 1024 * 1024, agent: 9 * 1024 * 1024 };
        Report {
            environment: Environment {
                cores: 2,
                load: 0.25,
                kernel: "6.1.0".to_owned(),
                kubernetes: "v1.34.4",
                version: "0.1.0",
                revision: "abc".to_owned(),
                date: "2026-11-23".to_owned(),
                optimised,
            },
            rounds: 3,
            rows: vec![row(kind, &[(10, 20), (10, 15), (10, 20)])],
            idle: memory,
            after: memory,
            left_out: left_out.map(str::to_owned),
            standby: Some("A node agent is small.".to_owned()),
            tunnel: Some("## The tunnel alone\n".to_owned()),
        }
    }

    #[test]
    fn a_row_has_times_ratio_throughput_and_cost() {
        let table = report(None, true).table();
        let expected = "| LIST | 10.0 / 10.0 | 20.0 / 20.0 | **2.00** | 100 → 50 | 2.00 + 1.00 | 0.0 / 0.0 | 3 |";
        assert!(table.lines().any(|line| line == expected), "{table}");
        assert!(table.contains("| idle, after the last | 32.0 | 9.0 |"), "{table}");
    }

    #[test]
    fn the_page_says_where_it_comes_from_and_what_is_missing() {
        let page = report(Some("nodes need root"), true).document();
        for part in
            ["`make bench`", "commit abc, 2026-11-23", "2 cores, Linux 6.1.0", "load before the run 0.2", "3 rounds"]
        {
            assert!(page.contains(part), "no {part} in {page}");
        }
        assert!(page.contains("Left out: *exec, start to end*"), "{page}");
        assert!(page.contains("at most 20 MiB: kept."), "{page}");
        assert!(page.contains("LIST  2.00   ████████████████████████\n"), "{page}");
        assert!(page.contains("kept. A node agent is small.\n\n## The tunnel alone\n\n## What a row is\n"), "{page}");
        assert!(!page.contains("release build:"), "{page}");
        assert!(report(None, false).document().contains("Not a release build"));
    }

    #[test]
    fn a_bar_has_an_end() {
        assert_eq!(bar(1.0).chars().count(), 12);
        assert_eq!(bar(50.0).chars().count(), 61);
    }
}
