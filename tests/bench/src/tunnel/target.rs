//! What is behind the tunnel: it sends, it receives, it answers, as the first byte of a connection says.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Sends as many bytes as the number that follows, then ends.
pub(super) const DOWN: u8 = b'd';
/// Receives as many bytes as the number that follows, then sends one.
pub(super) const UP: u8 = b'u';
/// Answers each [`REQUEST`] with an [`ANSWER`].
pub(super) const ECHO: u8 = b'e';
/// Receives to the end of file, then sends how much it was.
pub(super) const COUNT: u8 = b'c';

/// Bytes of a small request.
pub(super) const REQUEST: usize = 128;
/// Bytes of its answer.
pub(super) const ANSWER: usize = 1024;
/// Bytes of one write or read of bulk.
pub(super) const BULK: usize = 256 * 1024;

/// Serves until the process ends.
pub(super) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let block: Arc<[u8]> = vec![0x5a; BULK].into();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let block = Arc::clone(&block);
        connections.spawn(async move {
            // A peer that goes away in the middle is what some measurements end with.
            let _ = answer(stream, &block).await;
        });
    }
}

async fn answer(mut stream: TcpStream, block: &[u8]) -> std::io::Result<()> {
    match stream.read_u8().await? {
        DOWN => {
            let mut left = stream.read_u64().await?;
            while left > 0 {
                let n = left.min(block.len() as u64) as usize;
                stream.write_all(&block[..n]).await?;
                left -= n as u64;
            }
            stream.shutdown().await
        }
        UP => {
            let wanted = stream.read_u64().await?;
            if drain(&mut stream, wanted).await? == wanted {
                stream.write_u8(1).await?;
            }
            stream.shutdown().await
        }
        COUNT => {
            let count = drain(&mut stream, u64::MAX).await?;
            stream.write_u64(count).await?;
            stream.shutdown().await
        }
        _ => {
            let mut request = [0; REQUEST];
            loop {
                stream.read_exact(&mut request).await?;
                stream.write_all(&block[..ANSWER]).await?;
            }
        }
    }
}

/// Reads up to this many bytes, or to the end of file; says how many they were.
async fn drain(stream: &mut TcpStream, wanted: u64) -> std::io::Result<u64> {
    let (mut buffer, mut count) = (vec![0; BULK], 0);
    while count < wanted {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        count += n as u64;
    }
    Ok(count)
}
