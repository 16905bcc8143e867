//! An etcd whose news arrive late: what an API server reads and writes passes, what it watches is held back. So its caches lag
//! behind another's for as long as a test wants, which under load they do by themselves, but for milliseconds.

use std::{collections::HashSet, io, net::SocketAddr, sync::Arc};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, watch},
    task::JoinSet,
};

/// What an HTTP/2 client says first.
const PREFACE: usize = 24;
/// Length (3), type, flags, stream (4).
const HEADER: usize = 9;
const DATA: u8 = 0;
/// What gRPC puts before a message: whether it is compressed, and its length (4).
const MESSAGE: usize = 5;
/// Field 1 of a protobuf message, with a length. A `WatchRequest` has a request to create one there, whose own field 1 is
/// the key; a `RangeRequest` has the key itself.
const FIRST_FIELD: u8 = 0x0a;

/// A relay to etcd; it speaks as much HTTP/2 as is needed to tell a watch. Dropped, its connections end.
pub struct LateWatches {
    address: SocketAddr,
    held: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl LateWatches {
    /// A relay to `etcd` on a free port of loopback, for the watches of keys that begin with `prefix`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(etcd: SocketAddr, prefix: &'static str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (held, seen) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, etcd, prefix, seen));
        Ok(Self { address, held, _tasks: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether events wait from now on; those that have waited go when they no longer do.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}

/// Streams of one connection that watch.
type Watching = Arc<Mutex<HashSet<u32>>>;

async fn accept(listener: TcpListener, etcd: SocketAddr, prefix: &'static str, held: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let held = held.clone();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(etcd).await else { return };
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            let watching = Watching::default();
            // Whichever way ends, the connection is over.
            tokio::select! {
                _ = requests(from_client, to_server, prefix, &watching) => {}
                _ = answers(from_server, to_client, held, &watching) => {}
            }
        });
    }
}

/// Passes everything on, and notes which streams watch.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    prefix: &str,
    watching: &Watching,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let mut preface = PREFACE;
    while from.read_buf(&mut buffer).await? > 0 {
        let said = preface.min(buffer.len());
        preface -= said;
        to.write_all(&buffer.split_to(said)).await?;
        while let Some(frame) = next_frame(&mut buffer) {
            if watches(&frame, prefix) {
                watching.lock().await.insert(stream(&frame));
            }
            to.write_all(&frame).await?;
        }
    }
    Ok(())
}

/// Passes everything on but, while they are held, the data of streams that watch. Headers are never held: their
/// compression has a state that all streams share.
async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut held: watch::Receiver<bool>,
    watching: &Watching,
) -> io::Result<()> {
    let (mut buffer, mut waiting) = (BytesMut::new(), BytesMut::new());
    loop {
        tokio::select! {
            read = from.read_buf(&mut buffer) => if read? == 0 { return Ok(()) },
            // The sender lives as long as the relay, and its end ends this task.
            _ = held.changed() => {}
        }
        let hold = *held.borrow_and_update();
        if !hold && !waiting.is_empty() {
            to.write_all(&waiting.split()).await?;
        }
        while let Some(frame) = next_frame(&mut buffer) {
            if hold && frame[3] == DATA && watching.lock().await.contains(&stream(&frame)) {
                waiting.extend_from_slice(&frame);
            } else {
                to.write_all(&frame).await?;
            }
        }
    }
}

/// The next whole frame.
fn next_frame(buffer: &mut BytesMut) -> Option<BytesMut> {
    let length = usize::try_from(buffer.get(..3)?.get_uint(3)).ok()?;
    (buffer.len() >= HEADER + length).then(|| buffer.split_to(HEADER + length))
}

fn stream(frame: &[u8]) -> u32 {
    frame[5..HEADER].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Whether a frame of the client's begins a watch of such keys.
fn watches(frame: &[u8], prefix: &str) -> bool {
    let body = frame.get(HEADER + MESSAGE..).unwrap_or_default();
    // Tag and length of the request, tag and length of the key: no key that is watched is longer than one byte can say.
    frame[3] == DATA
        && body.first() == Some(&FIRST_FIELD)
        && body.get(2) == Some(&FIRST_FIELD)
        && body.get(4..).is_some_and(|key| key.starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, message: &[u8]) -> BytesMut {
        let length = u8::try_from(MESSAGE + message.len()).unwrap();
        let mut frame = BytesMut::from([0, 0, length, kind, 0, 0, 0, 1, 7, 0, 0, 0, 0, length].as_slice());
        frame.extend_from_slice(message);
        frame
    }

    #[test]
    fn a_watch_is_told_from_a_read() {
        let watch = frame(DATA, b"\x0a\x18\x0a\x16/registry/clusterroles/\x12\x01x");
        assert!(watches(&watch, "/registry/clusterrole"));
        assert!(!watches(&watch, "/registry/pods"));
        assert_eq!(stream(&watch), 0x107);
        assert!(!watches(&frame(DATA, b"\x0a\x16/registry/clusterroles/"), "/registry/clusterrole"));
        assert!(!watches(&frame(1, b"\x0a\x18\x0a\x16/registry/clusterroles/"), "/registry/clusterrole"));
        assert!(!watches(&frame(DATA, b""), "/registry/clusterrole"));
    }

    #[test]
    fn frames_come_whole() {
        let whole = frame(DATA, b"abc");
        let mut buffer = BytesMut::from(&whole[..whole.len() - 1]);
        assert!(next_frame(&mut buffer).is_none());
        buffer.extend_from_slice(b"c");
        buffer.extend_from_slice(&[0, 0]);
        assert_eq!(next_frame(&mut buffer).unwrap(), whole);
        assert!(next_frame(&mut buffer).is_none());
    }
}
