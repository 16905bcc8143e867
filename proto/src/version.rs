//! Versions of the protocol, and how two ends find the one they share.

use serde::{Deserialize, Serialize};

/// WebSocket subprotocols of this build, best first. The name fixes the bytes of the handshake frames; what follows the
/// handshake is fixed by the [`ProtocolVersion`] that they negotiate.
pub const SUBPROTOCOLS: &[&str] = &["cattle.v1"];

/// What the names of all our subprotocols begin with, those of other ages as well.
pub const SUBPROTOCOL_FAMILY: &str = "cattle.";

/// Path on the server that agents upgrade.
pub const CONNECT_PATH: &str = "/v3/connect";

/// The first subprotocol of ours that the peer offers in `Sec-WebSocket-Protocol` (values of all such headers, each a
/// comma-separated list).
pub fn choose_subprotocol<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    let offered: Vec<&str> = offered.into_iter().flat_map(|value| value.split(',')).map(str::trim).collect();
    SUBPROTOCOLS.iter().copied().find(|ours| offered.contains(ours))
}

/// A version of everything after the handshake: one number, never zero.
///
/// | version | since | what |
/// |---|---|---|
/// | 1 | first release | streams to the API server, control stream, registration |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct ProtocolVersion(u16);

impl ProtocolVersion {
    /// The first version.
    pub const V1: Self = Self(1);

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for ProtocolVersion {
    type Error = InvalidVersion;

    fn try_from(number: u16) -> Result<Self, InvalidVersion> {
        if number == 0 { Err(InvalidVersion) } else { Ok(Self(number)) }
    }
}

impl From<ProtocolVersion> for u16 {
    fn from(version: ProtocolVersion) -> Self {
        version.0
    }
}

impl std::fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The versions that an end speaks: all from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(ProtocolVersion, ProtocolVersion)", into = "(ProtocolVersion, ProtocolVersion)")]
pub struct VersionRange {
    oldest: ProtocolVersion,
    newest: ProtocolVersion,
}

impl VersionRange {
    /// What this build speaks.
    pub const SUPPORTED: Self = Self { oldest: ProtocolVersion::V1, newest: ProtocolVersion::V1 };

    /// A range.
    ///
    /// # Errors
    /// When the oldest is newer than the newest.
    pub const fn new(oldest: ProtocolVersion, newest: ProtocolVersion) -> Result<Self, InvalidVersion> {
        if oldest.0 <= newest.0 { Ok(Self { oldest, newest }) } else { Err(InvalidVersion) }
    }

    /// The oldest version spoken.
    #[must_use]
    pub const fn oldest(self) -> ProtocolVersion {
        self.oldest
    }

    /// The newest version spoken.
    #[must_use]
    pub const fn newest(self) -> ProtocolVersion {
        self.newest
    }

    /// Whether `version` is spoken.
    #[must_use]
    pub const fn contains(self, version: ProtocolVersion) -> bool {
        self.oldest.0 <= version.0 && version.0 <= self.newest.0
    }

    /// The newest version that both ranges have.
    ///
    /// # Errors
    /// When they have none in common.
    pub fn negotiate(self, peer: Self) -> Result<ProtocolVersion, NoCommonVersion> {
        let version = self.newest.min(peer.newest);
        if self.contains(version) && peer.contains(version) {
            Ok(version)
        } else {
            Err(NoCommonVersion { ours: self, theirs: peer })
        }
    }
}

impl TryFrom<(ProtocolVersion, ProtocolVersion)> for VersionRange {
    type Error = InvalidVersion;

    fn try_from((oldest, newest): (ProtocolVersion, ProtocolVersion)) -> Result<Self, InvalidVersion> {
        Self::new(oldest, newest)
    }
}

impl From<VersionRange> for (ProtocolVersion, ProtocolVersion) {
    fn from(range: VersionRange) -> Self {
        (range.oldest, range.newest)
    }
}

impl std::fmt::Display for VersionRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.oldest, self.newest)
    }
}

/// A version is zero, or a range runs backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a protocol version")]
pub struct InvalidVersion;

/// The two ends speak no version in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no protocol version in common: here {ours}, there {theirs}")]
pub struct NoCommonVersion {
    /// What this end speaks.
    pub ours: VersionRange,
    /// What the peer speaks.
    pub theirs: VersionRange,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(oldest: u16, newest: u16) -> VersionRange {
        VersionRange::new(ProtocolVersion::try_from(oldest).unwrap(), ProtocolVersion::try_from(newest).unwrap())
            .unwrap()
    }

    #[test]
    fn newest_common_version_wins() {
        for (ours, theirs, agreed) in [
            ((1, 1), (1, 1), Some(1)),
            ((1, 3), (2, 5), Some(3)),
            ((2, 5), (1, 3), Some(3)),
            ((1, 2), (3, 4), None),
            ((3, 4), (1, 2), None),
            ((1, 9), (4, 4), Some(4)),
        ] {
            let result = range(ours.0, ours.1).negotiate(range(theirs.0, theirs.1));
            assert_eq!(result.ok().map(ProtocolVersion::get), agreed, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn a_range_never_runs_backwards() {
        assert_eq!(VersionRange::new(ProtocolVersion(2), ProtocolVersion(1)), Err(InvalidVersion));
        assert_eq!(ProtocolVersion::try_from(0), Err(InvalidVersion));
    }

    #[test]
    fn subprotocol_is_chosen_among_several() {
        assert_eq!(choose_subprotocol(["cattle.v9, cattle.v1"]), Some("cattle.v1"));
        assert_eq!(choose_subprotocol(["chat", "cattle.v1"]), Some("cattle.v1"));
        assert_eq!(choose_subprotocol(["cattle.v10", "Cattle.v1"]), None);
        assert_eq!(choose_subprotocol([]), None);
    }
}
