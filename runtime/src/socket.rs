//! Options of TCP connections that carry small messages beside large ones.

use std::io;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes that may wait in the kernel before they are sent for the first time. What is there cannot be overtaken, so it is no
/// more than keeps the connection busy until the process has been woken; what is sent and not acknowledged does not count.
const UNSENT: u32 = 128 * 1024;

/// Has small messages sent at once (`TCP_NODELAY`), and little of what is written wait where nothing can overtake it
/// (`TCP_NOTSENT_LOWAT`).
///
/// # Errors
/// When the kernel knows an option not, or the connection has ended. It works without them, less promptly.
pub fn be_prompt(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_prompt() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        be_prompt(&stream).unwrap();
        assert!(stream.nodelay().unwrap());
        assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().unwrap(), UNSENT);
    }
}
