//! The raw copy between two streams.

use std::time::Duration;

use cattle_tunnel::{SpliceCause, Spliced, splice};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

#[tokio::test(start_paused = true)]
async fn copies_both_ways_and_passes_half_closes_on() {
    let (mut client, mut near) = duplex(1000);
    let (mut far, mut target) = duplex(3000);
    let question: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let answer: Vec<u8> = question.iter().rev().copied().collect();
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    let asking = async {
        client.write_all(&question).await.unwrap();
        client.shutdown().await.unwrap();
        client.read_to_end(&mut answered).await.unwrap();
    };
    let answering = async {
        // The whole question is there before the first byte of the answer: the half-close came through alone.
        target.read_to_end(&mut asked).await.unwrap();
        target.write_all(&answer).await.unwrap();
        target.shutdown().await.unwrap();
    };
    let (spliced, (), ()) = tokio::join!(splice(&mut near, &mut far, None), asking, answering);
    assert_eq!(spliced.unwrap(), Spliced { forth: 300_000, back: 300_000 });
    assert!(asked == question && answered == answer);
}

#[tokio::test(start_paused = true)]
async fn names_the_stream_that_failed() {
    let (client, mut near) = duplex(64);
    let (mut far, target) = duplex(64);
    drop(target);
    let mut client = client;
    client.write_all(b"lost").await.unwrap();
    let error = splice(&mut near, &mut far, None).await.unwrap_err();
    assert!(matches!(error.cause, SpliceCause::Second(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn idle_streams_end_and_busy_ones_do_not() {
    let (mut client, mut near) = duplex(64);
    let (mut far, mut target) = duplex(64);
    let idle = Some(Duration::from_secs(60));
    let busy = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            client.write_all(b"x").await.unwrap();
            target.read_exact(&mut [0; 1]).await.unwrap();
        }
    };
    let (error, ()) = tokio::join!(splice(&mut near, &mut far, idle), busy);
    let error = error.unwrap_err();
    assert!(matches!(error.cause, SpliceCause::Idle));
    assert_eq!(error.spliced, Spliced { forth: 10, back: 0 });
}
