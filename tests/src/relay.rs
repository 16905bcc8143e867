//! A network in between that can be cut, swallow everything, and count.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Relays TCP connections to one address. Dropped, all of them end.
pub struct Relay {
    address: SocketAddr,
    way: watch::Sender<(Way, u64)>,
    back: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

/// What the relay does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Passes them on.
    Open,
    /// Passes nothing on in either direction and says nothing to anybody, as a network that drops packets; what was sent
    /// meanwhile arrives when it opens again.
    Silent,
    /// Ends every connection, and new ones at once.
    Shut,
}

impl Relay {
    /// A relay on a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(to: SocketAddr) -> anyhow::Result<Self> {
        Self::on(TcpListener::bind("127.0.0.1:0").await?, to)
    }

    /// A relay on a listener, which may stand in a network that this process is not in.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn on(listener: TcpListener, to: SocketAddr) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let (way, seen) = watch::channel((Way::Open, 0));
        let back = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, to, seen, Arc::clone(&back)));
        Ok(Self { address, way, back, _tasks: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn set(&self, way: Way) {
        self.way.send_modify(|now| now.0 = way);
    }

    /// Ends the connections that there are; new ones pass.
    pub fn cut(&self) {
        self.way.send_modify(|now| now.1 += 1);
    }

    /// Bytes that came from the address behind it so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.back.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, way: watch::Receiver<(Way, u64)>, back: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(client, to, way.clone(), Arc::clone(&back)));
    }
}

async fn connection(client: TcpStream, to: SocketAddr, way: watch::Receiver<(Way, u64)>, back: Arc<AtomicU64>) {
    let mut ending = way.clone();
    let generation = ending.borrow().1;
    let run = async {
        open(&mut way.clone()).await;
        let server = TcpStream::connect(to).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let nothing = AtomicU64::new(0);
        let (there, here) = tokio::join!(
            copy(from_client, to_server, way.clone(), &nothing),
            copy(from_server, to_client, way.clone(), &back)
        );
        there.and(here)
    };
    tokio::select! {
        _ = run => {}
        _ = ending.wait_for(|now| now.0 == Way::Shut || now.1 != generation) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<(Way, u64)>,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        open(&mut way).await;
        if read == 0 {
            return to.shutdown().await;
        }
        count.fetch_add(read as u64, Ordering::Relaxed);
        to.write_all(&buffer[..read]).await?;
    }
}

async fn open(way: &mut watch::Receiver<(Way, u64)>) {
    // The sender lives as long as the relay, and its end ends this task.
    let _ = way.wait_for(|now| now.0 == Way::Open).await;
}
