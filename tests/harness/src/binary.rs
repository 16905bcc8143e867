use std::path::PathBuf;

use anyhow::Context as _;

/// One of our own binaries (`cattle-server`, …), from the target directory that the running test was built into.
///
/// `cargo test` builds the binaries of the tested package only: `make test` builds the workspace first.
///
/// # Errors
/// When it has not been built; the message has the command.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find the running test")?;
    // …/<triple>/debug/deps/test-0123 for a test, …/<triple>/debug/program for a program.
    let found = this.ancestors().skip(1).take(3).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: run `make build` first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_comes_with_the_command_that_builds_it() {
        let error = binary("cattle-unheard-of").unwrap_err();
        assert!(error.to_string().contains("make build"));
    }
}
