//! The graceful end of a session, decided from times and counts alone.

use std::time::Duration;

use tokio::time::Instant;

/// A session that takes no more streams and waits for those it has.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    until: Instant,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStep {
    /// Ask again at this time, or when a stream has ended.
    Wait(Instant),
    /// Close the session.
    Close(Drained),
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every stream ended by itself.
    Finished,
    /// The time was up; this many streams are cut.
    Cut(usize),
}

impl Drain {
    /// Begins at `now`; streams may take until `grace` is over.
    #[must_use]
    pub fn begin(now: Instant, grace: Duration) -> Self {
        // A grace beyond what the clock can count is for ever: some 30 years.
        let until = now.checked_add(grace).unwrap_or_else(|| now + Duration::from_secs(1 << 30));
        Self { until }
    }

    /// Decides, with `streams` left.
    #[must_use]
    pub fn poll(&self, now: Instant, streams: usize) -> DrainStep {
        if streams == 0 {
            DrainStep::Close(Drained::Finished)
        } else if now >= self.until {
            DrainStep::Close(Drained::Cut(streams))
        } else {
            DrainStep::Wait(self.until)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_streams_until_the_time_is_up() {
        let t = Instant::now();
        let drain = Drain::begin(t, Duration::from_secs(60));
        assert_eq!(drain.poll(t, 0), DrainStep::Close(Drained::Finished));
        assert_eq!(drain.poll(t, 2), DrainStep::Wait(t + Duration::from_secs(60)));
        assert_eq!(drain.poll(t + Duration::from_secs(59), 1), DrainStep::Wait(t + Duration::from_secs(60)));
        assert_eq!(drain.poll(t + Duration::from_secs(60), 1), DrainStep::Close(Drained::Cut(1)));
        assert!(matches!(Drain::begin(t, Duration::MAX).poll(t, 1), DrainStep::Wait(_)));
    }
}
