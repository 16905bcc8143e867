//! Peers that break the rules of a session.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::time::Duration;

use cattle_proto::codec;
use cattle_proto::handshake::{HelloReply, Phase};
use cattle_proto::stream::{OpenReply, RefusedCode};
use cattle_tunnel::testing::{hello, welcome, wire};
use cattle_tunnel::{SessionConfig, WebSocket, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than any deadline of a session; the clock is simulated.
const FOREVER: Duration = Duration::from_secs(3600);

fn yamux(kind: u8, flags: u16, stream: u32, length: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend(body);
    frame
}

/// An agent says what is wrong with a stream that it cannot read the header of, and its session goes on.
#[tokio::test(start_paused = true)]
async fn a_malformed_stream_header_is_refused_by_name() {
    let (server, agent, _) = wire(64 * 1024, Duration::ZERO);
    let mut server = WebSocket::server(server).await;
    let play_server = async {
        let reply = codec::encode_frame(&HelloReply::Welcome(welcome(Phase::Serving))).unwrap();
        server.write_all(&reply).await.unwrap();
        // A frame of two bytes that is no header: there is no target 9.
        let header = yamux(0, 1, 2, 6, &[0, 0, 0, 2, 9, 0]);
        server.write_all(&header).await.unwrap();
        server.flush().await.unwrap();
        let refusal = codec::encode_frame(&OpenReply::Refused(RefusedCode::Malformed)).unwrap();
        let mut seen = Vec::new();
        while !seen.windows(refusal.len()).any(|part| part == refusal) {
            let mut byte = [0; 256];
            let read = server.read(&mut byte).await.unwrap();
            assert!(read > 0, "the session ended: {seen:?}");
            seen.extend_from_slice(&byte[..read]);
        }
    };
    let hello = hello();
    let play_agent = async {
        let end = connect(WebSocket::client(agent).await, &hello, SessionConfig::default()).await.unwrap();
        let mut incoming = end.incoming;
        tokio::join!(Box::pin(end.driver.run()), async { assert!(incoming.accept().await.is_none()) });
    };
    tokio::select! {
        () = Box::pin(play_server) => {}
        () = Box::pin(play_agent) => panic!("the agent gave the session up"),
        () = tokio::time::sleep(FOREVER) => panic!("no answer"),
    }
}
