//! Samples, ratios inside a round, medians over rounds.

use std::{fmt::Write as _, ops::Add, time::Duration};

use anyhow::Context;

/// Times of one round on one way.
#[derive(Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    fn quantile(&mut self, quantile: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * quantile).round() as usize).map_or(f64::NAN, Duration::as_secs_f64)
    }
}

/// One measurement over all rounds.
pub(crate) struct Comparison {
    name: &'static str,
    rounds: Vec<Round>,
}

struct Round {
    direct: [f64; 2],
    through: [f64; 2],
    cpu: Option<f64>,
}

const QUANTILES: [f64; 2] = [0.5, 0.99];

impl Comparison {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, rounds: Vec::new() }
    }

    /// `cpu`: processor seconds of server and agent for each request.
    pub(crate) fn round(&mut self, mut direct: Samples, mut through: Samples, cpu: Option<f64>) {
        let direct = QUANTILES.map(|quantile| direct.quantile(quantile));
        let through = QUANTILES.map(|quantile| through.quantile(quantile));
        self.rounds.push(Round { direct, through, cpu });
    }

    fn row(&self) -> String {
        let over = |value: &dyn Fn(&Round) -> f64| median(self.rounds.iter().map(value).collect());
        let milliseconds = |value: f64| format!("{:.2}", value * 1e3);
        let cpu = over(&|round| round.cpu.unwrap_or(f64::NAN));
        format!(
            "| {} | {} / {} | {} / {} | **{:.2}** | {:.2} | {} |",
            self.name,
            milliseconds(over(&|round| round.direct[0])),
            milliseconds(over(&|round| round.direct[1])),
            milliseconds(over(&|round| round.through[0])),
            milliseconds(over(&|round| round.through[1])),
            over(&|round| round.through[0] / round.direct[0]),
            over(&|round| round.through[1] / round.direct[1]),
            if cpu.is_nan() { "–".to_owned() } else { milliseconds(cpu) },
        )
    }
}

pub(crate) fn table(comparisons: &[Comparison], rounds: usize) -> String {
    let mut table = "| what | direct p50 / p99, ms | through p50 / p99, ms | ratio p50 | ratio p99 | CPU of server and agent, ms each |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    for comparison in comparisons {
        // Writing to a string does not fail.
        let _ = writeln!(table, "{}", comparison.row());
    }
    let _ = writeln!(table, "\nMedian of {rounds} rounds; both ways in turn in each round.");
    table
}

pub(crate) fn document(table: &str) -> String {
    format!(
        "# Performance\n\n\
         What the way through the server costs against the API server itself, as ratios taken inside a round on one machine. Absolute\n\
         times are that machine's. Made by `make bench`.\n\n{table}\n\
         `direct` is the same client on the API server, impersonating the same user; `through` goes by the server, the tunnel\n\
         and the agent. A watch event is timed from the start of the change.\n"
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Processor seconds of a process, user and system.
#[derive(Clone, Copy)]
pub(crate) struct CpuTime(f64);

impl CpuTime {
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let mut nanoseconds = 0_u64;
        for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let running = text.split_whitespace().next().context("no schedstat")?;
            nanoseconds += running.parse::<u64>()?;
        }
        Ok(Self(nanoseconds as f64 / 1e9))
    }

    pub(crate) fn since(self, before: Self) -> f64 {
        self.0 - before.0
    }
}

impl Add for CpuTime {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}
