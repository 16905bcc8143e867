//! A command in a pod, over the WebSocket protocol of `kubectl exec`.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, header};

use crate::way::Way;

const PROTOCOL: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STATUS: u8 = 3;
const DEADLINE: Duration = Duration::from_secs(60);

/// A running command.
pub(crate) struct Exec(WebSocketStream<TlsStream<TcpStream>>);

impl Exec {
    /// Starts a command in the only container of a pod, on a connection of its own.
    pub(crate) async fn start(way: &Way, pod: &str, command: &[&str]) -> anyhow::Result<Self> {
        let words: String = command.iter().map(|word| format!("command={word}&")).collect();
        let url = way.url(&format!("{pod}/exec?{words}stdin=true&stdout=true")).replacen("https", "wss", 1);
        let mut request = url.into_client_request()?;
        let headers = request.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        for (name, value) in &way.headers {
            headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        let host = way.base.host_str().context("no host")?.to_owned();
        let stream = TcpStream::connect((host.as_str(), way.base.port_or_known_default().context("no port")?)).await?;
        stream.set_nodelay(true)?;
        let stream = way.tls.connect(ServerName::try_from(host)?, stream).await?;
        let (socket, _) = timeout(DEADLINE, tokio_tungstenite::client_async(request, stream)).await??;
        Ok(Self(socket))
    }

    /// Sends bytes to a command that says them again, and waits for them.
    pub(crate) async fn echo(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut message = BytesMut::with_capacity(1 + bytes.len());
        message.put_u8(STDIN);
        message.put_slice(bytes);
        self.0.send(Message::Binary(message.freeze())).await?;
        let mut missing = bytes.len();
        while missing > 0 {
            let (channel, said) = self.next().await?.context("the command ended")?;
            ensure!(channel == STDOUT, "channel {channel} says {said:?}");
            missing = missing.checked_sub(said.len()).context("it says more than it was told")?;
        }
        Ok(())
    }

    /// Waits until it has ended by itself, and well.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        let mut status = None;
        while let Some((channel, said)) = self.next().await? {
            if channel == STATUS {
                status = Some(said);
            }
        }
        let status: serde_json::Value = serde_json::from_slice(&status.context("it has no status")?)?;
        ensure!(status["status"] == "Success", "{status}");
        Ok(())
    }

    /// What comes on which channel; nothing when the connection is at its end.
    async fn next(&mut self) -> anyhow::Result<Option<(u8, Bytes)>> {
        loop {
            match timeout(DEADLINE, self.0.next()).await.context("nothing comes")? {
                None | Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(Message::Binary(mut bytes))) if bytes.len() > 1 => {
                    let channel = bytes.split_to(1);
                    return Ok(Some((channel[0], bytes)));
                }
                // The protocol opens each channel with an empty message.
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => bail!("not of the protocol: {other:?}"),
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }
}
