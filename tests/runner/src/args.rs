//! The command line of the long tests.

use std::path::PathBuf;
use std::time::Duration;

/// Runs every test over all of its matrix, and goes on where it was stopped.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only what has this in its name, e.g. "cattle-store --test crash" or "faults"
    #[arg(long, value_name = "PATTERN")]
    pub(crate) only: Option<String>,
    /// Run again what has passed before
    #[arg(long)]
    pub(crate) again: bool,
    /// Run a tree with changes that are not committed; nothing is remembered and the report says so
    #[arg(long)]
    pub(crate) allow_dirty: bool,
    /// Say what would be run, and run nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Minutes after which one test program is ended and has failed
    #[arg(long, value_name = "MINUTES", default_value_t = 180)]
    deadline: u64,
    /// The report
    #[arg(long, value_name = "FILE", default_value = "docs/test-long.md")]
    pub(crate) report: PathBuf,
}

impl Args {
    /// How long one test program may take.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline.saturating_mul(60))
    }

    /// Whether something of this name is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|pattern| name.contains(pattern))
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use crate::{Cli, Command};

    use super::Args;

    fn parsed(line: &[&str]) -> Args {
        match Cli::parse_from(["cattle-test", "long"].iter().chain(line)).command {
            Command::Long(args) => args,
            Command::Slice(_) => unreachable!("the line says otherwise"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let args = parsed(&["--only", "cattle-store --test crash", "--deadline", "2"]);
        assert!(args.wants("cattle-store --test crash") && !args.wants("cattle-store --lib"));
        assert_eq!(args.deadline().as_secs(), 120);
        assert!(parsed(&[]).wants("anything"));
    }
}
