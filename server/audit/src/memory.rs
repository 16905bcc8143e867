//! A sink for tests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;

use crate::{AuditError, AuditSink, Event};

/// Keeps events in memory, and fails as if the disk were full when told to.
#[derive(Debug, Default)]
pub struct MemorySink {
    events: Mutex<Vec<Event>>,
    full: AtomicBool,
    lost: AtomicU64,
}

impl MemorySink {
    /// From now on every write fails with [`AuditError::Full`], or works again.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// What was recorded, as parsed lines, oldest first.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let events = self.events.lock();
        events.iter().filter_map(|event| serde_json::from_slice(&event.to_line()).ok()).collect()
    }

    fn push(&self, event: &Event) -> Result<(), AuditError> {
        if !self.available() {
            return Err(AuditError::Full { path: "memory".into() });
        }
        self.events.lock().push(event.clone());
        Ok(())
    }
}

impl AuditSink for MemorySink {
    fn record<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), AuditError>> {
        async move { self.push(event) }.boxed()
    }

    fn note(&self, event: &Event) {
        if self.push(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn available(&self) -> bool {
        !self.full.load(Ordering::SeqCst)
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
