use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use cattle_harness::{Process, Program, Run, Scope, binary};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::place::Place;
use crate::stage::Stage;

const READY_DEADLINE: Duration = Duration::from_secs(60);

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// What agents and users call it.
    pub(crate) url: String,
    /// `ADDRESS:PORT` to listen on for them.
    pub(crate) listen: String,
    /// `ADDRESS:PORT` for health and metrics.
    pub(crate) admin: String,
}

/// The demo's server.
pub(crate) struct Server {
    pub(crate) address: Address,
    /// What users and agents pin.
    pub(crate) ca_checksum: String,
    /// The first administrator's name and password, as the server wrote them.
    pub(crate) administrator: (String, String),
    process: Process,
    scope: Scope,
}

/// Starts `cattle-server` on an empty data directory and waits until it is ready.
pub(crate) async fn start(stage: &Stage, place: &Place, run: &Run, address: &Address) -> anyhow::Result<Server> {
    stage.heading(&format!("cattle-server on {}", address.url));
    place.link_programs().await?;
    let data = place.directory().join("server-data");
    let mut scope = run.scope("server")?;
    // Until it works, it goes with this process.
    scope.set_keep(false);
    let program = Program::new("cattle-server", binary("cattle-server")?)
        .clean_environment()
        .args(["--data-dir".into(), data.clone().into_os_string()])
        .args(["--url", &address.url, "--listen", &address.listen, "--admin-listen", &address.admin]);
    stage.say(&format!(
        "$ cattle-server --data-dir {} --url {} --listen {} --admin-listen {}",
        data.display(),
        address.url,
        address.listen,
        address.admin
    ));
    let mut process = program.start(&scope)?;
    process.wait_until("the server to be ready", READY_DEADLINE, async || ready(&address.admin).await).await?;
    let text = fs::read_to_string(data.join("bootstrap-password")).context("the server wrote no first password")?;
    let mut lines = text.lines().map(str::to_owned);
    let administrator = lines.next().zip(lines.next()).context("the first password's file is not as expected")?;
    let log = process.log();
    let ca_checksum = checksum(&log).context("the server's log does not name its CA's checksum")?.to_owned();
    stage.say(&format!("Its log: {}", process.log_path().display()));
    Ok(Server { address: address.clone(), ca_checksum, administrator, process, scope })
}

impl Server {
    /// It goes on after this process.
    pub(crate) fn leave_running(mut self) {
        self.scope.set_keep(true);
        self.process.detach();
    }
}

/// `/readyz` of the admin listener, which speaks plain HTTP.
async fn ready(admin: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(format!("GET /readyz HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.lines().next().unwrap_or_default();
    anyhow::ensure!(status.contains(" 200 "), "/readyz says: {answer}");
    Ok(())
}

/// The value of `ca_checksum`, whatever form the log has.
fn checksum(log: &str) -> Option<&str> {
    let (_, rest) = log.split_once("ca_checksum")?;
    let start = rest.find(|char: char| char.is_ascii_hexdigit())?;
    let value = rest[start..].split(|char: char| !char.is_ascii_hexdigit()).next()?;
    (start <= 8 && value.len() == 64).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_found_in_text_and_in_json() {
        let hex = "ab".repeat(32);
        assert_eq!(checksum(&format!("INFO serving url=https://x ca_checksum={hex} x=1")), Some(hex.as_str()));
        assert_eq!(checksum(&format!(r#"{{"ca_checksum":"{hex}","url":"x"}}"#)), Some(hex.as_str()));
        assert_eq!(
            checksum(&format!("\u{1b}[3mca_checksum\u{1b}[0m\u{1b}[2m=\u{1b}[0m{hex}")),
            None,
            "no colours in a file"
        );
        assert_eq!(checksum("INFO serving ca_checksum=abc"), None);
        assert_eq!(checksum("INFO serving"), None);
    }
}
