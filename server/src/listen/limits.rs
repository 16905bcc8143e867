//! How much of the listener one source may hold, and all of them together.
//!
//! Nothing is known of a peer but its address before its request was read, so that is what limits are about. They are generous,
//! because agents and users behind one address translation share it: they keep one machine from taking everything, no more. A
//! peer over its limit is closed at once, before anything is computed for it, and counted.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use cattle_auth::Source;
use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all. Those that come then wait in the kernel's queue.
    pub connections: usize,
    /// From one IPv4 address, or one IPv6 /64. Those that come then are closed.
    pub connections_per_address: usize,
    /// In their TLS handshake, in all. Those that come then wait in the kernel's queue.
    pub handshakes: usize,
    /// In their TLS handshake, from one address. Those that come then are closed.
    pub handshakes_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16_384, connections_per_address: 4_096, handshakes: 1_024, handshakes_per_address: 256 }
    }
}

impl Limits {
    /// Half of the `descriptors` that the process may have open are for connections: the other half is for agents, clusters,
    /// files.
    #[must_use]
    pub fn within(self, descriptors: u64) -> Self {
        let half = usize::try_from(descriptors / 2).unwrap_or(usize::MAX).max(1);
        Self { connections: self.connections.min(half), ..self }
    }
}

/// What happens at the listener. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct ListenMetrics {
    connections: Gauge,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
}

impl ListenMetrics {
    /// Registers all of them, with names that begin with `cattle_listener_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("cattle_listener");
        registry.register("connections", "Connections of users and agents", self.connections.clone());
        registry.register(
            "refused",
            "Connections that were closed before a request was served, by reason",
            self.refused.clone(),
        );
    }

    /// Counts a connection that was closed for `reason`.
    pub(super) fn refuse(&self, reason: Refusal) {
        self.refused.get_or_create(&[("reason", reason.as_str())]).inc();
    }
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its address has as many as one may.
    Connections,
    /// Its address has as many handshakes under way as one may.
    Handshakes,
    /// The handshake failed, or took too long.
    Handshake,
    /// No request came in time.
    Silent,
}

impl Refusal {
    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections_per_address",
            Self::Handshakes => "handshakes_per_address",
            Self::Handshake => "handshake",
            Self::Silent => "no_request",
        }
    }
}

/// Counts what is there.
pub(super) struct Doors {
    limits: Limits,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    sources: Mutex<HashMap<Source, Held>>,
    pub(super) metrics: ListenMetrics,
}

/// What one source holds. Sources that hold nothing are not in the map, so that it is never larger than what is there.
#[derive(Default)]
struct Held {
    connections: usize,
    handshakes: usize,
}

/// Room for one more connection, from anywhere.
pub(super) struct Room {
    connection: OwnedSemaphorePermit,
    handshake: OwnedSemaphorePermit,
}

/// The right to hold a connection; given back when dropped.
pub(super) struct Admitted {
    doors: Arc<Doors>,
    source: Source,
    handshake: Option<OwnedSemaphorePermit>,
    _connection: OwnedSemaphorePermit,
}

impl Doors {
    pub(super) fn new(limits: Limits, metrics: ListenMetrics) -> Arc<Self> {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let (connections, handshakes) = (semaphore(limits.connections), semaphore(limits.handshakes));
        Arc::new(Self { limits, connections, handshakes, sources: Mutex::default(), metrics })
    }

    /// Waits until one more may be accepted. Cancel safe. `None` never happens: the semaphores are not closed.
    pub(super) async fn room(&self) -> Option<Room> {
        let connection = Arc::clone(&self.connections).acquire_owned().await.ok()?;
        let handshake = Arc::clone(&self.handshakes).acquire_owned().await.ok()?;
        Some(Room { connection, handshake })
    }

    /// Lets a peer in, for its handshake first.
    pub(super) fn admit(self: &Arc<Self>, room: Room, peer: IpAddr) -> Result<Admitted, Refusal> {
        let source = Source::new(peer);
        let mut sources = self.sources.lock();
        let (connections, handshakes) = sources.get(&source).map_or((0, 0), |held| (held.connections, held.handshakes));
        let refusal = if connections >= self.limits.connections_per_address {
            Some(Refusal::Connections)
        } else if handshakes >= self.limits.handshakes_per_address {
            Some(Refusal::Handshakes)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.metrics.refuse(refusal);
            return Err(refusal);
        }
        let held = sources.entry(source).or_default();
        (held.connections, held.handshakes) = (connections + 1, handshakes + 1);
        drop(sources);
        self.metrics.connections.inc();
        let Room { connection, handshake } = room;
        Ok(Admitted { doors: Arc::clone(self), source, handshake: Some(handshake), _connection: connection })
    }
}

impl Admitted {
    /// The handshake is over.
    pub(super) fn shaken(&mut self) {
        if self.handshake.take().is_some()
            && let Some(held) = self.doors.sources.lock().get_mut(&self.source)
        {
            held.handshakes -= 1;
        }
    }
}

impl Admitted {
    /// Whether the handshake is still under way.
    pub(super) fn is_shaking(&self) -> bool {
        self.handshake.is_some()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shaken();
        let mut sources = self.doors.sources.lock();
        if let Some(held) = sources.get_mut(&self.source) {
            held.connections -= 1;
            if held.connections == 0 {
                sources.remove(&self.source);
            }
        }
        self.doors.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(connections_per_address: usize, handshakes_per_address: usize) -> Arc<Doors> {
        let limits = Limits { connections_per_address, handshakes_per_address, ..Limits::default() };
        Doors::new(limits, ListenMetrics::default())
    }

    async fn admit(doors: &Arc<Doors>, address: &str) -> Result<Admitted, Refusal> {
        let room = doors.room().await.expect("room");
        doors.admit(room, address.parse().unwrap())
    }

    fn shaken(mut admitted: Admitted) -> Admitted {
        admitted.shaken();
        admitted
    }

    #[tokio::test]
    async fn one_address_takes_its_share_and_no_more() {
        let doors = doors(2, 2);
        let (a, b) =
            (shaken(admit(&doors, "10.0.0.1").await.unwrap()), shaken(admit(&doors, "10.0.0.1").await.unwrap()));
        assert_eq!(admit(&doors, "10.0.0.1").await.err(), Some(Refusal::Connections));
        assert_eq!(admit(&doors, "::ffff:10.0.0.1").await.err(), Some(Refusal::Connections), "it is the same address");
        let other = admit(&doors, "10.0.0.2").await.unwrap();
        drop(a);
        let again = admit(&doors, "10.0.0.1").await.unwrap();
        drop((b, other, again));
        assert!(doors.sources.lock().is_empty());
        assert_eq!(doors.connections.available_permits(), Limits::default().connections);
        assert_eq!(doors.handshakes.available_permits(), Limits::default().handshakes);
        assert_eq!(doors.metrics.connections.get(), 0);
    }

    #[tokio::test]
    async fn handshakes_have_a_bound_of_their_own() {
        let doors = doors(10, 2);
        let one = admit(&doors, "2001:db8::1").await.unwrap();
        let two = admit(&doors, "2001:db8::2").await.unwrap();
        assert_eq!(admit(&doors, "2001:db8::3").await.err(), Some(Refusal::Handshakes), "a /64 is one source");
        let one = shaken(one);
        let three = admit(&doors, "2001:db8::3").await.unwrap();
        drop((one, two, three));
        assert!(doors.sources.lock().is_empty());
    }

    #[tokio::test]
    async fn when_all_is_taken_the_next_one_waits() {
        use futures_util::FutureExt as _;
        let limits = Limits { handshakes: 1, ..Limits::default() };
        let doors = Doors::new(limits, ListenMetrics::default());
        let first = admit(&doors, "10.0.0.1").await.unwrap();
        assert!(doors.room().now_or_never().is_none());
        let first = shaken(first);
        assert!(doors.room().now_or_never().is_some());
        drop(first);
    }
}
