//! How often somebody may guess a password.
//!
//! Three limits, asked in this order, before any hash is computed:
//!
//! 1. a *source* (an IPv4 address, an IPv6 /64) over all accounts, against spraying;
//! 2. a source for one account, against guessing;
//! 3. an account over all sources. When many sources guess at one account, each source still gets one attempt a minute
//!    for it. So an attacker cannot lock the owner out: from anywhere, the right password gets in at the first try.
//!
//! State is a fixed number of cells, addressed by a hash with a key of this process. Nothing is forgotten under load, and
//! nobody can aim at somebody else's cell; two keys that share one by chance share its limit.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// Cells of each limit, 8 bytes each.
const CELLS: usize = 1 << 16;

/// Where a request comes from, as far as limits care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(u64);

impl Source {
    /// An IPv4 address is a source; of an IPv6 address the first 64 bits are, since a household has all the rest.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64 | 1 << 63),
        }
    }
}

/// Too many attempts; come back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts: try again in {} seconds", .retry_after.as_secs().max(1))]
pub struct Throttled {
    /// When an attempt may succeed again.
    pub retry_after: Duration,
}

/// The limits of one server process.
pub struct Throttle<C: Clock = DefaultClock> {
    key: RandomState,
    clock: C,
    source: Limiter<C>,
    pair: Limiter<C>,
    account: Limiter<C>,
    under_attack: Limiter<C>,
}

type Limiter<C> = RateLimiter<usize, Cells, C, NoOpMiddleware<<C as Clock>::Instant>>;

impl Throttle {
    /// With the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(DefaultClock::default())
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Clock + Clone> Throttle<C> {
    fn with_clock(clock: C) -> Self {
        let limiter = |burst: u32, each: Duration| {
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::with_period(each).expect("a period above zero").allow_burst(burst);
            RateLimiter::new(quota, Cells::new(), clock.clone())
        };
        Self {
            key: RandomState::new(),
            source: limiter(30, Duration::from_secs(2)),
            pair: limiter(6, Duration::from_secs(10)),
            account: limiter(30, Duration::from_secs(2)),
            under_attack: limiter(1, Duration::from_secs(60)),
            clock,
        }
    }

    /// Counts an attempt and says whether it may go on. `account` is the sign-in name as given: whether it exists makes
    /// no difference.
    ///
    /// # Errors
    /// [`Throttled`].
    pub fn attempt(&self, source: Source, account: &str) -> Result<(), Throttled> {
        let account = crate::access::fold_username(account);
        let cell = |value: &dyn Fn(&RandomState) -> u64| (value(&self.key) % CELLS as u64) as usize;
        let of_source = cell(&|key| hash(key, (0, source)));
        let of_pair = cell(&|key| hash(key, (1, source, &account)));
        let of_account = cell(&|key| hash(key, (2, &account)));
        self.check(&self.source, of_source)?;
        self.check(&self.pair, of_pair)?;
        match self.check(&self.account, of_account) {
            Ok(()) => Ok(()),
            Err(_) => self.check(&self.under_attack, of_pair),
        }
    }

    fn check(&self, limiter: &Limiter<C>, cell: usize) -> Result<(), Throttled> {
        limiter.check_key(&cell).map_err(|until| Throttled { retry_after: until.wait_time_from(self.clock.now()) })
    }
}

/// A fixed array of governor's states.
struct Cells(Box<[InMemoryState]>);

impl Cells {
    fn new() -> Self {
        Self((0..CELLS).map(|_| InMemoryState::default()).collect())
    }
}

impl StateStore for Cells {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, key: &usize, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0[*key % CELLS].measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

fn hash(key: &RandomState, value: impl Hash) -> u64 {
    key.hash_one(value)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn throttle() -> (Throttle<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Throttle::with_clock(clock.clone()), clock)
    }

    fn source(n: u32) -> Source {
        Source::new(IpAddr::V4(n.into()))
    }

    fn allowed(throttle: &Throttle<FakeRelativeClock>, tries: u32, attempt: impl Fn(u32) -> (Source, String)) -> u32 {
        let ok = |n: &u32| {
            let (source, account) = attempt(*n);
            throttle.attempt(source, &account).is_ok()
        };
        u32::try_from((0..tries).filter(ok).count()).unwrap()
    }

    #[test]
    fn one_source_guesses_at_one_account_a_few_times_then_slowly() {
        let (throttle, clock) = throttle();
        assert_eq!(allowed(&throttle, 100, |_| (source(1), "ann".to_owned())), 6);
        let refused = throttle.attempt(source(1), "ann").unwrap_err();
        assert!(refused.retry_after <= Duration::from_secs(10), "{refused}");
        assert!(throttle.attempt(source(1), "ANN ").is_err(), "the same account in other letters");
        clock.advance(Duration::from_secs(60));
        assert_eq!(allowed(&throttle, 100, |_| (source(1), "ann".to_owned())), 6);
    }

    #[test]
    fn one_source_does_not_spray_over_accounts() {
        let (throttle, _clock) = throttle();
        assert_eq!(allowed(&throttle, 1000, |n| (source(1), format!("user-{n}"))), 30);
    }

    /// A botnet that guesses at an account neither locks its owner out nor goes on at full speed.
    #[test]
    fn the_owner_gets_in_while_thousands_guess() {
        let (throttle, clock) = throttle();
        let botnet = |n: u32| (source(1000 + n % 2000), "ann".to_owned());
        let first_minute = allowed(&throttle, 20_000, botnet);
        assert!(first_minute <= 2000 + 30 + 2000 / 20, "one attempt each and the account's burst, not {first_minute}");
        // By chance (2000 of 65,536) one place may share its cell with an attacker's: twenty places do not.
        let places = || allowed(&throttle, 20, |n| (source(100 + n), "ann".to_owned()));
        assert!(places() >= 14, "the owner, from places never seen before");
        clock.advance(Duration::from_secs(61));
        allowed(&throttle, 20_000, botnet);
        assert!(places() >= 14, "and again a minute later");
    }

    #[test]
    fn a_flood_of_names_does_not_reset_anybodys_limit() {
        let (throttle, _clock) = throttle();
        assert_eq!(allowed(&throttle, 100, |_| (source(1), "ann".to_owned())), 6);
        for n in 0..200_000 {
            let _ = throttle.attempt(source(2 + n), &format!("noise-{n}"));
        }
        assert!(throttle.attempt(source(1), "ann").is_err());
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_mapped_addresses_are_ipv4() {
        let source = |text: &str| Source::new(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:ffff"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }
}
