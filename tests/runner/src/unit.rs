//! What is run, and remembered, as one.

use crate::binary::Binary;

/// One process to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// All tests of a binary.
    Binary(Binary),
    /// One test of a binary.
    Test {
        /// The binary.
        binary: Binary,
        /// The test's path in it.
        test: String,
    },
    /// The examples in the documentation; only cargo can run them.
    Documentation,
}

impl Unit {
    /// Its name: what is remembered, and what `--only` is compared with.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Binary(binary) => binary.name.clone(),
            Self::Test { binary, test } => format!("{} {test}", binary.name),
            Self::Documentation => self.group().to_owned(),
        }
    }

    /// The row of the report that it belongs to.
    pub(crate) fn group(&self) -> &str {
        match self {
            Self::Binary(binary) | Self::Test { binary, .. } => &binary.name,
            Self::Documentation => "--workspace --doc",
        }
    }
}

/// The units of a binary. A test of the end-to-end ones takes minutes and owns its clusters: alone it can be repeated
/// without the others, and a stop loses no more than one.
pub(crate) fn units_of(binary: Binary, tests: Vec<String>) -> Vec<Unit> {
    if tests.is_empty() {
        Vec::new()
    } else if binary.end_to_end {
        tests.into_iter().map(|test| Unit::Test { binary: binary.clone(), test }).collect()
    } else {
        vec![Unit::Binary(binary)]
    }
}

/// The tests of `--list --format terse`, without the ignored ones of `--list --format terse --ignored`.
pub(crate) fn listed(all: &str, ignored: &str) -> Vec<String> {
    let names = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
    };
    let ignored = names(ignored);
    names(all).into_iter().filter(|name| !ignored.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn binary(name: &str, end_to_end: bool) -> Binary {
        let (executable, directory) = (PathBuf::from("/t/x"), PathBuf::from("/src"));
        Binary { name: name.to_owned(), executable, directory, end_to_end }
    }

    #[test]
    fn end_to_end_tests_are_units_of_their_own() {
        let tests = vec!["a::one".to_owned(), "two".to_owned()];
        let names = |units: Vec<Unit>| units.iter().map(Unit::name).collect::<Vec<_>>();
        let faults = binary("cattle-tests --test faults", true);
        assert_eq!(
            names(units_of(faults.clone(), tests.clone())),
            ["cattle-tests --test faults a::one", "cattle-tests --test faults two"]
        );
        assert_eq!(names(units_of(binary("cattle-store --lib", false), tests)), ["cattle-store --lib"]);
        assert!(units_of(faults, Vec::new()).is_empty());
        assert!(units_of(binary("cattle-store --lib", false), Vec::new()).is_empty());
    }

    #[test]
    fn ignored_tests_are_not_listed() {
        let all = "crash::writer: test\ncrash::killed: test\nwatch: benchmark\n";
        assert_eq!(listed(all, "crash::writer: test\n"), ["crash::killed"]);
    }
}
