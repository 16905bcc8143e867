use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::pki::Identity;

/// Any one command that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// One run of a command-line client: kubectl, helm, cattle.
#[derive(Clone, Debug)]
pub struct Client {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    deadline: Duration,
}

/// What such a run gave.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output, bytes as they came.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Client {
    /// A program that speaks to the cluster of a kubeconfig; no other configuration of this user has a say.
    pub fn new(program: impl Into<PathBuf>, kubeconfig: &Path) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            stdin: None,
            deadline: DEADLINE,
        }
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECTL_KUBERC", "false")
        .env("HOME", kubeconfig.parent().unwrap_or_else(|| Path::new("/")))
    }

    /// Reaches everything directly: what it speaks to is on this machine, where no proxy of the user's gets.
    #[must_use]
    pub fn direct(self) -> Self {
        self.env("NO_PROXY", "*").env("no_proxy", "*")
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Gives it this on standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Allows it longer, or less, than two minutes.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started or does not end before the deadline; it is killed then, and when the future is dropped.
    pub async fn output(&self) -> anyhow::Result<Output> {
        let mut command = self.command();
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start it")?;
        let input = child.stdin.take().zip(self.stdin.clone());
        let feed = async {
            if let Some((mut pipe, bytes)) = input {
                // A program that ends without reading all of its input is no error of ours.
                pipe.write_all(&bytes).await.ok();
            }
        };
        let run = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(self.deadline, run).await.with_context(|| format!("{self:?} hangs"))??;
        Ok(Output { status: output.status, stdout: output.stdout, stderr: output.stderr })
    }

    /// Runs it and gives its standard output as text.
    ///
    /// # Errors
    /// As [`Client::output`], and when it ends with another status than 0: the message has its standard error.
    pub async fn ok(&self) -> anyhow::Result<String> {
        let output = self.output().await?;
        if !output.status.success() {
            let line: Vec<_> = self.arguments.iter().map(|argument| argument.to_string_lossy()).collect();
            let program = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            anyhow::bail!(
                "{program} {} ended with {}: {}{}",
                line.join(" "),
                output.status,
                output.error(),
                output.text()
            );
        }
        Ok(output.text())
    }

    /// Runs it with `-o json` and parses what it prints.
    ///
    /// # Errors
    /// As [`Client::ok`], and when that is no JSON.
    pub async fn json(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.clone().args(["-o", "json"]).ok().await?)?)
    }

    /// For tests that drive it themselves; killed when dropped.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.kill_on_drop(true);
        command
    }
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn error(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// A kubeconfig with one cluster, user and context, all called `name`. JSON is YAML.
pub(crate) fn kubeconfig(name: &str, server: &str, ca: &str, identity: &Identity) -> String {
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{ "name": name, "cluster": { "server": server, "certificate-authority-data": encode(ca) } }],
        "users": [{ "name": name, "user": {
            "client-certificate-data": encode(&identity.certificate), "client-key-data": encode(&identity.key),
        } }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
    })
    .to_string()
}
