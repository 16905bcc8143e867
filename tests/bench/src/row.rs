//! One measurement over all rounds.

use crate::processes::Of;
use crate::samples::{Samples, median};

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// What one operation is, for readers of the report.
    pub(crate) meaning: &'static str,
    /// Bytes that one operation moves, where that is the point.
    pub(crate) bytes: Option<u64>,
    /// Operations that run at the same time.
    pub(crate) parallel: usize,
}

/// A kind and its numbers.
pub(crate) struct Row {
    pub(crate) kind: Kind,
    rounds: Vec<Round>,
    /// Most bytes of memory during the row.
    pub(crate) peaks: Of<u64>,
}

/// Both ways, one after the other.
pub(crate) struct Round {
    pub(crate) direct: Samples,
    pub(crate) through: Samples,
    /// Processor seconds of what ran through the server, in all.
    pub(crate) cpu: Of<f64>,
}

/// The figures of one way over all rounds.
pub(crate) struct Figures {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Bytes a second at the median.
    pub(crate) throughput: Option<f64>,
}

impl Row {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, rounds: Vec::new(), peaks: Of::default() }
    }

    pub(crate) fn push(&mut self, round: Round) {
        self.rounds.push(round);
    }

    pub(crate) fn direct(&self) -> Figures {
        self.figures(|round| &round.direct)
    }

    pub(crate) fn through(&self) -> Figures {
        self.figures(|round| &round.through)
    }

    /// Operations on each way.
    pub(crate) fn count(&self) -> usize {
        self.rounds.iter().map(|round| round.through.count()).sum()
    }

    /// How much longer it takes through the server: the median of the rounds' own ratios of their medians.
    pub(crate) fn ratio(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.through.quantile(0.5) / round.direct.quantile(0.5)))
    }

    /// Processor seconds for each operation.
    pub(crate) fn cpu(&self) -> Of<f64> {
        let each =
            |of: fn(&Round) -> f64| median(self.rounds.iter().map(|round| of(round) / round.through.count() as f64));
        Of { server: each(|round| round.cpu.server), agent: each(|round| round.cpu.agent) }
    }

    fn figures(&self, way: fn(&Round) -> &Samples) -> Figures {
        let mut all = Samples::default();
        self.rounds.iter().for_each(|round| all.extend(way(round)));
        let p50 = all.quantile(0.5);
        Figures { p50, p99: all.quantile(0.99), throughput: self.kind.bytes.map(|bytes| bytes as f64 / p50) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    /// Each pair is one round's time directly and through the server, in milliseconds.
    pub(crate) fn row(kind: Kind, rounds: &[(u64, u64)]) -> Row {
        let mut row = Row::new(kind);
        for (direct, through) in rounds {
            let samples = |milliseconds: u64| {
                let mut samples = Samples::default();
                samples.push(Duration::from_millis(milliseconds));
                samples
            };
            let cpu = Of { server: 0.002, agent: 0.001 };
            row.push(Round { direct: samples(*direct), through: samples(*through), cpu });
        }
        row
    }

    #[test]
    fn ratios_are_taken_inside_a_round() {
        let kind = Kind { name: "GET", meaning: "", bytes: Some(1_000_000), parallel: 1 };
        // The machine was ten times slower in the last round; the ratio does not care.
        let row = row(kind, &[(10, 20), (10, 20), (100, 200)]);
        assert_eq!(row.ratio(), 2.0);
        assert_eq!((row.direct().p50, row.through().p99, row.count()), (0.01, 0.2, 3));
        assert_eq!(row.through().throughput, Some(50_000_000.0));
        assert_eq!(row.cpu().server, 0.002);
    }
}
