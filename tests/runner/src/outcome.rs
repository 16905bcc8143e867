//! What came of a unit.

use serde::{Deserialize, Serialize};

/// What came of one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    /// Tests that failed, or how the program ended otherwise.
    pub(crate) failed: Vec<String>,
    pub(crate) skipped: Vec<Skip>,
    pub(crate) seconds: u64,
}

/// A test that did not test, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skip {
    pub(crate) test: String,
    pub(crate) why: String,
}

/// How a test program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was ended after its time.
    Deadline,
}

impl Outcome {
    /// Reads what a test program said (`--show-output`). How it ended decides; its words only name what failed.
    pub(crate) fn read(output: &str, ended: Ended, seconds: u64) -> Self {
        let (mut passed, mut failed, mut skipped) = (0_usize, Vec::new(), Vec::new());
        let mut speaker = None;
        for line in output.lines() {
            if let Some(name) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
                speaker = Some(name.to_owned());
            } else if let Some((test, result)) = result(line) {
                match result.split_once(", ").map_or((result, ""), |(word, why)| (word, why)) {
                    ("ok", _) => passed += 1,
                    ("ignored", why) => skipped.push(Skip { test: test.to_owned(), why: ignored(why) }),
                    ("FAILED", _) => failed.push(test.to_owned()),
                    _ => {}
                }
            } else if let (Some(why), Some(test)) = (reason(line), &speaker) {
                skipped.push(Skip { test: test.clone(), why: why.to_owned() });
            }
        }
        // A test that skips itself has passed in the program's eyes, and was counted there.
        skipped.dedup();
        let skipped_itself = skipped.iter().filter(|skip| !skip.why.starts_with(IGNORED)).count();
        passed = passed.saturating_sub(skipped_itself);
        match ended {
            Ended::Code(0) => {}
            Ended::Code(_) if !failed.is_empty() => {}
            Ended::Code(code) => failed.push(format!("(the program ended with code {code})")),
            Ended::Signal(signal) => failed.push(format!("(the program ended by signal {signal})")),
            Ended::Deadline => failed.push(format!("(the program did not end within {seconds} s)")),
        }
        Self { passed, failed, skipped, seconds }
    }

    /// Whether nothing failed.
    pub(crate) fn is_good(&self) -> bool {
        self.failed.is_empty()
    }
}

const IGNORED: &str = "ignored";

fn ignored(why: &str) -> String {
    if why.is_empty() { IGNORED.to_owned() } else { format!("{IGNORED}: {why}") }
}

/// `test NAME ... RESULT`.
fn result(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

/// What a test says that cannot run here.
fn reason(line: &str) -> Option<&str> {
    line.strip_prefix("SKIPPED: ").or_else(|| line.strip_prefix("skipped: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 5 tests
test crash::writer ... ignored, started by the other tests of this module
test crash::killed ... ok
test crash::power ... ok
test disk_full ... FAILED
test row ... ok

successes:

---- crash::power stdout ----
power cuts: a slice
SKIPPED: strace is not installed or may not trace

failures:

---- disk_full stdout ----
thread 'disk_full' panicked

failures:
    disk_full

test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.81s
";

    #[test]
    fn results_are_counted_and_named() {
        let outcome = Outcome::read(OUTPUT, Ended::Code(101), 7);
        let skip = |test: &str, why: &str| Skip { test: test.to_owned(), why: why.to_owned() };
        let wanted = Outcome {
            passed: 2,
            failed: vec!["disk_full".to_owned()],
            skipped: vec![
                skip("crash::writer", "ignored: started by the other tests of this module"),
                skip("crash::power", "strace is not installed or may not trace"),
            ],
            seconds: 7,
        };
        assert_eq!(outcome, wanted);
        assert!(!outcome.is_good());
    }

    #[test]
    fn how_the_program_ended_decides() {
        assert!(Outcome::read("test a ... ok\n", Ended::Code(0), 1).is_good());
        for ended in [Ended::Code(1), Ended::Code(101), Ended::Signal(6), Ended::Deadline] {
            let outcome = Outcome::read("test a ... ok\n", ended, 1);
            assert_eq!((outcome.is_good(), outcome.passed, outcome.failed.len()), (false, 1, 1), "{ended:?}");
        }
    }

    #[test]
    fn a_test_that_says_much_skips_once() {
        let output = "test a ... ok\n---- a stdout ----\nskipped: no root\nskipped: no root\n";
        let outcome = Outcome::read(output, Ended::Code(0), 1);
        assert_eq!((outcome.passed, outcome.skipped.len()), (0, 1));
    }
}
