//! How long an agent waits before its next attempt. The only module that names the crate `backoff`.
//!
//! Exponential from [`FIRST`] by [`FACTOR`] to [`CAP`], for ever, with full jitter: the wait is drawn from the whole of
//! `0..interval`. The crate spreads `interval ± factor × interval`, which at a factor of 1 reaches twice the cap, so it
//! counts the intervals here and the draw is ours. Its default of giving up after 15 minutes is switched off.
//!
//! What the server says goes first: `GoAway` names the wait and a time in which to try harder; `Reject` and a 503 may
//! name a least wait.
//!
//! Pure code: time is an argument and randomness is given.

use std::fmt;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tokio::time::Instant;

/// Upper end of the first wait.
pub const FIRST: Duration = Duration::from_millis(500);
/// What each further failure multiplies it by.
pub const FACTOR: f64 = 2.0;
/// Upper end of every wait.
pub const CAP: Duration = Duration::from_secs(30);
/// A session that lasted so long was a success: the next failure counts as the first again.
pub const STABLE: Duration = Duration::from_secs(60);
/// Upper end of waits while a `GoAway` asks to try harder.
pub const URGENT_CAP: Duration = Duration::from_secs(2);
/// Longest least wait that is taken from the server: below the silence after which an agent counts as stuck.
pub const LONGEST_DEMAND: Duration = Duration::from_secs(120);

/// Decides the waits between attempts.
pub struct Backoff {
    intervals: ExponentialBackoff,
    /// Until when a `GoAway` asks for haste.
    urgent_until: Option<Instant>,
    /// Draws from `0.0..1.0`.
    random: Box<dyn FnMut() -> f64 + Send + Sync>,
}

impl Backoff {
    /// A back-off that draws from `random`, which gives numbers of `0.0..1.0`.
    pub fn new(random: impl FnMut() -> f64 + Send + Sync + 'static) -> Self {
        let intervals = ExponentialBackoff {
            current_interval: FIRST,
            initial_interval: FIRST,
            randomization_factor: 0.0,
            multiplier: FACTOR,
            max_interval: CAP,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { intervals, urgent_until: None, random: Box::new(random) }
    }

    /// A back-off with the system's randomness.
    pub fn from_system() -> Self {
        Self::new(crate::random::fraction)
    }

    /// The wait after an attempt that failed at `now`. `demanded` is the server's least wait, if it named one: the
    /// jitter is added to it, so that agents that were sent away together do not come back together.
    pub fn failed(&mut self, now: Instant, demanded: Option<Duration>) -> Duration {
        let interval = self.next_interval();
        let interval = match self.urgent_until {
            Some(until) if now < until => interval.min(URGENT_CAP),
            _ => {
                self.urgent_until = None;
                interval
            }
        };
        demanded.unwrap_or_default().min(LONGEST_DEMAND) + self.jitter(interval)
    }

    /// The wait after a session that was up from `since` ended at `now` without being asked to.
    pub fn lost(&mut self, since: Instant, now: Instant) -> Duration {
        if now.saturating_duration_since(since) >= STABLE {
            self.intervals.reset();
        }
        self.failed(now, None)
    }

    /// The wait after the server asked at `now` to go away. The server has drawn it at random already.
    pub fn go_away(&mut self, now: Instant, reconnect_in: Duration, try_for: Duration) -> Duration {
        let wait = reconnect_in.min(LONGEST_DEMAND);
        self.intervals.reset();
        self.urgent_until = now.checked_add(wait).and_then(|then| then.checked_add(try_for));
        wait
    }

    /// A session is up: the haste of a `GoAway` is over. The interval is not: a session that is accepted and dropped
    /// again and again must not be tried at full speed.
    pub fn connected(&mut self) {
        self.urgent_until = None;
    }

    fn next_interval(&mut self) -> Duration {
        // `None` is impossible without `max_elapsed_time`; the cap would be right anyway.
        self.intervals.next_backoff().unwrap_or(CAP).min(CAP)
    }

    fn jitter(&mut self, interval: Duration) -> Duration {
        interval.mul_f64((self.random)().clamp(0.0, 1.0))
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff")
            .field("interval", &self.intervals.current_interval)
            .field("urgent_until", &self.urgent_until)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(f64) -> Duration = Duration::from_secs_f64;

    fn at_the_upper_end() -> Backoff {
        Backoff::new(|| 1.0)
    }

    #[test]
    fn intervals_double_to_the_cap_and_stay_there_for_ever() {
        let (mut backoff, now) = (at_the_upper_end(), Instant::now());
        let waits: Vec<_> = (0..8).map(|_| backoff.failed(now, None)).collect();
        assert_eq!(waits, [S(0.5), S(1.0), S(2.0), S(4.0), S(8.0), S(16.0), CAP, CAP]);
        let later = now + Duration::from_secs(86_400 * 365);
        for _ in 0..10_000 {
            assert_eq!(backoff.failed(later, None), CAP);
        }
    }

    #[test]
    fn the_jitter_is_full_and_never_above_the_interval() {
        let mut draws = [0.0, 0.5, 0.25].into_iter();
        let mut backoff = Backoff::new(move || draws.next().unwrap());
        let now = Instant::now();
        assert_eq!(backoff.failed(now, None), Duration::ZERO);
        assert_eq!(backoff.failed(now, None), S(0.5));
        assert_eq!(backoff.failed(now, None), S(0.5));

        let mut backoff = Backoff::from_system();
        let waits: Vec<_> = (0..1_000).map(|_| backoff.failed(now, None)).skip(10).collect();
        assert!(waits.iter().all(|wait| *wait <= CAP));
        assert!(waits.iter().any(|wait| *wait < CAP / 4) && waits.iter().any(|wait| *wait > CAP * 3 / 4));
    }

    #[test]
    fn only_a_stable_session_forgives_the_failures_before_it() {
        let (mut backoff, start) = (at_the_upper_end(), Instant::now());
        for _ in 0..5 {
            backoff.failed(start, None);
        }
        backoff.connected();
        assert_eq!(backoff.lost(start, start + STABLE - S(1.0)), S(16.0), "it did not last");
        assert_eq!(backoff.lost(start, start + STABLE), S(0.5));
    }

    #[test]
    fn a_demand_is_the_least_wait_within_reason() {
        let (mut backoff, now) = (at_the_upper_end(), Instant::now());
        assert_eq!(backoff.failed(now, Some(S(10.0))), S(10.5));
        assert_eq!(backoff.failed(now, Some(Duration::from_secs(86_400))), LONGEST_DEMAND + S(1.0));
    }

    #[test]
    fn go_away_is_obeyed_and_makes_haste_for_its_time() {
        let (mut backoff, now) = (at_the_upper_end(), Instant::now());
        for _ in 0..9 {
            backoff.failed(now, None);
        }
        assert_eq!(backoff.go_away(now, S(3.0), S(60.0)), S(3.0));
        let within = now + S(62.0);
        let waits: Vec<_> = (0..5).map(|_| backoff.failed(within, None)).collect();
        assert_eq!(waits, [S(0.5), S(1.0), S(2.0), S(2.0), S(2.0)]);
        assert_eq!(backoff.failed(now + S(63.0), None), S(16.0), "the ordinary back-off goes on where it was");
        assert_eq!(backoff.go_away(now, Duration::ZERO, Duration::ZERO), Duration::ZERO);
        assert_eq!(backoff.go_away(now, Duration::MAX, Duration::MAX), LONGEST_DEMAND);
    }
}
