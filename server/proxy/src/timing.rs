//! Where the time of a request went, as `Server-Timing` tells it (W3C), for administrators.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;

/// The header's name.
pub(crate) const SERVER_TIMING: &str = "server-timing";

/// The times of one request, whose parts are added up over its attempts.
#[derive(Debug)]
pub(crate) struct Timing {
    begun: Instant,
    impersonator: AtomicU64,
    cluster: AtomicU64,
}

/// What is waited for outside of the proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// The user's impersonator, which is there or has to be made.
    Impersonator,
    /// The way to the API server, if no connection was warm, and its answer.
    Cluster,
}

impl Timing {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), impersonator: AtomicU64::new(0), cluster: AtomicU64::new(0) }
    }

    /// Waits, and takes the time. One that is given up is not counted.
    pub(crate) async fn of<T>(&self, part: Part, wait: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = wait.await;
        let counter = match part {
            Part::Impersonator => &self.impersonator,
            Part::Cluster => &self.cluster,
        };
        counter.fetch_add(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        done
    }

    /// Milliseconds until now: those of the parts, and what is left for the server itself.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let micros = |counter: &AtomicU64| Duration::from_micros(counter.load(Ordering::Relaxed));
        render(self.begun.elapsed(), micros(&self.impersonator), micros(&self.cluster))
    }
}

fn render(all: Duration, impersonator: Duration, cluster: Duration) -> Option<HeaderValue> {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let own = all.saturating_sub(impersonator).saturating_sub(cluster);
    let text = format!(
        "server;dur={:.2}, impersonator;dur={:.2}, cluster;dur={:.2}",
        milliseconds(own),
        milliseconds(impersonator),
        milliseconds(cluster)
    );
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_part_took_is_the_servers_own() {
        let header = render(Duration::from_micros(12_340), Duration::from_micros(2_000), Duration::from_millis(10));
        assert_eq!(header.unwrap(), "server;dur=0.34, impersonator;dur=2.00, cluster;dur=10.00");
        let none = render(Duration::ZERO, Duration::ZERO, Duration::from_millis(1));
        assert_eq!(none.unwrap(), "server;dur=0.00, impersonator;dur=0.00, cluster;dur=1.00");
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_added_up() {
        let timing = Timing::begin();
        assert_eq!(timing.of(Part::Cluster, async { 7 }).await, 7);
        timing.cluster.store(1_500, Ordering::Relaxed);
        timing.of(Part::Cluster, async {}).await;
        assert!(timing.header().unwrap().to_str().unwrap().contains("cluster;dur=1.5"));
    }
}
