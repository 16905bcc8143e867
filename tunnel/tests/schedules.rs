//! Sessions over many different pipes, cut at many different moments: every stream either carries everything, in order, or
//! fails; nothing hangs and nothing is left.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::time::Duration;

use cattle_matrix::Matrix;
use cattle_proto::stream::{RefusedCode, StreamHeader, Target};
use cattle_tunnel::testing::{Pair, PairOptions};
use cattle_tunnel::{Metrics, OpenError, SessionConfig, TunnelStream, splice};
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinSet;

/// Whatever takes longer hangs. Some pipes carry a few bytes in a tenth of a second, and half a megabyte of other streams'
/// data may stand before a stream's header. The clock is not real: waiting costs nothing.
const HANGS: Duration = Duration::from_secs(86_400);
const HEADER: StreamHeader = StreamHeader::to(Target::KubeApiserver);

/// How a stream's exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    Failed,
}

#[tokio::test(start_paused = true)]
async fn whole_or_failed_whatever_the_pipe() {
    let mut whole = 0;
    let mut failed = 0;
    let matrix = Matrix::of_this_run("schedules of a session");
    for schedule in matrix.slice(1000, 60) {
        let mut random = matrix.random_at(schedule);
        let cut = random.u8(..3) == 0;
        for outcome in run(&mut random, cut).await {
            match outcome {
                Outcome::Whole => whole += 1,
                Outcome::Failed if cut => failed += 1,
                Outcome::Failed => panic!("schedule {schedule}: a stream failed over a whole pipe"),
            }
        }
    }
    assert!(whole > 100 && failed > 10, "{whole} whole, {failed} failed: the schedules miss");
}

/// One session: some streams through splices at the agent, each with a question and an answer of its own length.
async fn run(random: &mut Rng, cut: bool) -> Vec<Outcome> {
    let metrics = Metrics::default();
    let config = SessionConfig { metrics: metrics.clone(), ..SessionConfig::default() };
    let mut pair = Pair::with(PairOptions {
        buffer: 1 + random.usize(..40_000),
        latency: Duration::from_millis(random.u64(..2) * random.u64(..80)),
        agent: config.clone(),
        server: config,
        ..PairOptions::default()
    })
    .await;
    let mut tasks = JoinSet::new();
    let mut streams = JoinSet::new();
    for _ in 0..1 + random.u64(..8) {
        let session = pair.server.clone();
        let (question, answer) = (random.usize(..300_000), random.usize(..300_000));
        streams.spawn(async move {
            match session.open(HEADER, HANGS).await {
                Ok(stream) => ask(stream, question, answer).await,
                Err(_) => Outcome::Failed,
            }
        });
        let (near, far) = duplex(1 + random.usize(..9000));
        tasks.spawn(target(far, question, answer));
        if let Some(pending) = pair.incoming.accept().await {
            tasks.spawn(relay(pending.accept().await.unwrap(), near));
        }
    }
    let moment = Duration::from_micros(random.u64(..3000));
    let fault = pair.fault.clone();
    if cut {
        tasks.spawn(async move {
            tokio::time::sleep(moment).await;
            fault.cut();
        });
    }
    let all = async {
        let mut outcomes = Vec::new();
        while let Some(outcome) = streams.join_next().await {
            outcomes.push(outcome.unwrap());
        }
        outcomes
    };
    let outcomes = tokio::time::timeout(HANGS, all).await.expect("a stream hangs");
    pair.server.handle().close();
    while pair.drivers.join_next().await.is_some() {}
    while tasks.join_next().await.is_some() {}
    drop(pair);
    assert_eq!(metrics.streams_opened.get(), metrics.streams_closed.get());
    outcomes
}

async fn relay(mut stream: TunnelStream, mut target: DuplexStream) {
    let _ = splice(&mut stream, &mut target, None).await;
}

/// Reads the whole question, then answers.
async fn target(mut io: DuplexStream, question: usize, answer: usize) {
    let mut got = Vec::new();
    if io.read_to_end(&mut got).await.is_ok() && got.len() == question {
        let _ = io.write_all(&pattern(answer)).await;
        let _ = io.shutdown().await;
    }
}

async fn ask(mut stream: TunnelStream, question: usize, answer: usize) -> Outcome {
    let mut got = Vec::new();
    let exchange = async {
        stream.write_all(&pattern(question)).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut got).await
    };
    match exchange.await {
        Ok(_) => {
            assert!(got == pattern(answer), "an end of file after {} of {answer} bytes", got.len());
            Outcome::Whole
        }
        Err(_) => Outcome::Failed,
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// Dials that fail or are given up leave nothing behind, at either end.
#[tokio::test(start_paused = true)]
async fn thousands_of_failed_dials_leave_nothing() {
    let metrics = Metrics::default();
    let server = SessionConfig { streams: 16, metrics: metrics.clone(), ..SessionConfig::default() };
    let mut pair = Pair::with(PairOptions { server, ..PairOptions::default() }).await;
    for round in 0..Matrix::of_this_run("failed dials").pick(50_000, 5000) {
        if round % 2 == 0 {
            // Given up at once, or when the agent has seen it.
            let patience = Duration::from_millis(round % 3);
            let open = pair.server.open(HEADER, Duration::from_secs(9));
            assert!(tokio::time::timeout(patience, open).await.is_err());
        } else {
            let refuse = async {
                // Those that were given up may come first.
                loop {
                    pair.incoming.accept().await.unwrap().refuse(RefusedCode::Unreachable).await;
                }
            };
            tokio::select! {
                opened = pair.server.open(HEADER, Duration::from_secs(9)) => {
                    assert_eq!(opened.unwrap_err(), OpenError::Refused(RefusedCode::Unreachable));
                }
                () = refuse => {}
            }
        }
        assert_eq!(pair.server.handle().streams(), 0);
    }
    assert_eq!(metrics.streams_opened.get(), metrics.streams_closed.get());
}
