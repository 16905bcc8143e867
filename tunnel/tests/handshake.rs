//! The handshake, with peers that keep the rules and peers that do not.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::time::Duration;

use cattle_proto::codec;
use cattle_proto::handshake::{Hello, HelloReply, Phase, Reject, RejectCode};
use cattle_proto::version::{ProtocolVersion, VersionRange};
use cattle_tunnel::testing::{FaultyIo, hello, welcome, wire};
use cattle_tunnel::{CloseReason, HandshakeError, KeepaliveTimes, SessionConfig, WebSocket, connect, receive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn sockets() -> (WebSocket<FaultyIo>, WebSocket<FaultyIo>) {
    let (server, agent, _) = wire(64 * 1024, Duration::ZERO);
    (WebSocket::server(server).await, WebSocket::client(agent).await)
}

/// The reply to `bytes` as the whole handshake of a peer.
async fn reply_to(bytes: &[u8]) -> (Result<(), HandshakeError>, Option<HelloReply>) {
    let (server, mut agent) = sockets().await;
    let peer = async {
        agent.write_all(bytes).await.unwrap();
        agent.flush().await.unwrap();
        let mut reply = Vec::new();
        let _ = agent.read_to_end(&mut reply).await;
        codec::decode_frame(&reply).unwrap().map(|(reply, _)| reply)
    };
    let (received, reply) = tokio::join!(receive(server), peer);
    (received.map(drop), reply)
}

#[tokio::test(start_paused = true)]
async fn a_hello_arrives_whole() {
    let (server, agent) = sockets().await;
    let said = hello();
    let serve = async {
        let greeting = receive(server).await.unwrap();
        assert!(*greeting.hello() == said);
        greeting.welcome(welcome(Phase::Serving), SessionConfig::default()).await.unwrap()
    };
    let (server, agent) = tokio::join!(Box::pin(serve), Box::pin(connect(agent, &said, SessionConfig::default())));
    let agent = agent.unwrap();
    assert_eq!(agent.welcome, welcome(Phase::Serving));
    assert_eq!(agent.capabilities, said.capabilities);
    assert_eq!(agent.session.id(), server.session.handle().id());
}

#[tokio::test(start_paused = true)]
async fn every_reject_arrives_with_its_code() {
    for code in RejectCode::ALL.iter().copied().chain([RejectCode::Unknown(4711)]) {
        let (server, agent) = sockets().await;
        let reject = Reject { code, retry_after_seconds: 7 };
        let said = hello();
        let serve = async { receive(server).await.unwrap().reject(reject).await };
        let ((), refused) = tokio::join!(serve, Box::pin(connect(agent, &said, SessionConfig::default())));
        assert!(matches!(refused.unwrap_err(), HandshakeError::Rejected(got) if got == reject), "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_not_offered_is_refused() {
    let (server, agent) = sockets().await;
    let newer = ProtocolVersion::try_from(2).unwrap();
    let said = Hello { versions: VersionRange::new(newer, newer).unwrap(), ..hello() };
    let serve = async {
        let greeting = receive(server).await.unwrap();
        greeting.welcome(welcome(Phase::Serving), SessionConfig::default()).await.map(drop)
    };
    let (_, refused) = tokio::join!(Box::pin(serve), Box::pin(connect(agent, &said, SessionConfig::default())));
    assert!(matches!(refused.unwrap_err(), HandshakeError::Version));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_hello_gets_a_malformed_reject() {
    let good = codec::encode_frame(&hello()).unwrap();
    let mut trailing = good.clone();
    trailing.push(0);
    let length = u32::try_from(trailing.len() - 4).unwrap();
    trailing[..4].copy_from_slice(&length.to_be_bytes());
    for (name, bytes) in [
        ("announces more than a Hello may have", [0xff, 0xff, 0xff, 0xff].to_vec()),
        ("announces one byte more than a Hello may have", 65_537_u32.to_be_bytes().to_vec()),
        ("is empty", vec![0, 0, 0, 0]),
        ("is rubbish", vec![0, 0, 0, 4, 0xde, 0xad, 0xbe, 0xef]),
        ("goes on after the Hello", trailing),
        ("is HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        let (received, reply) = reply_to(&bytes).await;
        assert!(matches!(received, Err(HandshakeError::Malformed(_))), "{name}");
        let reject = Reject { code: RejectCode::Malformed, retry_after_seconds: 0 };
        assert_eq!(reply, Some(HelloReply::Reject(reject)), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_or_too_little_is_given_ten_seconds() {
    let part = codec::encode_frame(&hello()).unwrap();
    for bytes in [&[][..], &part[..2], &part[..20]] {
        let (received, reply) = reply_to(bytes).await;
        assert!(matches!(received, Err(HandshakeError::Timeout)));
        assert_eq!(reply, Some(HelloReply::Reject(Reject { code: RejectCode::Timeout, retry_after_seconds: 0 })));
    }
    let (server, agent) = sockets().await;
    let refused = connect(agent, &hello(), SessionConfig::default()).await.map(drop);
    assert!(matches!(refused, Err(HandshakeError::Timeout)));
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_is_an_io_error() {
    let (server, agent) = sockets().await;
    drop(agent);
    assert!(matches!(receive(server).await.map(drop), Err(HandshakeError::Io(_))));
}

/// A peer that asks and asks and reads no answer: its session ends at a bound, not at the end of the memory.
#[tokio::test(start_paused = true)]
async fn a_peer_that_pings_and_never_reads_is_cut_off() {
    let day = Duration::from_secs(86_400);
    let keepalive = KeepaliveTimes { ping: day, silence: day, stall: day };
    let (server, mut agent) = sockets().await;
    let serve = async {
        let greeting = receive(server).await.unwrap();
        let config = SessionConfig { keepalive, ..SessionConfig::default() };
        greeting.welcome(welcome(Phase::Serving), config).await.unwrap()
    };
    let peer = async {
        agent.write_all(&codec::encode_frame(&hello()).unwrap()).await.unwrap();
        agent.flush().await.unwrap();
        agent
    };
    let (server, mut agent) = tokio::join!(Box::pin(serve), peer);
    let flood = async {
        let pings = [0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7].repeat(1000);
        while agent.write_all(&pings).await.is_ok() && agent.flush().await.is_ok() {}
    };
    tokio::select! {
        reason = Box::pin(server.driver.run()) => assert_eq!(reason, CloseReason::Stalled),
        () = flood => panic!("the peer's writes failed before the session ended"),
    }
}

/// Everything that may come instead of yamux after a good handshake ends the session, by name, and nothing else.
#[tokio::test(start_paused = true)]
async fn multiplexer_frames_that_break_the_rules_end_the_session() {
    let header = |version: u8, kind: u8, flags: u16, stream: u32, length: u32| {
        let mut frame = vec![version, kind];
        frame.extend(flags.to_be_bytes());
        frame.extend(stream.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame
    };
    let window_plus_one = 262_145;
    let mut oversized = header(0, 0, 1, 1, window_plus_one);
    oversized.extend(vec![0; window_plus_one as usize]);
    let mut second_stream = header(0, 1, 1, 1, 0);
    second_stream.extend(header(0, 1, 1, 3, 0));
    let mut overflow = header(0, 1, 1, 1, 0);
    overflow.extend(header(0, 1, 0, 1, u32::MAX));
    for (name, bytes) in [
        ("unknown version", header(9, 0, 0, 0, 0)),
        ("unknown type", header(0, 9, 0, 0, 0)),
        ("body of 4 GiB", header(0, 0, 1, 1, u32::MAX)),
        ("first body beyond the window", oversized),
        ("a number of the server's", header(0, 0, 1, 2, 0)),
        ("window overflow at the start", header(0, 1, 1, 1, u32::MAX)),
        ("window overflow later", overflow),
        ("a second stream from the agent", second_stream),
        ("go away", header(0, 3, 0, 0, 1)),
    ] {
        let (server, mut agent) = sockets().await;
        let serve = async {
            let greeting = receive(server).await.unwrap();
            greeting.welcome(welcome(Phase::Serving), SessionConfig::default()).await.unwrap()
        };
        let peer = async {
            agent.write_all(&codec::encode_frame(&hello()).unwrap()).await.unwrap();
            agent.flush().await.unwrap();
            agent
        };
        let (server, mut agent) = tokio::join!(Box::pin(serve), peer);
        let offend = async {
            // The server may close before it has taken all.
            let _ = agent.write_all(&bytes).await;
            let _ = agent.flush().await;
            let _ = agent.read_to_end(&mut Vec::new()).await;
        };
        let (reason, ()) = tokio::join!(Box::pin(server.driver.run()), offend);
        assert!(matches!(reason, CloseReason::Protocol(_) | CloseReason::PeerClosed), "{name}: {reason:?}");
    }
}
