use std::io::Write as _;

use cattle_harness::Client;

/// Where the demo speaks: what it does, each command as a user would type it, and what that printed.
pub(crate) struct Stage;

impl Stage {
    pub(crate) fn new() -> Self {
        Self
    }

    /// A step begins.
    pub(crate) fn heading(&self, text: &str) {
        self.write(&format!("\n==> {text}\n"));
    }

    /// A remark.
    pub(crate) fn say(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// Runs a command and shows both the line and its output.
    ///
    /// # Errors
    /// Those of the command.
    pub(crate) async fn run(&self, line: &str, command: &Client) -> anyhow::Result<String> {
        self.write(&format!("$ {line}\n"));
        let output = command.ok().await?;
        self.write(&output);
        Ok(output)
    }

    /// It ends here, and why.
    pub(crate) fn failed(&self, error: &anyhow::Error) {
        writeln!(std::io::stderr(), "\nThe demo failed: {error:#}").ok();
    }

    /// Nobody to tell is no reason to fail.
    fn write(&self, text: &str) {
        std::io::stdout().write_all(text.as_bytes()).ok();
    }
}
