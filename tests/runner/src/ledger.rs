//! What was done before, so that a second start goes on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// The results of one commit with one seed: a file with one JSON object a line, each on disk before the next unit starts.
pub(crate) struct Ledger {
    directory: PathBuf,
    file: File,
    entries: BTreeMap<String, Entry>,
}

/// The newest result of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) unit: String,
    pub(crate) ended_at: Timestamp,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

impl Ledger {
    /// Opens the one in `directory`, or begins it; with `forget` from nothing.
    pub(crate) fn open(directory: PathBuf, forget: bool) -> anyhow::Result<Self> {
        let path = directory.join("results.jsonl");
        fs::create_dir_all(directory.join("logs")).with_context(|| format!("{}", directory.display()))?;
        if forget && path.exists() {
            fs::remove_file(&path)?;
        }
        let before = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        let mut file = File::options().create(true).append(true).open(&path)?;
        if !before.is_empty() && !before.ends_with('\n') {
            // The power went while the last line was written: the next one stands alone.
            file.write_all(b"\n")?;
        }
        Ok(Self { directory, file, entries: read(&before) })
    }

    /// The result of a unit, if it has run.
    pub(crate) fn of(&self, unit: &str) -> Option<&Entry> {
        self.entries.get(unit)
    }

    /// Remembers a result, for good before it returns.
    pub(crate) fn note(&mut self, unit: &str, outcome: Outcome) -> anyhow::Result<()> {
        let entry = Entry { unit: unit.to_owned(), ended_at: Timestamp::now(), outcome };
        let line = serde_json::to_string(&entry)? + "\n";
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.entries.insert(unit.to_owned(), entry);
        Ok(())
    }

    /// Where a unit's output goes.
    pub(crate) fn log(&self, unit: &str) -> PathBuf {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '.' };
        self.directory.join("logs").join(unit.chars().map(plain).collect::<String>() + ".log")
    }

    /// Where all of it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The newest entry of each unit; a line that is torn says nothing.
fn read(text: &str) -> BTreeMap<String, Entry> {
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    entries.map(|entry| (entry.unit.clone(), entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(failed: &[&str]) -> Outcome {
        let failed = failed.iter().map(|name| (*name).to_owned()).collect();
        Outcome { passed: 3, failed, skipped: Vec::new(), seconds: 9 }
    }

    fn place(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("cattle-test-long-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        place
    }

    #[test]
    fn a_second_start_knows_the_newest_results() {
        let place = place("second");
        let mut ledger = Ledger::open(place.clone(), false).unwrap();
        ledger.note("a", outcome(&["x"])).unwrap();
        ledger.note("a", outcome(&[])).unwrap();
        ledger.note("b", outcome(&[])).unwrap();
        let again = Ledger::open(place.clone(), false).unwrap();
        assert_eq!(again.of("a").map(|entry| entry.outcome.is_good()), Some(true));
        assert_eq!((again.of("b").is_some(), again.of("c").is_some()), (true, false));
        let forgotten = Ledger::open(place.clone(), true).unwrap();
        assert!(forgotten.of("a").is_none());
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_torn_line_loses_its_own_result_only() {
        let place = place("torn");
        let mut ledger = Ledger::open(place.clone(), false).unwrap();
        ledger.note("a", outcome(&[])).unwrap();
        ledger.note("b", outcome(&[])).unwrap();
        let path = place.join("results.jsonl");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 20]).unwrap();
        let mut torn = Ledger::open(place.clone(), false).unwrap();
        assert_eq!((torn.of("a").is_some(), torn.of("b").is_some()), (true, false));
        torn.note("c", outcome(&[])).unwrap();
        let again = Ledger::open(place.clone(), false).unwrap();
        assert_eq!((again.of("a").is_some(), again.of("c").is_some()), (true, true));
        fs::remove_dir_all(place).unwrap();
    }
}
