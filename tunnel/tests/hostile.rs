//! A server's end of a session against peers that send anything: WebSocket frames, a handshake and multiplexer frames with
//! mistakes in them. It ends with a reason, and keeps nothing.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::time::Duration;

use cattle_matrix::{Decoder, Verdict};
use cattle_proto::codec;
use cattle_proto::handshake::{HelloReply, Phase};
use cattle_proto::limits;
use cattle_proto::stream::{OpenReply, RefusedCode};
use cattle_tunnel::testing::{hello, welcome, wire};
use cattle_tunnel::{SessionConfig, WebSocket, connect, receive};
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

/// What one peer may cost, handshake and session together: the frames that it may send, and a session's own buffers.
const MEMORY: usize = 4 * (limits::WEBSOCKET_ACCEPT + limits::HANDSHAKE_FRAME);
/// Longer than any deadline of a session; the clock is simulated.
const FOREVER: Duration = Duration::from_secs(3600);

/// A WebSocket message as a client sends it, under the mask 0: its bytes stand there as they are.
fn message(opcode: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    let mut frame = vec![0x80 | opcode];
    if length < 126 {
        frame.push(0x80 | u8::try_from(length).unwrap());
    } else {
        frame.push(0x80 | 126);
        frame.extend(length.to_be_bytes());
    }
    frame.extend([0; 4]);
    frame.extend(body);
    frame
}

fn yamux(kind: u8, flags: u16, stream: u32, length: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend(body);
    frame
}

fn samples() -> Vec<Vec<u8>> {
    const BINARY: u8 = 2;
    let hello = message(BINARY, &codec::encode_frame(&hello()).unwrap());
    let control = [
        // Opens the control stream, a window for it, a heartbeat's frame, a ping, an end and a farewell.
        yamux(1, 1, 1, 0, &[]),
        yamux(0, 0, 1, 7, &[0, 0, 0, 3, 0, 0, 0]),
        yamux(2, 1, 0, 7, &[]),
        yamux(0, 4, 1, 0, &[]),
        yamux(3, 0, 0, 0, &[]),
    ];
    let session = |frames: &[Vec<u8>]| [hello.clone(), message(BINARY, &frames.concat())].concat();
    vec![
        hello.clone(),
        session(&control),
        session(&control[..2]),
        [session(&control[..3]), message(9, b"ping"), message(8, &[3, 232])].concat(),
        [message(9, b""), hello[..20].to_vec()].concat(),
    ]
}

#[test]
fn any_peer_is_heard_out_and_costs_nothing_that_stays() {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let decoder = Decoder::new("session", samples()).memory(MEMORY).repair(keep_the_handshake);
    decoder.hammer(|bytes| peer(&runtime, bytes));
}

/// Half of the peers get past the handshake, so that the multiplexer sees mistakes too.
fn keep_the_handshake(random: &mut Rng, input: &mut Vec<u8>) {
    if random.bool() {
        let hello = &samples()[0];
        let start = hello.len().min(input.len());
        input[..start].copy_from_slice(&hello[..start]);
        input.extend_from_slice(&hello[start..]);
    }
}

/// Whether the peer was let in.
fn peer(runtime: &Runtime, bytes: &[u8]) -> Verdict {
    let session = async {
        let (server, mut client, _) = wire(64 * 1024, Duration::ZERO);
        let serve = async {
            let greeting = receive(WebSocket::server(server).await).await.map_err(|error| error.to_string())?;
            let end = greeting.welcome(welcome(Phase::Serving), SessionConfig::default()).await;
            let end = end.map_err(|error| error.to_string())?;
            Ok::<_, String>(end.driver.run().await.to_string())
        };
        let send = async {
            // The server may have had enough before the end.
            if client.write_all(bytes).await.is_ok() {
                let _ = client.shutdown().await;
            }
            let _ = client.read_to_end(&mut Vec::new()).await;
        };
        tokio::join!(Box::pin(serve), Box::pin(send)).0
    };
    let ended = runtime.block_on(async { tokio::time::timeout(FOREVER, session).await }).expect("it does not end");
    match ended {
        Ok(reason) => {
            assert!(!reason.is_empty());
            Verdict::Accepted
        }
        Err(error) => {
            assert!(!error.is_empty());
            Verdict::Refused
        }
    }
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
