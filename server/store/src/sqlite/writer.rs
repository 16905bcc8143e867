//! The one thread that writes.
//!
//! Transactions that wait when the thread is free are committed together: one fsync for all of them (group commit). Each has
//! a savepoint, so one that is refused takes nothing with it. Nobody sees a change before it is durable: events are sent and
//! callers answered after the commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::apply::{Apply, ApplyError, Logged, answer, signed, unsigned};
use super::failure::{poisons, store_error_shared};
use super::keyring::Keyring;
use super::{Options, Shared};
use crate::error::StoreError;
use crate::key::Revision;
use crate::transaction::{Committed, Transaction};

/// Transactions that may wait for the thread; more wait before the queue.
const QUEUE: usize = 256;
/// Transactions that are committed together.
const BATCH: usize = 64;
/// Changes between two checkpoints: about a thousand pages of write-ahead log.
const CHECKPOINT_EVERY: u64 = 250;

/// Answer to a caller.
type Reply = oneshot::Sender<Result<Committed, StoreError>>;

/// The thread and the way to it. Dropping it ends the thread after everything in the queue.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<(Transaction, Reply)>>,
    thread: Option<JoinHandle<()>>,
    /// Closed when the thread has ended, however it ended.
    alive: watch::Receiver<()>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        keyring: Arc<Keyring>,
        shared: Arc<Shared>,
        live: broadcast::Sender<Arc<Logged>>,
        options: &Options,
    ) -> Result<Self, std::io::Error> {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let log = shared.log_size;
        let state = State {
            connection,
            keyring,
            shared,
            live,
            poisoned: false,
            log_entries: log.0,
            log_bytes: log.1,
            keep_entries: options.log_entries,
            keep_bytes: options.log_bytes,
            since_checkpoint: 0,
        };
        let (lives, alive) = watch::channel(());
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let _lives = lives;
            state.run(receiver);
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), alive })
    }

    /// Resolves when the thread has ended.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut alive = self.alive.clone();
        async move { while alive.changed().await.is_ok() {} }
    }

    pub(super) async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        queue.send((transaction, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already reported by the panic hook; callers got `Closed`.
            let _ = thread.join();
        }
    }
}

struct State {
    connection: Connection,
    keyring: Arc<Keyring>,
    shared: Arc<Shared>,
    live: broadcast::Sender<Arc<Logged>>,
    poisoned: bool,
    log_entries: u64,
    log_bytes: u64,
    keep_entries: u64,
    keep_bytes: u64,
    since_checkpoint: u64,
}

/// What a batch did, before it is durable.
struct Applied {
    answers: Vec<(Reply, Result<Committed, StoreError>)>,
    events: Vec<Logged>,
    revision: u64,
    log_entries: u64,
    log_bytes: u64,
}

impl State {
    fn run(mut self, mut queue: mpsc::Receiver<(Transaction, Reply)>) {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            self.commit(std::mem::take(&mut batch));
            if self.since_checkpoint >= CHECKPOINT_EVERY {
                self.checkpoint();
            }
        }
    }

    fn commit(&mut self, batch: Vec<(Transaction, Reply)>) {
        if self.poisoned {
            for (_, reply) in batch {
                let _ = reply.send(Err(StoreError::Poisoned));
            }
            return;
        }
        match self.try_commit(batch) {
            Ok(applied) => self.publish(applied),
            Err((error, waiting)) => {
                self.poisoned = poisons(&error);
                if self.poisoned {
                    tracing::error!(%error, "a write to the data directory failed: changes are refused from now on");
                }
                Self::fail(error, waiting);
            }
        }
    }

    /// Applies a batch and makes it durable. On failure nothing of it is kept.
    fn try_commit(&mut self, batch: Vec<(Transaction, Reply)>) -> Result<Applied, (rusqlite::Error, Vec<Reply>)> {
        let mut waiting = Vec::new();
        let mut batch = batch.into_iter();
        let mut applied = Applied {
            answers: Vec::with_capacity(batch.len()),
            events: Vec::new(),
            revision: self.shared.revision.load(Ordering::Acquire),
            log_entries: self.log_entries,
            log_bytes: self.log_bytes,
        };
        let before = applied.revision;
        let result = (|| {
            let mut outer = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (transaction, reply) in batch.by_ref() {
                let outcome = apply(&mut outer, &self.keyring, transaction, &mut applied);
                match outcome {
                    Err(ApplyError::Database(error)) => {
                        waiting.push(reply);
                        return Err(error);
                    }
                    outcome => applied.answers.push((reply, outcome.map_err(answer))),
                }
            }
            if applied.revision != before {
                set_meta(&outer, "revision", signed(applied.revision))?;
                compact(&outer, &mut applied, self.keep_entries, self.keep_bytes)?;
            }
            outer.commit()
        })();
        match result {
            Ok(()) => Ok(applied),
            Err(error) => {
                waiting.extend(applied.answers.into_iter().map(|(reply, _)| reply));
                waiting.extend(batch.map(|(_, reply)| reply));
                Err((error, waiting))
            }
        }
    }

    /// The batch is durable: everybody may know.
    fn publish(&mut self, applied: Applied) {
        self.since_checkpoint += applied.events.len() as u64;
        (self.log_entries, self.log_bytes) = (applied.log_entries, applied.log_bytes);
        self.shared.revision.store(applied.revision, Ordering::Release);
        for event in applied.events {
            // Without watchers there is nobody to tell.
            let _ = self.live.send(Arc::new(event));
        }
        for (reply, answer) in applied.answers {
            // The caller may be gone; the change is made all the same.
            let _ = reply.send(answer);
        }
    }

    /// One failure, told to everybody in the batch.
    fn fail(error: rusqlite::Error, waiting: Vec<Reply>) {
        let error = Arc::new(error);
        for reply in waiting {
            let _ = reply.send(Err(store_error_shared(&error)));
        }
    }

    /// Moves the write-ahead log into the database. SQLite's own automatic checkpoint would hide a failed fsync.
    fn checkpoint(&mut self) {
        self.since_checkpoint = 0;
        let result = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = result {
            self.poisoned |= poisons(&error);
            tracing::error!(%error, poisoned = self.poisoned, "the database cannot be brought up to date");
        }
    }
}

/// Applies one transaction in a savepoint; a refused one and a dry run leave nothing.
fn apply(
    outer: &mut rusqlite::Transaction<'_>,
    keyring: &Keyring,
    transaction: Transaction,
    applied: &mut Applied,
) -> Result<Committed, ApplyError> {
    let dry_run = transaction.dry_run;
    // Without `commit`, dropping the savepoint rolls it back.
    let savepoint = outer.savepoint()?;
    let mut apply = Apply {
        connection: &savepoint,
        keyring,
        now: now(),
        revision: applied.revision,
        events: Vec::new(),
        objects: Vec::new(),
        logged_bytes: 0,
    };
    apply.run(transaction)?;
    let Apply { revision, events, objects, logged_bytes, .. } = apply;
    if dry_run {
        return Ok(Committed { objects, revision: Revision(applied.revision) });
    }
    savepoint.commit()?;
    applied.revision = revision;
    applied.log_entries += events.len() as u64;
    applied.log_bytes += logged_bytes;
    applied.events.extend(events);
    Ok(Committed { objects, revision: Revision(revision) })
}

/// Drops the oldest history when there is more than is kept, with some slack so that it does not happen each time.
fn compact(
    connection: &Connection,
    applied: &mut Applied,
    keep_entries: u64,
    keep_bytes: u64,
) -> Result<(), rusqlite::Error> {
    let slack = |keep: u64| keep + keep / 8;
    if applied.log_entries <= slack(keep_entries) && applied.log_bytes <= slack(keep_bytes) {
        return Ok(());
    }
    let mut select = connection
        .prepare_cached("SELECT rev, length(json) + ifnull(length(prev_json), 0) FROM log ORDER BY rev DESC")?;
    let mut rows = select.query([])?;
    let (mut entries, mut bytes, mut floor) = (0, 0, None);
    while let Some(row) = rows.next()? {
        let (revision, size): (i64, u64) = (row.get(0)?, unsigned(row, 1)?);
        if entries + 1 > keep_entries || bytes + size > keep_bytes {
            floor = Some(revision);
            break;
        }
        entries += 1;
        bytes += size;
    }
    if let Some(floor) = floor {
        connection.execute("DELETE FROM log WHERE rev <= ?1", params![floor])?;
        set_meta(connection, "floor", floor)?;
    }
    (applied.log_entries, applied.log_bytes) = (entries, bytes);
    Ok(())
}

pub(super) fn set_meta(connection: &Connection, name: &str, value: i64) -> Result<(), rusqlite::Error> {
    connection.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?.execute(params![name, value])?;
    Ok(())
}

/// Whole seconds, as Kubernetes' times are.
fn now() -> Time {
    let now = jiff::Timestamp::now();
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}
