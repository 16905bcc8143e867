//! What an end can do beyond its protocol version: bits, so that a feature can come without a new version.

use serde::{Deserialize, Serialize};

/// A set of capabilities. Each end sends all that it has; what both have counts. Bits without a name are kept and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capabilities(u64);

impl Capabilities {
    /// No capability.
    pub const NONE: Self = Self(0);
    /// The agent carries streams to its cluster's API server ([`Target::KubeApiserver`](crate::stream::Target)).
    pub const KUBE_APISERVER: Self = Self(1);
    /// The agent answers [`CredentialRequest`](crate::control::ServerMessage::CredentialRequest).
    pub const SERVER_CREDENTIAL: Self = Self(1 << 1);

    /// A set from its bits on the wire.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both sets have.
    #[must_use]
    pub const fn shared(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` is here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::Capabilities;

    #[test]
    fn only_what_both_have_counts() {
        let agent = Capabilities::KUBE_APISERVER.with(Capabilities::from_bits(1 << 40));
        let server = Capabilities::KUBE_APISERVER.with(Capabilities::SERVER_CREDENTIAL);
        assert_eq!(agent.shared(server), Capabilities::KUBE_APISERVER);
        assert!(server.contains(Capabilities::NONE));
        assert!(!agent.contains(Capabilities::SERVER_CREDENTIAL));
    }
}
