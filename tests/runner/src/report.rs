//! `docs/test-long.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::ledger::Entry;

/// What a report is about.
pub(crate) struct Report<'a> {
    pub(crate) commit: &'a str,
    /// Whether the tree was exactly that commit.
    pub(crate) clean: bool,
    pub(crate) seed: String,
    pub(crate) machine: String,
    /// Each unit's row and its result.
    pub(crate) results: Vec<(&'a str, &'a Entry)>,
}

#[derive(Default)]
struct Row {
    passed: usize,
    failed: usize,
    skipped: usize,
    seconds: u64,
}

impl Report<'_> {
    /// The page.
    pub(crate) fn render(&self) -> String {
        let mut page = String::from("# The long tests\n\n");
        page += "Every test over all of its matrix. `make test-long` writes this page; do not edit it.\n\n";
        self.head(&mut page);
        self.failed(&mut page);
        self.skipped(&mut page);
        self.rows(&mut page);
        page
    }

    fn head(&self, page: &mut String) {
        let tree =
            if self.clean { "" } else { ", with changes that are not committed: this proves nothing about the commit" };
        let mut total = Row::default();
        for (_, entry) in &self.results {
            total.add(entry);
        }
        let times = self.results.iter().map(|(_, entry)| entry.ended_at);
        let begun = self.results.iter().map(|(_, entry)| begun(entry)).min().unwrap_or(Timestamp::UNIX_EPOCH);
        let ended = times.max().unwrap_or(Timestamp::UNIX_EPOCH);
        let _ = write!(
            page,
            "| | |\n|---|---|\n| commit | `{}`{tree} |\n| date | {} to {} UTC |\n| seed | `{}` |\n| machine | {} |\n\
             | result | {} passed, {} failed, {} skipped in {} of tests |\n\n",
            self.commit,
            begun.strftime("%Y-%m-%d %H:%M"),
            ended.strftime("%Y-%m-%d %H:%M"),
            self.seed,
            self.machine,
            total.passed,
            total.failed,
            total.skipped,
            duration(total.seconds),
        );
    }

    fn failed(&self, page: &mut String) {
        let mut failed = self.results.iter().filter(|(_, entry)| !entry.outcome.is_good()).peekable();
        if failed.peek().is_none() {
            return;
        }
        page.push_str("## Failed\n\n| what | test | again |\n|---|---|---|\n");
        for (_, entry) in failed {
            for test in &entry.outcome.failed {
                let _ = writeln!(page, "| {} | {test} | `{}` |", entry.unit, again(&entry.unit));
            }
        }
        page.push('\n');
    }

    fn skipped(&self, page: &mut String) {
        let mut skipped = self.results.iter().filter(|(_, entry)| !entry.outcome.skipped.is_empty()).peekable();
        if skipped.peek().is_none() {
            return;
        }
        page.push_str("## Skipped\n\n| what | test | why |\n|---|---|---|\n");
        for (group, entry) in skipped {
            for skip in &entry.outcome.skipped {
                let _ = writeln!(page, "| {group} | {} | {} |", skip.test, skip.why.replace('|', "\\|"));
            }
        }
        page.push('\n');
    }

    fn rows(&self, page: &mut String) {
        let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
        for (group, entry) in &self.results {
            rows.entry(group).or_default().add(entry);
        }
        page.push_str("## Results\n\n| tests | passed | failed | skipped | seconds |\n|---|---:|---:|---:|---:|\n");
        for (group, row) in rows {
            let _ = writeln!(page, "| {group} | {} | {} | {} | {} |", row.passed, row.failed, row.skipped, row.seconds);
        }
    }
}

impl Row {
    fn add(&mut self, entry: &Entry) {
        let outcome = &entry.outcome;
        self.passed += outcome.passed;
        self.failed += outcome.failed.len();
        self.skipped += outcome.skipped.len();
        self.seconds += outcome.seconds;
    }
}

/// How a unit is run again, and nothing else.
pub(crate) fn again(unit: &str) -> String {
    format!("make test-long ONLY='{unit}'")
}

/// `2 h 5 min`, `5 min 3 s` or `3 s`.
pub(crate) fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn begun(entry: &Entry) -> Timestamp {
    let seconds = i64::try_from(entry.outcome.seconds).unwrap_or_default();
    entry.ended_at.checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or(entry.ended_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Skip};

    fn entry(unit: &str, at: &str, failed: &[&str], skipped: &[(&str, &str)]) -> Entry {
        let skip = |(test, why): &(&str, &str)| Skip { test: (*test).to_owned(), why: (*why).to_owned() };
        let outcome = Outcome {
            passed: 10,
            failed: failed.iter().map(|name| (*name).to_owned()).collect(),
            skipped: skipped.iter().map(skip).collect(),
            seconds: 90,
        };
        Entry { unit: unit.to_owned(), ended_at: at.parse().unwrap(), outcome }
    }

    fn page(clean: bool, entries: &[(&str, Entry)]) -> String {
        let results = entries.iter().map(|(group, entry)| (*group, entry)).collect();
        let (seed, machine) = ("00ff".to_owned(), "2 cores".to_owned());
        Report { commit: "fa27154", clean, seed, machine, results }.render()
    }

    #[test]
    fn everything_passed() {
        let page = page(
            true,
            &[
                ("t --test faults", entry("t --test faults one", "2026-11-23T09:00:00Z", &[], &[])),
                ("t --test faults", entry("t --test faults two", "2026-11-23T10:00:00Z", &[], &[])),
                ("s --lib", entry("s --lib", "2026-11-23T08:00:00Z", &[], &[("disk", "no | root")])),
            ],
        );
        let wanted = "# The long tests

Every test over all of its matrix. `make test-long` writes this page; do not edit it.

| | |
|---|---|
| commit | `fa27154` |
| date | 2026-11-23 07:58 to 2026-11-23 10:00 UTC |
| seed | `00ff` |
| machine | 2 cores |
| result | 30 passed, 0 failed, 1 skipped in 4 min 30 s of tests |

## Skipped

| what | test | why |
|---|---|---|
| s --lib | disk | no \\| root |

## Results

| tests | passed | failed | skipped | seconds |
|---|---:|---:|---:|---:|
| s --lib | 10 | 0 | 1 | 90 |
| t --test faults | 20 | 0 | 0 | 180 |
";
        assert_eq!(page, wanted);
    }

    #[test]
    fn what_failed_says_how_to_run_it_again() {
        let page = page(false, &[("s --lib", entry("s --lib", "2026-11-23T08:00:00Z", &["disk::full"], &[]))]);
        assert!(page.contains("| s --lib | disk::full | `make test-long ONLY='s --lib'` |"), "{page}");
        assert!(page.contains("proves nothing about the commit"), "{page}");
    }

    #[test]
    fn durations_have_two_parts() {
        for (seconds, text) in [(3, "3 s"), (303, "5 min 3 s"), (7503, "2 h 5 min")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
