//! Pings, and how long their answers take.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// The pings of one end. Each carries its number, which the peer's pong repeats (RFC 6455 §5.5.3).
#[derive(Debug, Default)]
pub(crate) struct Pings {
    due: bool,
    number: u64,
    sent: Option<Instant>,
    round_trip: Option<Duration>,
}

impl Pings {
    /// Has one sent.
    pub(crate) fn ask(&mut self) {
        self.due = true;
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// The payload of the ping that is sent at `now`. An earlier one without an answer does not count any more.
    pub(crate) fn send(&mut self, now: Instant) -> Bytes {
        self.due = false;
        self.number += 1;
        self.sent = Some(now);
        Bytes::copy_from_slice(&self.number.to_be_bytes())
    }

    /// Takes in a pong. One that answers no ping of ours says nothing.
    pub(crate) fn hear(&mut self, payload: &[u8], now: Instant) {
        if payload == self.number.to_be_bytes()
            && let Some(sent) = self.sent.take()
        {
            self.round_trip = Some(now.saturating_duration_since(sent));
        }
    }

    /// How long the last answered ping took, what lay before it in the connection's buffers included.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_last_ping_counts() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut pings = Pings::default();
        pings.hear(&[0; 8], start);
        assert_eq!(pings.round_trip(), None);
        pings.ask();
        assert!(pings.is_due());
        let first = pings.send(start);
        assert!(!pings.is_due());
        pings.hear(b"", start + ms(1));
        assert_eq!(pings.round_trip(), None);
        pings.hear(&first, start + ms(7));
        assert_eq!(pings.round_trip(), Some(ms(7)));
        pings.hear(&first, start + ms(9));
        let late = pings.send(start + ms(10));
        let last = pings.send(start + ms(20));
        pings.hear(&late, start + ms(21));
        assert_eq!(pings.round_trip(), Some(ms(7)));
        pings.hear(&last, start + ms(23));
        assert_eq!(pings.round_trip(), Some(ms(3)));
    }
}
