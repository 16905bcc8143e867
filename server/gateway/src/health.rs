//! Whether a session is good to carry streams: a pure decision from the server's own evidence.

use std::time::Duration;

use tokio::time::Instant;

/// A session that has failed has to be well for so long before it is preferred again, so that routes do not flap.
pub const RECOVERY: Duration = Duration::from_secs(30);

/// How a session is, best first: the order is the order of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing speaks against it.
    Good,
    /// It has failed, and probes pass again.
    Recovering,
    /// It does not reach its target.
    Bad,
}

/// What the server has seen of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A probe through this session was answered by the API server.
    Passed,
    /// A probe was not, or the agent could not dial.
    Failed,
}

/// The evidence so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record(State);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Good,
    Bad,
    RecoveringSince(Instant),
}

impl Record {
    /// Of a session whose agent has been away: it has to be well for a while, as one that has failed.
    #[must_use]
    pub const fn recovering(now: Instant) -> Self {
        Self(State::RecoveringSince(now))
    }

    /// Takes in what was seen at `now`.
    pub fn observe(&mut self, evidence: Evidence, now: Instant) {
        self.0 = match (evidence, self.0) {
            (Evidence::Failed, _) => State::Bad,
            (Evidence::Passed, State::Good) => State::Good,
            (Evidence::Passed, State::Bad) => State::RecoveringSince(now),
            (Evidence::Passed, State::RecoveringSince(since)) => {
                if now.saturating_duration_since(since) >= RECOVERY {
                    State::Good
                } else {
                    State::RecoveringSince(since)
                }
            }
        };
    }

    /// How the session is.
    #[must_use]
    pub const fn health(&self) -> Health {
        match self.0 {
            State::Good => Health::Good,
            State::RecoveringSince(_) => Health::Recovering,
            State::Bad => Health::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_enough_and_half_a_minute_of_passes_makes_good() {
        let (start, s) = (Instant::now(), Duration::from_secs(1));
        let mut record = Record::default();
        assert_eq!(record.health(), Health::Good);
        for (second, evidence, health) in [
            (0, Evidence::Passed, Health::Good),
            (15, Evidence::Failed, Health::Bad),
            (18, Evidence::Passed, Health::Recovering),
            (33, Evidence::Passed, Health::Recovering),
            (34, Evidence::Failed, Health::Bad),
            (40, Evidence::Passed, Health::Recovering),
            (55, Evidence::Passed, Health::Recovering),
            (69, Evidence::Passed, Health::Recovering),
            (70, Evidence::Passed, Health::Good),
        ] {
            record.observe(evidence, start + second * s);
            assert_eq!(record.health(), health, "at {second} s");
        }
    }

    #[test]
    fn good_goes_before_recovering_before_bad() {
        assert!(Health::Good < Health::Recovering && Health::Recovering < Health::Bad);
    }
}
