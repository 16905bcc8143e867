use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

/// How long to wait between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks at a condition until it holds: `probe` gives the value that was waited for, or why it is not there yet.
///
/// # Errors
/// When the deadline passes: what was waited for, for how long, and the last reason.
pub async fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    let mut last = anyhow::anyhow!("the first look took too long");
    loop {
        // A probe that hangs must not outlive the deadline, or nobody would ever see the reason.
        match tokio::time::timeout_at(end, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason,
            Err(_) => break,
        }
        if Instant::now() + INTERVAL >= end {
            break;
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Err(last).with_context(|| format!("waited {} s for {what}", deadline.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_when_the_condition_holds() {
        let mut looks = 0;
        let found = wait_for("three looks", Duration::from_secs(10), async || {
            looks += 1;
            anyhow::ensure!(looks == 3, "look {looks}");
            Ok(looks)
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn at_the_deadline_it_says_what_and_why() {
        let error = wait_for("rain", Duration::from_millis(120), async || {
            anyhow::bail!("the sky is blue") as anyhow::Result<()>
        });
        assert_eq!(format!("{:#}", error.await.unwrap_err()), "waited 0 s for rain: the sky is blue");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_does_not_outlive_the_deadline() {
        let stuck = wait_for("ever", Duration::from_millis(50), async || {
            std::future::pending::<()>().await;
            Ok(())
        });
        assert!(stuck.await.unwrap_err().to_string().contains("waited"));
    }
}
