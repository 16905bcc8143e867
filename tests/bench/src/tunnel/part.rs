//! One process of a way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const START_TIME: Duration = Duration::from_secs(20);

/// A running part. It ends with its standard input, so that none outlives the benchmark, however that ends.
pub(super) struct Part {
    child: Child,
    addresses: HashMap<String, SocketAddr>,
}

impl Part {
    /// Starts it, and waits until it has said these addresses, a line `NAME ADDRESS` each.
    pub(super) async fn start(command: &mut Command, names: &[&str]) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let shown = format!("{:?}", command.as_std().get_program());
        let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut addresses = HashMap::new();
        while !names.iter().all(|name| addresses.contains_key(*name)) {
            let line = timeout(START_TIME, lines.next_line()).await.context("it says no address")??;
            let line = line.with_context(|| format!("{shown} has ended"))?;
            if let Some((name, address)) = line.split_once(' ') {
                addresses.insert(name.to_owned(), address.parse()?);
            }
        }
        Ok(Self { child, addresses })
    }

    pub(super) fn address(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    pub(super) fn process(&self) -> anyhow::Result<u32> {
        self.child.id().context("it has ended")
    }
}
