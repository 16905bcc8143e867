//! A client that runs while the test does something else.

use std::process::Stdio;

use anyhow::Context as _;
use cattle_harness::{Client, Output};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::time::timeout;

use crate::rig::SOON;

/// A running client, of which lines are read one by one and then the rest. Dropped, it is killed.
pub(crate) struct Session {
    child: Child,
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
}

struct Stream<R> {
    reader: BufReader<R>,
    seen: Vec<u8>,
}

impl Session {
    /// Starts it without input.
    pub(crate) fn start(client: &Client) -> anyhow::Result<Self> {
        let mut command = client.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = Stream::new(child.stdout.take().context("no output")?);
        let stderr = Stream::new(child.stderr.take().context("no errors")?);
        Ok(Self { child, stdout, stderr })
    }

    /// The next line of its standard output, with its end.
    pub(crate) async fn line(&mut self) -> anyhow::Result<String> {
        let line = timeout(SOON, self.stdout.line()).await.context("it prints nothing more")??;
        line.with_context(|| self.ended())
    }

    /// The next line of its standard error, with its end.
    pub(crate) async fn error_line(&mut self) -> anyhow::Result<String> {
        let line = timeout(SOON, self.stderr.line()).await.context("it has nothing more to say")??;
        line.with_context(|| self.ended())
    }

    fn ended(&self) -> String {
        let text = |seen| String::from_utf8_lossy(seen).into_owned();
        format!("it ended: {}{}", text(&self.stdout.seen), text(&self.stderr.seen))
    }

    /// Waits for its end; answers with all that it printed.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Output> {
        let run = async { tokio::try_join!(self.stdout.rest(), self.stderr.rest(), self.child.wait()) };
        let (stdout, stderr, status) = timeout(SOON, run).await.context("it does not end")??;
        Ok(Output { status, stdout, stderr })
    }

    /// Kills it; answers with all that it had printed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Output> {
        self.child.start_kill()?;
        self.finish().await
    }
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader), seen: Vec::new() }
    }

    async fn line(&mut self) -> std::io::Result<Option<String>> {
        let begin = self.seen.len();
        let read = self.reader.read_until(b'\n', &mut self.seen).await?;
        Ok((read > 0).then(|| String::from_utf8_lossy(&self.seen[begin..]).into_owned()))
    }

    async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        self.reader.read_to_end(&mut self.seen).await?;
        Ok(std::mem::take(&mut self.seen))
    }
}
