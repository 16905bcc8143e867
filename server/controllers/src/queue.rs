//! What is to be reconciled: each key at most once in the queue and at most once in work.
//!
//! A key that is added while it is in work is done again afterwards. Failures back off by key; what users wait for goes first.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// First pause after a failure; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How a key's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left to do.
    Done,
    /// Something downstream is going on; a watch will say so, but look again after a while all the same.
    Waiting,
    /// It failed; again later.
    Failed,
}

/// The queue, shared by who adds and the one who works.
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

impl<K: Clone + Ord + Hash> Queue<K> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::new()), wake: Notify::new() }
    }

    /// Adds a key; one that somebody waits for goes before all others.
    pub(crate) fn add(&self, key: K, urgent: bool) {
        self.state.lock().add(key, urgent);
        self.wake.notify_one();
    }

    /// The next key, now in work. Cancel-safe. One caller only.
    pub(crate) async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.state.lock();
                if let Some(key) = state.pop(Instant::now()) {
                    return key;
                }
                state.due()
            };
            match due {
                Some(at) => tokio::select! { () = self.wake.notified() => {}, () = tokio::time::sleep_until(at) => {} },
                None => self.wake.notified().await,
            }
        }
    }

    /// A key's turn has ended.
    pub(crate) fn done(&self, key: &K, outcome: Outcome) {
        self.state.lock().done(key, outcome, Instant::now());
        self.wake.notify_one();
    }
}

struct State<K> {
    urgent: VecDeque<K>,
    ready: VecDeque<K>,
    queued: HashSet<K>,
    working: HashSet<K>,
    again: HashMap<K, bool>,
    delayed: BTreeSet<(Instant, K)>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Ord + Hash> State<K> {
    fn new() -> Self {
        Self {
            urgent: VecDeque::new(),
            ready: VecDeque::new(),
            queued: HashSet::new(),
            working: HashSet::new(),
            again: HashMap::new(),
            delayed: BTreeSet::new(),
            failures: HashMap::new(),
        }
    }

    fn add(&mut self, key: K, urgent: bool) {
        if self.working.contains(&key) {
            *self.again.entry(key).or_default() |= urgent;
            return;
        }
        let fresh = self.queued.insert(key.clone());
        match (fresh, urgent) {
            (true, false) => self.ready.push_back(key),
            // It may stand in `ready` as well: `queued` says whether that entry still counts.
            (_, true) => self.urgent.push_back(key),
            (false, false) => {}
        }
    }

    fn pop(&mut self, now: Instant) -> Option<K> {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.add(key, false);
            }
        }
        while let Some(key) = self.urgent.pop_front().or_else(|| self.ready.pop_front()) {
            if self.queued.remove(&key) {
                self.working.insert(key.clone());
                return Some(key);
            }
        }
        None
    }

    fn due(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }

    fn done(&mut self, key: &K, outcome: Outcome, now: Instant) {
        self.working.remove(key);
        let pause = match outcome {
            Outcome::Done => {
                self.failures.remove(key);
                None
            }
            Outcome::Waiting => Some(Duration::from_secs(5)),
            Outcome::Failed => {
                let count = self.failures.entry(key.clone()).or_default();
                let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow((*count).min(16))).min(LAST_PAUSE);
                *count = count.saturating_add(1);
                Some(pause)
            }
        };
        self.delayed.retain(|(_, delayed)| delayed != key);
        if let Some(urgent) = self.again.remove(key) {
            self.add(key.clone(), urgent);
        } else if let Some(pause) = pause {
            self.delayed.insert((now + pause, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_the_queue_and_urgent_first() {
        let (mut state, now) = (State::new(), Instant::now());
        for key in [1, 2, 1, 3] {
            state.add(key, false);
        }
        state.add(3, true);
        let order: Vec<_> = std::iter::from_fn(|| state.pop(now)).collect();
        assert_eq!(order, [3, 1, 2]);
    }

    #[test]
    fn never_twice_in_work_and_again_when_added_meanwhile() {
        let (mut state, now) = (State::new(), Instant::now());
        state.add(1, false);
        assert_eq!(state.pop(now), Some(1));
        state.add(1, true);
        assert_eq!(state.pop(now), None);
        state.done(&1, Outcome::Done, now);
        assert_eq!(state.pop(now), Some(1));
        state.done(&1, Outcome::Done, now);
        assert_eq!((state.pop(now), state.due()), (None, None));
    }

    #[test]
    fn failures_back_off_and_success_forgets_them() {
        let (mut state, mut now) = (State::new(), Instant::now());
        let mut pauses = Vec::new();
        state.add(1, false);
        for _ in 0..10 {
            assert_eq!(state.pop(now), Some(1));
            state.done(&1, Outcome::Failed, now);
            let due = state.due().unwrap();
            pauses.push(due - now);
            assert_eq!(state.pop(now), None);
            now = due;
        }
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert_eq!(pauses[9], LAST_PAUSE);
        assert_eq!(state.pop(now), Some(1));
        state.done(&1, Outcome::Done, now);
        assert!(state.failures.is_empty());
    }

    #[test]
    fn somebody_who_waits_does_not_wait_for_the_pause() {
        let (mut state, now) = (State::new(), Instant::now());
        state.add(1, false);
        state.pop(now);
        state.done(&1, Outcome::Failed, now);
        state.add(1, true);
        assert_eq!(state.pop(now), Some(1));
    }
}
