//! Which session carries the next stream: a pure choice.

use cattle_proto::handshake::AgentKind;

use crate::health::Health;

/// What the choice is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Among which routes it is.
    pub rank: Rank,
    /// What speaks for or against it.
    pub health: Health,
    /// Whether the session takes streams to the API server.
    pub open: bool,
    /// Streams that it carries.
    pub streams: usize,
    /// Counts sessions up; a newer one has a larger number.
    pub generation: u64,
}

/// The order of the kinds of routes, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A cluster agent.
    ClusterAgent,
    /// The node agent of a node that runs the control plane: its way to the API server is the shortest.
    ControlPlaneNode,
    /// Any other node agent.
    Node,
}

impl Rank {
    /// Of an agent's kind, and whether its node runs the control plane.
    #[must_use]
    pub const fn of(kind: AgentKind, control_plane: bool) -> Self {
        match (kind, control_plane) {
            (AgentKind::ClusterAgent, _) => Self::ClusterAgent,
            (AgentKind::NodeAgent, true) => Self::ControlPlaneNode,
            (AgentKind::NodeAgent, false) => Self::Node,
        }
    }
}

/// The order in which `candidates` are tried, as indices, best first. One that takes no streams is left out; one that does
/// not reach its target comes last, since it may still be better than nothing.
#[must_use]
pub fn order(candidates: &[Candidate]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).filter(|&at| candidates[at].open).collect();
    order.sort_by_key(|&at| {
        let Candidate { rank, health, streams, generation, .. } = candidates[at];
        (health, rank, streams, std::cmp::Reverse(generation))
    });
    order
}

/// Whether a new session of this kind has to be well for a while before it is preferred to `present`, the kinds and health of
/// those that are there: a cluster agent that comes back while node agents stand in for it. One that joins a healthy replica,
/// as in a rolling update, is as good as that.
#[must_use]
pub fn has_to_recover(kind: AgentKind, present: &[(AgentKind, Health)]) -> bool {
    let good = |kind| present.contains(&(kind, Health::Good));
    kind == AgentKind::ClusterAgent && good(AgentKind::NodeAgent) && !good(AgentKind::ClusterAgent)
}

/// Those of `sessions` that new streams take first: the healthiest, and of those the best rank.
#[must_use]
pub fn preferred<T: Copy>(sessions: &[(T, Rank, Health)]) -> Vec<T> {
    let class = |&(_, rank, health): &(T, Rank, Health)| (health, rank);
    let best = sessions.iter().map(class).min();
    sessions.iter().filter(|session| Some(class(session)) == best).map(|(session, ..)| *session).collect()
}

#[cfg(test)]
mod tests {
    use Health::{Bad, Good, Recovering};

    use super::*;

    #[test]
    fn who_comes_back_has_to_be_well_for_a_while_and_who_joins_has_not() {
        use AgentKind::{ClusterAgent, NodeAgent};
        for (kind, present, recovers) in [
            (ClusterAgent, &[][..], false),
            (ClusterAgent, &[(NodeAgent, Good)], true),
            (ClusterAgent, &[(NodeAgent, Good), (ClusterAgent, Recovering)], true),
            (ClusterAgent, &[(NodeAgent, Good), (ClusterAgent, Bad)], true),
            (ClusterAgent, &[(NodeAgent, Good), (ClusterAgent, Good)], false),
            (ClusterAgent, &[(NodeAgent, Bad)], false),
            (NodeAgent, &[(NodeAgent, Good)], false),
        ] {
            assert_eq!(has_to_recover(kind, present), recovers, "{kind:?} {present:?}");
        }
    }

    #[test]
    fn the_preferred_are_of_one_rank_and_health() {
        use Rank::{ClusterAgent, ControlPlaneNode, Node};
        for (sessions, best) in [
            (&[][..], &[][..]),
            (&[(1, ClusterAgent, Good), (2, ClusterAgent, Good), (3, Node, Good)], &[1, 2]),
            (&[(1, ClusterAgent, Recovering), (2, ClusterAgent, Bad), (3, Node, Good)], &[3]),
            (&[(1, ClusterAgent, Recovering), (3, Node, Bad)], &[1]),
            (&[(1, ClusterAgent, Bad), (2, Node, Good), (3, ControlPlaneNode, Good)], &[3]),
            (&[(2, Node, Good), (3, ControlPlaneNode, Bad)], &[2]),
            (&[(1, ClusterAgent, Bad), (3, Node, Bad), (4, Node, Bad)], &[1]),
        ] {
            assert_eq!(preferred(sessions), best, "{sessions:?}");
        }
    }

    const GOOD: Candidate = Candidate { rank: Rank::ClusterAgent, health: Good, open: true, streams: 0, generation: 1 };

    #[test]
    fn best_first() {
        let node = Candidate { rank: Rank::Node, ..GOOD };
        let control_plane = Candidate { rank: Rank::ControlPlaneNode, streams: 9, ..GOOD };
        let sick = Candidate { health: Bad, ..GOOD };
        let better = Candidate { health: Recovering, ..GOOD };
        let busy = Candidate { streams: 9, generation: 5, ..GOOD };
        let newer = Candidate { generation: 2, ..GOOD };
        let leaving = Candidate { open: false, ..GOOD };
        assert_eq!(order(&[sick, node, busy, GOOD, leaving, newer, better, control_plane]), [5, 3, 2, 7, 1, 6, 0]);
        assert!(order(&[leaving]).is_empty());
        assert!(order(&[]).is_empty());
    }
}
