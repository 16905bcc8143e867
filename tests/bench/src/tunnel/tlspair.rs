//! Two relays with a TLS connection between them for each stream.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// More gains nothing.
const BUFFER: usize = 64 * 1024;

/// The end at the load. It dials the agent, where the tunnel's is dialled by it: the handshakes are the same.
pub(super) async fn server(entry: TcpListener, tls: Arc<ClientConfig>, agent: SocketAddr) -> anyhow::Result<()> {
    let (tls, name) = (TlsConnector::from(tls), ServerName::try_from("localhost")?);
    let mut streams = JoinSet::new();
    loop {
        while streams.try_join_next().is_some() {}
        let (near, _) = entry.accept().await?;
        let (tls, name) = (tls.clone(), name.clone());
        streams.spawn(async move {
            let far = connect(agent).await?;
            relay(near, tls.connect(name, far).await?).await
        });
    }
}

/// The end at the target.
pub(super) async fn agent(listener: TcpListener, tls: Arc<ServerConfig>, target: SocketAddr) -> anyhow::Result<()> {
    let tls = TlsAcceptor::from(tls);
    let mut streams = JoinSet::new();
    loop {
        while streams.try_join_next().is_some() {}
        let (near, _) = listener.accept().await?;
        let tls = tls.clone();
        streams.spawn(async move {
            near.set_nodelay(true)?;
            let near = tls.accept(near).await?;
            relay(connect(target).await?, near).await
        });
    }
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn relay(mut plain: TcpStream, mut tls: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    plain.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut plain, &mut tls, BUFFER, BUFFER).await.map(drop)
}
