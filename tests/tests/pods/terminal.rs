//! A client on a terminal of its own, made by `script`, which every Debian has: it gives the client a pseudo-terminal that
//! it controls, so that a change of the window's size reaches it as it would reach a user's.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use cattle_harness::{Client, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::rig::SOON;

/// Rows and columns.
pub(crate) type Size = (u16, u16);

/// Somebody at a terminal. Dropped, the terminal hangs up and the client ends.
pub(crate) struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    seen: Vec<u8>,
    device: PathBuf,
    _files: tempfile::TempDir,
}

impl Terminal {
    /// Starts a client on a terminal of this size.
    pub(crate) fn open(client: &Client, (rows, columns): Size) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        let device = files.path().join("device");
        let (command, line) = (client.command(), files.path().join("line"));
        let command = command.as_std();
        let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
        let words: Vec<String> = words.collect::<anyhow::Result<_>>()?;
        let (words, shown) = (words.join(" "), quoted(device.as_os_str())?);
        std::fs::write(&line, format!("stty rows {rows} cols {columns}\ntty >{shown}\nexec {words}\n"))?;
        let line = format!("exec /bin/sh {}", quoted(line.as_os_str())?);
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = script.spawn().context("cannot start `script`, which package bsdutils has")?;
        let keyboard = child.stdin.take().context("no keyboard")?;
        let screen = child.stdout.take().context("no screen")?;
        Ok(Self { child, keyboard, screen, seen: Vec::new(), device, _files: files })
    }

    /// Reads until this text has appeared.
    pub(crate) async fn shows(&mut self, text: &str) -> anyhow::Result<()> {
        let read = async {
            while !self.seen.windows(text.len()).any(|window| window == text.as_bytes()) {
                ensure!(self.screen.read_buf(&mut self.seen).await? > 0, "it ended");
            }
            Ok(())
        };
        let shown = timeout(SOON, read).await;
        shown.context("it does not appear").flatten().with_context(|| format!("{text:?} in {:?}", self.text()))
    }

    /// Waits until the client has the terminal show nothing by itself.
    pub(crate) async fn is_taken(&self) -> anyhow::Result<()> {
        wait_for("the client to take the terminal", SOON, async || {
            let settings = self.stty(&["-a"]).await?;
            ensure!(settings.split_whitespace().any(|word| word == "-echo"), "{settings}");
            Ok(())
        })
        .await
    }

    /// Types something.
    pub(crate) async fn types(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.keyboard.write_all(text.as_bytes()).await?)
    }

    /// Changes the window's size.
    pub(crate) async fn resize(&self, (rows, columns): Size) -> anyhow::Result<()> {
        self.stty(&["rows", &rows.to_string(), "cols", &columns.to_string()]).await.map(drop)
    }

    /// Waits for the client's end; answers with all that has appeared and its exit code.
    pub(crate) async fn finish(mut self) -> anyhow::Result<(String, Option<i32>)> {
        let run = async {
            self.screen.read_to_end(&mut self.seen).await?;
            self.child.wait().await
        };
        let status = timeout(SOON, run).await;
        let status = status.with_context(|| format!("it does not end: {:?}", self.text()))??;
        Ok((self.text(), status.code()))
    }

    /// Runs `stty` on the terminal, from outside.
    async fn stty(&self, line: &[&str]) -> anyhow::Result<String> {
        let device = std::fs::read_to_string(&self.device)?;
        let ran = Command::new("stty").args(["-F", device.trim()]).args(line).output().await?;
        ensure!(ran.status.success(), "stty ended with {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
        Ok(String::from_utf8(ran.stdout)?)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

/// As one word of a shell's line.
fn quoted(word: &OsStr) -> anyhow::Result<String> {
    let word = word.to_str().context("no UTF-8")?;
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

/// Makes the same person's session by both ways, at the same time.
pub(crate) async fn same<T: PartialEq + std::fmt::Debug>(
    clients: &[Client; 2],
    size: Size,
    session: impl AsyncFn(Terminal) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let [through, direct] = clients;
    let (through, direct) = (Terminal::open(through, size)?, Terminal::open(direct, size)?);
    let (through, direct) = tokio::join!(session(through), session(direct));
    let (through, direct) = (through.context("through the server")?, direct.context("direct")?);
    ensure!(through == direct, "the ways differ:\n{through:?}\n{direct:?}");
    Ok(through)
}
