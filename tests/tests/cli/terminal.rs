//! A terminal and somebody who types.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use cattle_harness::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::PROMPT;

/// A command on a terminal of its own, which `script` makes.
pub(crate) struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    shown: String,
    /// What was looked at already.
    seen: usize,
}

impl Terminal {
    /// In the environment of `like`.
    pub(crate) fn open(like: &Client, directory: &Path, line: &str) -> anyhow::Result<Self> {
        let mut command = Command::new("script");
        for (name, value) in like.command().as_std().get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.args(["-qec", line, "/dev/null"]).current_dir(directory).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("no program `script`")?;
        let keyboard = child.stdin.take().context("no stdin")?;
        let screen = child.stdout.take().context("no stdout")?;
        Ok(Self { child, keyboard, screen, shown: String::new(), seen: 0 })
    }

    /// Waits until the screen shows a text, behind what was seen before.
    pub(crate) async fn expect(&mut self, text: &str) -> anyhow::Result<()> {
        let look = async {
            loop {
                if let Some(at) = self.shown[self.seen..].find(text) {
                    self.seen += at + text.len();
                    return anyhow::Ok(());
                }
                anyhow::ensure!(self.read().await?, "it ended");
            }
        };
        let looked = timeout(PROMPT, look).await.context("it did not come").and_then(|looked| looked);
        looked.with_context(|| format!("no {text:?} on the screen:\n{}", self.shown))
    }

    pub(crate) async fn type_line(&mut self, line: &str) -> anyhow::Result<()> {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(self.keyboard.flush().await?)
    }

    /// Until the command has ended; everything that was shown.
    pub(crate) async fn end(mut self) -> anyhow::Result<String> {
        let rest = async {
            while self.read().await? {}
            self.child.wait().await?;
            anyhow::Ok(())
        };
        timeout(PROMPT, rest).await.context("it does not end")??;
        Ok(self.shown)
    }

    async fn read(&mut self) -> anyhow::Result<bool> {
        let mut bytes = [0; 4096];
        let read = self.screen.read(&mut bytes).await?;
        self.shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        Ok(read > 0)
    }
}
