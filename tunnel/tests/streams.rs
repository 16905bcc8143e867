//! Streams of a session, both ends in one process, over a pipe with chosen faults.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::io::ErrorKind;
use std::time::Duration;

use cattle_proto::control::{AgentMessage, GoAway, Heartbeat, ServerMessage};
use cattle_proto::handshake::Phase;
use cattle_proto::limits;
use cattle_proto::stream::{RefusedCode, StreamHeader, Target};
use cattle_tunnel::testing::{Pair, PairOptions};
use cattle_tunnel::{Budget, CloseReason, Drained, Metrics, OpenError, SessionConfig, TunnelStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(5);
const HEADER: StreamHeader = StreamHeader::to(Target::KubeApiserver);

/// A stream that the agent accepts: the server's end and the agent's.
async fn open(pair: &mut Pair) -> (TunnelStream, TunnelStream) {
    let serve = async { pair.incoming.accept().await.unwrap().accept().await.unwrap() };
    let (ours, theirs) = tokio::join!(pair.server.open(HEADER, SOON), serve);
    (ours.unwrap(), theirs)
}

async fn read_to_end(stream: &mut TunnelStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_and_halves_close_apart() {
    let mut pair = Pair::new().await;
    let (mut server, mut agent) = open(&mut pair).await;
    server.write_all(b"question").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut agent).await, b"question");
    agent.write_all(b"answer").await.unwrap();
    agent.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut server).await, b"answer");
    assert_eq!((server.bytes_written(), server.bytes_read()), (8, 6));
    drop((server, agent));
    assert_eq!(pair.server.handle().streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn both_ends_know_how_long_a_ping_takes() {
    let latency = Duration::from_millis(30);
    let pair = Pair::with(PairOptions { latency, ..PairOptions::default() }).await;
    assert_eq!((pair.server.handle().round_trip(), pair.agent.round_trip()), (None, None));
    tokio::time::sleep(limits::PING_INTERVAL + SOON).await;
    for known in [pair.server.handle().round_trip(), pair.agent.round_trip()] {
        assert!(known.is_some_and(|time| time >= 2 * latency && time < 4 * latency), "{known:?}");
    }
}

/// A pipe of eighty kilobytes in a second, with streams that keep it full in both directions. What is new, or says little,
/// waits for what is in the connection's own buffers and not for all that the others have waiting.
#[tokio::test(start_paused = true)]
async fn a_small_exchange_does_not_wait_behind_bulk() {
    let options = PairOptions { buffer: 8 * 1024, latency: Duration::from_millis(100), ..PairOptions::default() };
    let mut pair = Pair::with(options).await;
    let mut bulk = JoinSet::new();
    for _ in 0..4 {
        let (ours, theirs) = open(&mut pair).await;
        for stream in [ours, theirs] {
            let (mut reading, mut writing) = tokio::io::split(stream);
            bulk.spawn(async move { tokio::io::copy(&mut reading, &mut tokio::io::sink()).await.map(drop) });
            bulk.spawn(async move { tokio::io::copy(&mut tokio::io::repeat(7), &mut writing).await.map(drop) });
        }
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    for _ in 0..5 {
        let begun = tokio::time::Instant::now();
        let serve = async { pair.incoming.accept().await.unwrap().accept().await.unwrap() };
        let (ours, mut theirs) = tokio::join!(pair.server.open(HEADER, 10 * SOON), serve);
        let mut ours = ours.unwrap();
        for _ in 0..3 {
            let (mut question, mut answer) = ([0; 100], [0; 100]);
            ours.write_all(&[1; 100]).await.unwrap();
            theirs.read_exact(&mut question).await.unwrap();
            theirs.write_all(&[2; 100]).await.unwrap();
            ours.read_exact(&mut answer).await.unwrap();
        }
        // Four ways there and back, each behind one message; in a queue that everybody stands in, it takes a minute.
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    assert!(bulk.try_join_next().is_none(), "the bulk went on");
}

/// On threads that stop anywhere: what is counted of a stream's data is never less than nothing, or everybody waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_streams_at_full_speed_both_ways_come_to_their_end() {
    const EACH: usize = 4 * 1024 * 1024;
    for _ in 0..8 {
        let mut pair = Pair::with(PairOptions { buffer: 256 * 1024, ..PairOptions::default() }).await;
        let mut transfers = JoinSet::new();
        for _ in 0..8 {
            let (ours, theirs) = open(&mut pair).await;
            for stream in [ours, theirs] {
                let (mut reading, mut writing) = tokio::io::split(stream);
                transfers.spawn(async move {
                    writing.write_all(&vec![7; EACH]).await.unwrap();
                    writing.shutdown().await.unwrap();
                });
                transfers.spawn(async move {
                    assert_eq!(tokio::io::copy(&mut reading, &mut tokio::io::sink()).await.unwrap(), EACH as u64);
                });
            }
        }
        let all = async { while transfers.join_next().await.transpose().unwrap().is_some() {} };
        tokio::time::timeout(Duration::from_secs(120), all).await.expect("everybody waits");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_resets_the_peer() {
    let mut pair = Pair::new().await;
    let (mut server, agent) = open(&mut pair).await;
    drop(agent);
    let error = server.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_drop_after_the_peers_half_close_is_a_reset_and_no_end_of_file() {
    let mut pair = Pair::new().await;
    let (mut server, mut agent) = open(&mut pair).await;
    server.shutdown().await.unwrap();
    assert!(read_to_end(&mut agent).await.is_empty());
    agent.write_all(b"half an ans").await.unwrap();
    drop(agent);
    let mut all = Vec::new();
    let error = server.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "a truncated answer must not look whole");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_hears_that_the_peer_has_lost_interest() {
    let mut pair = Pair::new().await;
    let (mut server, agent) = open(&mut pair).await;
    server.write_all(&[7; 64 * 1024]).await.unwrap();
    let given_up = agent.given_up();
    assert!(tokio::time::timeout(SOON, agent.given_up()).await.is_err(), "the peer is there");
    drop(server);
    tokio::time::timeout(SOON, given_up).await.expect("a reset is heard without reading");

    // A peer that has said all and is gone has not given up what it said.
    let (mut server, mut agent) = open(&mut pair).await;
    server.write_all(b"all of it").await.unwrap();
    server.shutdown().await.unwrap();
    drop(server);
    assert!(tokio::time::timeout(SOON, agent.given_up()).await.is_err());
    assert_eq!(read_to_end(&mut agent).await, b"all of it");
}

#[tokio::test(start_paused = true)]
async fn a_drop_after_ones_own_half_close_frees_a_peer_that_goes_on_writing() {
    let mut pair = Pair::new().await;
    let (mut server, mut agent) = open(&mut pair).await;
    server.write_all(b"bye").await.unwrap();
    server.shutdown().await.unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut agent).await, b"bye");
    let chunk = vec![0; limits::STREAM_WINDOW];
    let writing = async { while agent.write_all(&chunk).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), writing).await.expect("the writer waits for a window for ever");
}

#[tokio::test(start_paused = true)]
async fn every_refusal_arrives_with_its_code() {
    let mut pair = Pair::new().await;
    for code in RefusedCode::ALL.iter().copied().chain([RefusedCode::Unknown(999)]) {
        let refuse = async { pair.incoming.accept().await.unwrap().refuse(code).await };
        let (opened, ()) = tokio::join!(pair.server.open(HEADER, SOON), refuse);
        assert_eq!(opened.unwrap_err(), OpenError::Refused(code));
    }
    open(&mut pair).await;
}

#[tokio::test(start_paused = true)]
async fn an_open_without_an_answer_ends_at_its_deadline_and_leaves_nothing() {
    let mut pair = Pair::new().await;
    let error = pair.server.open(HEADER, Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(error, OpenError::Timeout { header_sent: true });
    let pending = pair.incoming.accept().await.unwrap();
    assert_eq!(pair.server.handle().streams(), 0);
    pending.refuse(RefusedCode::Busy).await;
    open(&mut pair).await;
}

#[tokio::test(start_paused = true)]
async fn three_hundred_unanswered_opens_do_not_block_the_next() {
    let mut pair = Pair::new().await;
    let mut opens = JoinSet::new();
    for _ in 0..300 {
        let session = pair.server.clone();
        opens.spawn(async move { session.open(HEADER, Duration::from_secs(60)).await });
    }
    let mut unanswered = Vec::new();
    while unanswered.len() < 300 {
        unanswered.push(pair.incoming.accept().await.unwrap());
    }
    open(&mut pair).await;
    drop(unanswered);
    while let Some(opened) = opens.join_next().await {
        assert_eq!(opened.unwrap().unwrap_err(), OpenError::Reset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_session_refuses_by_name_and_lives() {
    let server = SessionConfig { streams: 2, ..SessionConfig::default() };
    let mut pair = Pair::with(PairOptions { server, ..PairOptions::default() }).await;
    let first = open(&mut pair).await;
    let second = open(&mut pair).await;
    assert_eq!(pair.server.open(HEADER, SOON).await.unwrap_err(), OpenError::SessionFull);
    drop(first);
    open(&mut pair).await;
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_full_process_refuses_by_name_and_lives() {
    let server = SessionConfig { budget: Budget::new(1), ..SessionConfig::default() };
    let mut pair = Pair::with(PairOptions { server, ..PairOptions::default() }).await;
    let only = open(&mut pair).await;
    assert_eq!(pair.server.open(HEADER, SOON).await.unwrap_err(), OpenError::ProcessFull);
    drop(only);
    open(&mut pair).await;
}

/// Writes `bytes` of a pattern, then closes its half, while it reads the same from the peer.
async fn exchange(stream: TunnelStream, bytes: usize) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        let chunk: Vec<u8> = (0..=250).cycle().take(251 * 64).collect();
        let mut left = bytes;
        while left > 0 {
            let n = left.min(chunk.len());
            writer.write_all(&chunk[..n]).await.unwrap();
            left -= n;
        }
        writer.shutdown().await.unwrap();
    };
    let read = async {
        let (mut buf, mut at) = (vec![0; 32 * 1024], 0_usize);
        loop {
            let n = reader.read(&mut buf).await.unwrap();
            if n == 0 {
                return at;
            }
            for byte in &buf[..n] {
                assert_eq!(usize::from(*byte), at % 251, "at byte {at}");
                at += 1;
            }
        }
    };
    let ((), read) = tokio::join!(write, read);
    assert_eq!(read, bytes);
}

/// The crate's deadlock: bulk both ways over small socket buffers, across its round-trip ping.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_over_small_buffers_does_not_stall() {
    let mut pair = Pair::with(PairOptions { buffer: 16 * 1024, ..PairOptions::default() }).await;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (server, agent) = open(&mut pair).await;
        tasks.spawn(exchange(server, 4 << 20));
        tasks.spawn(exchange(agent, 4 << 20));
    }
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap()
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("the session stalled");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_costs_its_own_stream_only_and_a_bounded_amount() {
    let mut pair = Pair::with(PairOptions { buffer: 16 * 1024, ..PairOptions::default() }).await;
    let (stalled, mut writer) = open(&mut pair).await;
    let mut taken = 0;
    let chunk = vec![0; 64 * 1024];
    // A write that finds no room for a minute will find none.
    while let Ok(n) = tokio::time::timeout(Duration::from_secs(60), writer.write(&chunk)).await {
        taken += n.unwrap();
    }
    // The answer to the opening has taken a few bytes of the window.
    let least = limits::STREAM_WINDOW - 64;
    let most = limits::STREAM_WINDOW + limits::SESSION_WINDOW_POOL;
    assert!((least..=most).contains(&taken), "{taken} bytes wait for a reader that does not read");
    for _ in 0..20 {
        let (server, agent) = open(&mut pair).await;
        tokio::join!(exchange(server, 1 << 20), exchange(agent, 1 << 20));
    }
    drop(stalled);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_both_ends_and_every_stream() {
    let mut pair = Pair::new().await;
    let (mut server, mut agent) = open(&mut pair).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(pair.server.handle().close_reason(), None, "an idle session lives");
    pair.fault.stall();
    while let Some(reason) = pair.drivers.join_next().await {
        assert_eq!(reason.unwrap(), CloseReason::Silent);
    }
    for stream in [&mut server, &mut agent] {
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(stream.write(&[0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
    assert_eq!(pair.server.open(HEADER, SOON).await.unwrap_err(), OpenError::Closed(CloseReason::Silent));
    assert!(pair.incoming.accept().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_waiting_reads_writes_and_opens() {
    let mut pair = Pair::new().await;
    let (mut server, mut agent) = open(&mut pair).await;
    let (session, fault) = (pair.server.clone(), pair.fault.clone());
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fault.cut();
    };
    let chunk = vec![0; 4 << 20];
    let mut byte = [0; 1];
    let (read, written, opened, ()) =
        tokio::join!(server.read(&mut byte), agent.write_all(&chunk), session.open(HEADER, SOON), cut);
    assert!(read.is_ok(), "what came before the cut is read");
    assert_eq!(written.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(opened.unwrap_err(), OpenError::Closed(CloseReason::PeerClosed));
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_readers_at_both_ends() {
    let mut pair = Pair::new().await;
    let (mut server, mut agent) = open(&mut pair).await;
    let session = pair.server.handle().clone();
    let (mut here, mut there) = ([0; 1], [0; 1]);
    let close = async { session.close() };
    let (ours, theirs, ()) = tokio::join!(server.read(&mut here), agent.read(&mut there), close);
    assert_eq!(ours.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(theirs.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(pair.server.handle().closed().await, CloseReason::Closed);
    assert_eq!(pair.agent.closed().await, CloseReason::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_streams_and_no_longer_than_allowed() {
    let mut pair = Pair::new().await;
    let (server, _agent) = open(&mut pair).await;
    let session = pair.server.handle().clone();
    let ended = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(server);
    };
    let refused = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        pair.server.open(HEADER, SOON).await.unwrap_err()
    };
    let (drained, (), refused) = tokio::join!(session.drain(Duration::from_secs(60)), ended, refused);
    assert_eq!((drained, refused), (Drained::Finished, OpenError::Draining));
    assert_eq!(pair.agent.closed().await, CloseReason::PeerClosed);

    let mut pair = Pair::new().await;
    let _kept = open(&mut pair).await;
    assert_eq!(pair.server.handle().drain(Duration::from_secs(60)).await, Drained::Cut(1));
}

#[tokio::test(start_paused = true)]
async fn control_messages_go_both_ways_beside_bulk() {
    let mut pair = Pair::with(PairOptions { phase: Phase::Registration, ..PairOptions::default() }).await;
    assert_eq!(pair.welcome.phase, Phase::Registration);
    let heartbeat = AgentMessage::Heartbeat(Heartbeat { sequence: 0, streams: 0 });
    pair.agent_control.send(&heartbeat).await.unwrap();
    let (_stalled, mut writer) = open(&mut pair).await;
    let chunk = vec![0; 4 << 20];
    let _ = tokio::time::timeout(Duration::from_secs(1), writer.write_all(&chunk)).await;
    let mut control = pair.server_control.arrive().await.unwrap();
    assert!(control.recv().await.unwrap().is_some_and(|message| message == heartbeat));
    let goaway = ServerMessage::GoAway(GoAway::new(Duration::from_secs(1), Duration::from_secs(2)));
    for message in [goaway, ServerMessage::CredentialRequest, ServerMessage::Registered] {
        control.send(&message).await.unwrap();
        assert_eq!(pair.agent_control.recv().await.unwrap(), Some(message));
    }
    assert_eq!(pair.server.handle().streams(), 1, "the control stream is not counted");
    drop(control);
    assert!(pair.agent_control.recv().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn every_stream_that_was_opened_is_closed() {
    let metrics = Metrics::default();
    let config = SessionConfig { metrics: metrics.clone(), ..SessionConfig::default() };
    let options = PairOptions { agent: config.clone(), server: config, ..PairOptions::default() };
    let mut pair = Pair::with(options).await;
    for round in 0..200 {
        let (mut server, mut agent) = open(&mut pair).await;
        match round % 4 {
            0 => drop(server),
            1 => drop(agent),
            2 => tokio::join!(exchange(server, 1000), exchange(agent, 1000)).1,
            _ => {
                server.shutdown().await.unwrap();
                agent.shutdown().await.unwrap();
            }
        }
        let cancelled = tokio::time::timeout(Duration::ZERO, pair.server.open(HEADER, SOON)).await;
        assert!(cancelled.is_err());
    }
    pair.server.handle().close();
    while pair.drivers.join_next().await.is_some() {}
    while pair.incoming.accept().await.is_some() {}
    drop(pair);
    assert_eq!(metrics.streams_opened.get(), metrics.streams_closed.get());
    assert!(metrics.streams_opened.get() >= 400);
}

#[tokio::test(start_paused = true)]
async fn latency_delays_and_breaks_nothing() {
    let mut pair = Pair::with(PairOptions { latency: Duration::from_millis(100), ..PairOptions::default() }).await;
    let (server, agent) = open(&mut pair).await;
    tokio::join!(exchange(server, 1 << 20), exchange(agent, 1 << 20));
}
