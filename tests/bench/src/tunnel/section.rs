//! The tunnel's part of `docs/performance.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::path::Kind;
use super::promise::{Bound, FIGURES, Figure, Promise};
use super::{Run, Values};
use crate::samples::median;

/// The text, with its heading.
pub(crate) fn section(run: &Run) -> String {
    let (mut table, mut missed, mut promises) = (String::new(), Vec::new(), 0);
    for figure in &FIGURES {
        let values = Kind::ALL.map(|kind| value(run, kind, figure.name).map_or_else(|| "–".to_owned(), number));
        let judged = |against: Option<Kind>| {
            figure
                .promises
                .iter()
                .find(|promise| promise.against == against)
                .and_then(|promise| judge(run, figure, promise))
        };
        let columns = [Some(Kind::TlsPair), Some(Kind::Remotedialer), None].map(|against| {
            judged(against).map_or_else(
                || "–".to_owned(),
                |judged| {
                    promises += 1;
                    if !judged.kept {
                        missed.push(figure.name);
                    }
                    judged.text
                },
            )
        });
        let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", figure.unit) };
        // Writing to a string does not fail.
        let _ = writeln!(table, "| {}{unit} | {} | {} |", figure.name, values.join(" | "), columns.join(" | "));
    }
    let kept = promises - missed.len();
    let verdict = if missed.is_empty() {
        format!("All {promises} promises are kept.")
    } else {
        format!("{kept} of {promises} promises are kept; missed: {}.", missed.join(", "))
    };
    format!("{HEAD}{table}\n{verdict}\n{TAIL}")
}

const HEAD: &str = "## The tunnel alone

A load on one side, a target on the other, and between them the server's and the agent's ends of a tunnel, each a process of its
own: a byte crosses loopback three times. *tlspair* has one TLS connection for each stream in place of a tunnel, with the same hops
and the same encryption. *remotedialer* is the tunnel that Rancher has. All three carry the same load in the same round, in turn.

| figure | tlspair | remotedialer | Cattle | × tlspair | × remotedialer | itself |
|---|---|---|---|---|---|---|
";

const TAIL: &str = "
A promise is in brackets behind what was measured; a bold figure missed it. Ratios are medians of the rounds' own ratios. *Down* is
from the agent to the server; *processor* is that of both ends; a *warm request* is 128 bytes and its answer 1 KiB, on a stream that
is there; *both ways* is measured for 20 s, once, and 1 says that it stopped; a *stalled* reader reads nothing at all. Memory is that
of the larger end where none is named.
";

/// What became of a promise.
struct Judged {
    text: String,
    kept: bool,
}

fn judge(run: &Run, figure: &Figure, promise: &Promise) -> Option<Judged> {
    let reached = match promise.against {
        None => value(run, Kind::Cattle, figure.name)?,
        Some(other) => ratio(run, other, figure.name)?,
    };
    let kept = promise.bound.holds(reached);
    let (sign, bound) = match promise.bound {
        Bound::AtLeast(bound) => ("≥", bound),
        Bound::AtMost(bound) => ("≤", bound),
    };
    let mark = if kept { "" } else { "**" };
    Some(Judged { text: format!("{mark}{}{mark} ({sign} {bound})", number(reached)), kept })
}

/// The median over the rounds, or the one figure that there is.
fn value(run: &Run, kind: Kind, name: &str) -> Option<f64> {
    let all: Vec<f64> = run.rounds.iter().filter_map(|round| of(round, kind, name)).collect();
    if all.is_empty() { of(&run.once, kind, name) } else { Some(median(all)) }
}

/// Ours to another's.
fn ratio(run: &Run, other: Kind, name: &str) -> Option<f64> {
    let ratio = |values: &BTreeMap<Kind, Values>| Some(of(values, Kind::Cattle, name)? / of(values, other, name)?);
    let all: Vec<f64> = run.rounds.iter().filter_map(ratio).collect();
    if all.is_empty() { ratio(&run.once) } else { Some(median(all)) }
}

fn of(values: &BTreeMap<Kind, Values>, kind: Kind, name: &str) -> Option<f64> {
    values.get(&kind)?.get(name).copied()
}

/// Three digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::promise::{BOTH_WAYS_STOPPED, DOWN_1};
    use super::*;

    #[test]
    fn promises_are_judged_by_the_rounds_own_ratios() {
        let round = |pair: f64, peer: f64, ours: f64| {
            BTreeMap::from([
                (Kind::TlsPair, Values::from([(DOWN_1, pair)])),
                (Kind::Remotedialer, Values::from([(DOWN_1, peer)])),
                (Kind::Cattle, Values::from([(DOWN_1, ours)])),
            ])
        };
        // The machine was ten times slower in the second round.
        let rounds = vec![round(500.0, 200.0, 550.0), round(50.0, 20.0, 55.0), round(400.0, 100.0, 410.0)];
        let once = BTreeMap::from([
            (Kind::Remotedialer, Values::from([(BOTH_WAYS_STOPPED, 1.0)])),
            (Kind::Cattle, Values::from([(BOTH_WAYS_STOPPED, 0.0)])),
        ]);
        let text = section(&Run { rounds, once });
        let line = |name: &str| text.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap().to_owned();
        assert_eq!(line(DOWN_1), "| bulk down, 1 stream, MB/s | 400 | 100 | 410 | 1.10 (≥ 1) | **2.75** (≥ 3) | – |");
        assert_eq!(line(BOTH_WAYS_STOPPED), "| bulk both ways stopped | – | 1 | 0 | – | – | 0 (≤ 0) |");
        assert!(text.contains("2 of 3 promises are kept; missed: bulk down, 1 stream."), "{text}");
    }
}
