//! Denied requests: each is worth a line, a flood of them is worth a number.
//!
//! Whoever is refused costs nothing to try again, so lines without a bound would let a stranger push everybody else's out of the
//! log. Each source gets a few lines in a minute; what comes after is counted, and when the minute is over one line says how
//! many there were. Sources are bounded as well: those that find no place share one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::{AuditSink, Event};

/// The annotation with the number of denied requests that a line stands for besides the one it shows.
pub const MORE: &str = "cattle.io/more-like-this";

/// After this time each source has its lines again.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines and sources of people who have not proved who they are.
const STRANGERS: Bound = Bound { lines: 5, sources: 64 };
/// Lines and sources of users; a user is one source from everywhere.
const USERS: Bound = Bound { lines: 30, sources: 1024 };

#[derive(Clone, Copy)]
struct Bound {
    /// Of one source in one window.
    lines: u64,
    /// That are told apart in one window.
    sources: usize,
}

/// The record of denied requests of one process.
pub struct Denials {
    sink: Arc<dyn AuditSink>,
    strangers: Mutex<Table<IpAddr>>,
    users: Mutex<Table<String>>,
    seen: [AtomicU64; 2],
}

/// The sources of one window; `None` is all that found no place.
type Table<K> = HashMap<Option<K>, Source>;

#[derive(Default)]
struct Source {
    seen: u64,
    last: Option<Event>,
}

impl Denials {
    /// Into this log.
    #[must_use]
    pub fn new(sink: Arc<dyn AuditSink>) -> Arc<Self> {
        Arc::new(Self { sink, strangers: Mutex::default(), users: Mutex::default(), seen: Default::default() })
    }

    /// A request of somebody who has not proved who they are was denied. `event` is complete.
    pub fn of_stranger(&self, address: IpAddr, event: Event) {
        self.seen[0].fetch_add(1, Ordering::Relaxed);
        self.note(&self.strangers, network(address), STRANGERS, event);
    }

    /// A request of this user was denied. `event` is complete.
    pub fn of_user(&self, user: &str, event: Event) {
        self.seen[1].fetch_add(1, Ordering::Relaxed);
        self.note(&self.users, user.to_owned(), USERS, event);
    }

    /// How many there were since the start, of strangers and of users, whether they have a line or not.
    #[must_use]
    pub fn seen(&self) -> (u64, u64) {
        (self.seen[0].load(Ordering::Relaxed), self.seen[1].load(Ordering::Relaxed))
    }

    /// Writes at the end of each window what was only counted in it. Never ends. Cancel safe.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(WINDOW).await;
            self.end_window();
        }
    }

    fn note<K: std::hash::Hash + Eq>(&self, table: &Mutex<Table<K>>, key: K, bound: Bound, event: Event) {
        let mut table = table.lock();
        let key = Some(key);
        let key = if table.contains_key(&key) || table.len() < bound.sources { key } else { None };
        let source = table.entry(key).or_default();
        source.seen += 1;
        if source.seen <= bound.lines {
            drop(table);
            self.sink.note(&event);
        } else {
            source.last = Some(event);
        }
    }

    fn end_window(&self) {
        let strangers = std::mem::take(&mut *self.strangers.lock());
        self.summarise(strangers.into_values(), STRANGERS);
        let users = std::mem::take(&mut *self.users.lock());
        self.summarise(users.into_values(), USERS);
    }

    fn summarise(&self, sources: impl Iterator<Item = Source>, bound: Bound) {
        for Source { seen, last } in sources {
            if let Some(last) = last {
                self.sink.note(&last.annotate(MORE, (seen - bound.lines - 1).to_string()));
            }
        }
    }
}

impl Drop for Denials {
    fn drop(&mut self) {
        self.end_window();
    }
}

impl std::fmt::Debug for Denials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Denials").field("seen", &self.seen()).finish_non_exhaustive()
    }
}

/// An IPv4 address, or the first 64 bits of an IPv6 address: a household has all the rest.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, AuditId, MemorySink, RequestInfo};

    fn denied(user: &str) -> Event {
        let info = RequestInfo::parse("GET", "/api/v1/secrets", None);
        Event::request(AuditId::new(), Actor::named(user), &info, "/api/v1/secrets").completed(403)
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    #[test]
    fn a_flood_of_one_source_is_some_lines_and_a_number() {
        let sink = Arc::new(MemorySink::default());
        let denials = Denials::new(sink.clone());
        for _ in 0..100_000 {
            denials.of_stranger(address(1), denied("system:unauthenticated"));
        }
        denials.of_stranger(address(2), denied("system:unauthenticated"));
        assert_eq!(sink.lines().len(), 6, "the second source has lines of its own");
        denials.end_window();
        let lines = sink.lines();
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[6]["annotations"][MORE], (100_000 - 5 - 1).to_string());
        assert_eq!(lines[6]["responseStatus"]["code"], 403);
        assert_eq!(denials.seen(), (100_001, 0));
        denials.of_stranger(address(1), denied("system:unauthenticated"));
        assert_eq!(sink.lines().len(), 8, "a new window, new lines");
    }

    #[test]
    fn a_flood_of_many_sources_is_bounded_in_lines_and_in_memory() {
        let sink = Arc::new(MemorySink::default());
        let denials = Denials::new(sink.clone());
        for number in 0..50_000 {
            denials.of_stranger(address(number), denied("system:unauthenticated"));
        }
        assert_eq!(denials.strangers.lock().len(), STRANGERS.sources + 1);
        denials.end_window();
        assert!(sink.lines().len() <= STRANGERS.sources + 6, "{}", sink.lines().len());
        let counted: u64 = sink
            .lines()
            .iter()
            .map(|line| 1 + line["annotations"][MORE].as_str().map_or(0, |more| more.parse::<u64>().unwrap()))
            .sum();
        assert_eq!(counted, 50_000, "every one is in the log, shown or counted");
    }

    #[test]
    fn strangers_do_not_take_the_lines_of_users() {
        let sink = Arc::new(MemorySink::default());
        let denials = Denials::new(sink.clone());
        for number in 0..10_000 {
            denials.of_stranger(address(number), denied("system:unauthenticated"));
        }
        let before = sink.lines().len();
        (0..30).for_each(|_| denials.of_user("u-alice", denied("u-alice")));
        assert_eq!(sink.lines().len(), before + 30);
    }

    #[test]
    fn an_ipv6_household_is_one_source() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), network("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_was_counted_is_written_at_the_end() {
        let sink = Arc::new(MemorySink::default());
        let denials = Denials::new(sink.clone());
        (0..7).for_each(|_| denials.of_stranger(address(1), denied("system:unauthenticated")));
        drop(denials);
        assert_eq!(sink.lines().len(), 6);
    }
}
