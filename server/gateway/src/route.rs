//! Which session carries the next stream: a pure choice.

use cattle_proto::handshake::AgentKind;

use crate::health::Health;

/// What the choice is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The agent's kind.
    pub kind: AgentKind,
    /// What speaks for or against it.
    pub health: Health,
    /// Whether the session takes streams to the API server.
    pub open: bool,
    /// Streams that it carries.
    pub streams: usize,
    /// Counts sessions up; a newer one has a larger number.
    pub generation: u64,
}

/// The order in which `candidates` are tried, as indices, best first. One that takes no streams is left out; one that does
/// not reach its target comes last, since it may still be better than nothing.
#[must_use]
pub fn order(candidates: &[Candidate]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).filter(|&at| candidates[at].open).collect();
    order.sort_by_key(|&at| {
        let Candidate { kind, health, streams, generation, .. } = candidates[at];
        (health, rank(kind), streams, std::cmp::Reverse(generation))
    });
    order
}

/// Cluster agents first: node agents stand in for them.
const fn rank(kind: AgentKind) -> u8 {
    match kind {
        AgentKind::ClusterAgent => 0,
        AgentKind::NodeAgent => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Candidate =
        Candidate { kind: AgentKind::ClusterAgent, health: Health::Good, open: true, streams: 0, generation: 1 };

    #[test]
    fn best_first() {
        let node = Candidate { kind: AgentKind::NodeAgent, ..GOOD };
        let sick = Candidate { health: Health::Bad, ..GOOD };
        let better = Candidate { health: Health::Recovering, ..GOOD };
        let busy = Candidate { streams: 9, generation: 5, ..GOOD };
        let newer = Candidate { generation: 2, ..GOOD };
        let leaving = Candidate { open: false, ..GOOD };
        assert_eq!(order(&[sick, node, busy, GOOD, leaving, newer, better]), [5, 3, 2, 1, 6, 0]);
        assert!(order(&[leaving]).is_empty());
        assert!(order(&[]).is_empty());
    }
}
