//! Whether the peer is alive, decided from times alone: no I/O, no clock of its own.
//!
//! yamux's ping is sent under traffic only and is no sign of life; TCP takes many minutes to notice a peer that is gone.
//! Each end therefore pings on its own clock and gives up on its own clock.

use std::time::Duration;

use cattle_proto::limits;
use tokio::time::Instant;

/// Times of the keepalive. The default is the protocol's; tests may shorten it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveTimes {
    /// Between two pings.
    pub ping: Duration,
    /// Silence after which the peer is dead.
    pub silence: Duration,
    /// Time after which a peer that takes nothing of what is queued for it is given up, although it speaks.
    pub stall: Duration,
}

impl Default for KeepaliveTimes {
    fn default() -> Self {
        Self { ping: limits::PING_INTERVAL, silence: limits::SILENCE, stall: Duration::from_secs(30) }
    }
}

/// The state of one end's keepalive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    times: KeepaliveTimes,
    next_ping: Instant,
    heard: Instant,
    received: u64,
    /// Since when something has been queued without a byte leaving, and how many bytes had left by then.
    stalled: Option<Instant>,
    sent: u64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send a ping, then ask again.
    Ping,
    /// Ask again at this time, or when bytes have passed.
    Wait(Instant),
    /// The peer has been silent for too long.
    Silent,
    /// The peer has taken nothing for too long.
    Stalled,
}

/// What the connection has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Bytes received.
    pub(crate) received: u64,
    /// Bytes that the peer's side has taken.
    pub(crate) sent: u64,
    /// Whether something waits to be sent.
    pub(crate) queued: bool,
}

impl Keepalive {
    /// Starts at `now` with a peer that has just been heard.
    pub(crate) fn new(times: KeepaliveTimes, now: Instant) -> Self {
        Self { times, next_ping: now + times.ping, heard: now, received: 0, stalled: None, sent: 0 }
    }

    /// Takes in what has happened until `now` and decides.
    pub(crate) fn poll(&mut self, now: Instant, progress: Progress) -> Step {
        if progress.received != self.received {
            self.received = progress.received;
            self.heard = now;
        }
        if !progress.queued || progress.sent != self.sent {
            self.stalled = None;
        }
        self.sent = progress.sent;
        let stalled = progress.queued.then(|| *self.stalled.get_or_insert(now));
        let dead = self.heard + self.times.silence;
        let stuck = stalled.map(|since| since + self.times.stall);
        if now >= dead {
            return Step::Silent;
        }
        if stuck.is_some_and(|at| now >= at) {
            return Step::Stalled;
        }
        if now >= self.next_ping {
            self.next_ping = now + self.times.ping;
            return Step::Ping;
        }
        Step::Wait(self.next_ping.min(dead).min(stuck.unwrap_or(dead)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn start() -> (Keepalive, Instant) {
        let now = Instant::now();
        (Keepalive::new(KeepaliveTimes::default(), now), now)
    }

    #[test]
    fn pings_every_five_seconds_and_gives_up_after_fifteen_of_silence() {
        let (mut keepalive, t) = start();
        let nothing = Progress::default();
        assert_eq!(keepalive.poll(t, nothing), Step::Wait(t + 5 * S));
        assert_eq!(keepalive.poll(t + 5 * S, nothing), Step::Ping);
        assert_eq!(keepalive.poll(t + 5 * S, nothing), Step::Wait(t + 10 * S));
        assert_eq!(keepalive.poll(t + 10 * S, nothing), Step::Ping);
        assert_eq!(keepalive.poll(t + 14 * S, nothing), Step::Wait(t + 15 * S));
        assert_eq!(keepalive.poll(t + 15 * S, nothing), Step::Silent);
    }

    #[test]
    fn any_byte_is_life() {
        let (mut keepalive, t) = start();
        let heard = |received| Progress { received, ..Progress::default() };
        assert_eq!(keepalive.poll(t + 14 * S, heard(1)), Step::Ping);
        assert_eq!(keepalive.poll(t + 28 * S, heard(1)), Step::Ping);
        assert_eq!(keepalive.poll(t + 29 * S, heard(1)), Step::Silent);
    }

    #[test]
    fn a_peer_that_speaks_but_takes_nothing_is_given_up() {
        let (mut keepalive, t) = start();
        let mut step = Step::Ping;
        for second in 0..=30 {
            let progress = Progress { received: u64::from(second), sent: 7, queued: second > 0 };
            step = keepalive.poll(t + second * S, progress);
        }
        assert!(!matches!(step, Step::Stalled));
        let progress = Progress { received: 99, sent: 7, queued: true };
        assert_eq!(keepalive.poll(t + 31 * S, progress), Step::Stalled);
    }

    #[test]
    fn a_byte_that_leaves_ends_the_stall() {
        let (mut keepalive, t) = start();
        for second in 0..100 {
            let progress = Progress { received: u64::from(second), sent: u64::from(second / 20), queued: true };
            assert!(!matches!(keepalive.poll(t + second * S, progress), Step::Stalled), "at {second}");
        }
    }
}
