//! What the handles, the streams and the driver of one session share.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use cattle_proto::id::SessionId;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::keepalive::Progress;
use crate::numbers::Numbers;
use crate::{CloseReason, SessionConfig};

/// Bytes of streams' data that may be between the streams and the socket: two messages keep it busy. With more, what waits is
/// no longer in the processor's cache when its turn comes, and each of its copies costs twice.
const QUEUE: usize = 128 * 1024;

/// What of it one stream may take, so that there is room for the others.
const SHARE: usize = QUEUE / 4 * 3;

/// Time between the close of a stream's own half with a drop after it and the reset that tells a peer that goes on
/// sending. The peer gets everything before it.
const LINGER: Duration = Duration::from_secs(1);

/// State of a session, one per end.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    pub(crate) config: SessionConfig,
    pub(crate) slots: Arc<Semaphore>,
    /// Asks the driver to close the session.
    pub(crate) close: CancellationToken,
    pub(crate) wire: Wire,
    pub(crate) numbers: Numbers,
    streams: Mutex<HashMap<u32, Arc<StreamState>>>,
    blocked: Mutex<Vec<Arc<StreamState>>>,
    resets: Mutex<Vec<u32>>,
    lingering: Mutex<VecDeque<(Instant, u32)>>,
    queued: AtomicUsize,
    draining: AtomicBool,
    open: watch::Sender<usize>,
    closed: watch::Sender<Option<CloseReason>>,
}

/// What the connection does, for the keepalive.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) queued: AtomicBool,
    pub(crate) ping: AtomicBool,
    /// yamux has told the peer that it broke the rules. It says so and goes on reading; the session must not.
    pub(crate) gone_away: AtomicBool,
    /// Microseconds that the peer took to answer the last ping; 0 when it has answered none.
    round_trip: AtomicU64,
}

impl Wire {
    pub(crate) fn set_round_trip(&self, time: Option<Duration>) {
        if let Some(time) = time {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            self.round_trip.store(micros.max(1), Ordering::Relaxed);
        }
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        Some(self.round_trip.load(Ordering::Relaxed)).filter(|micros| *micros > 0).map(Duration::from_micros)
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
        }
    }
}

/// What passes by about one stream, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct StreamState {
    pub(crate) fin: AtomicBool,
    pub(crate) reset: AtomicBool,
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
    /// Whoever waits for nothing but the peer's leave.
    gone: AtomicWaker,
    blocked: AtomicBool,
    /// Bytes of its data between the stream and the socket.
    queued: AtomicUsize,
}

impl StreamState {
    /// Ready when the peer has reset the stream before it had said all. What it said before is not worth anything then.
    pub(crate) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.gone.register(cx.waker());
        let gone = self.reset.load(Ordering::Acquire) && !self.fin.load(Ordering::Acquire);
        if gone { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Shared {
    pub(crate) fn new(id: SessionId, config: SessionConfig, slots: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            config,
            slots: Arc::new(Semaphore::new(slots)),
            close: CancellationToken::new(),
            wire: Wire::default(),
            numbers: Numbers::default(),
            streams: Mutex::default(),
            blocked: Mutex::default(),
            resets: Mutex::default(),
            lingering: Mutex::default(),
            queued: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            open: watch::Sender::new(0),
            closed: watch::Sender::new(None),
        })
    }

    // === streams ===

    /// Enters stream `id`; `counted` ones are those that a drain waits for.
    pub(crate) fn stream_opened(&self, id: u32, counted: bool) -> Arc<StreamState> {
        let state = Arc::new(StreamState::default());
        self.streams.lock().insert(id, Arc::clone(&state));
        self.config.metrics.streams_opened.inc();
        self.numbers.streams_opened.fetch_add(1, Ordering::Relaxed);
        if counted {
            self.open.send_modify(|open| *open += 1);
        }
        state
    }

    pub(crate) fn stream_dropped(&self, id: u32, counted: bool) {
        self.streams.lock().remove(&id);
        self.config.metrics.streams_closed.inc();
        self.numbers.streams_closed.fetch_add(1, Ordering::Relaxed);
        if counted {
            self.open.send_modify(|open| *open = open.saturating_sub(1));
        }
    }

    /// Streams that are open, the control stream not counted; the receiver sees every change.
    pub(crate) fn open_streams(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// The peer has closed its half of stream `id`. After a reset that means nothing: yamux closes a stream that was
    /// dropped, and our own reset goes before that.
    pub(crate) fn saw_fin(&self, id: u32) {
        if let Some(state) = self.streams.lock().get(&id)
            && !state.reset.load(Ordering::Acquire)
        {
            state.fin.store(true, Ordering::Release);
        }
    }

    /// The peer has reset stream `id`.
    pub(crate) fn saw_reset(&self, id: u32) {
        if let Some(state) = self.streams.lock().get(&id) {
            if !state.reset.swap(true, Ordering::AcqRel) {
                self.config.metrics.stream_reset("peer");
                self.numbers.resets_received.fetch_add(1, Ordering::Relaxed);
            }
            state.gone.wake();
        }
    }

    /// This end drops a stream of which not all has been said.
    pub(crate) fn count_reset(&self) {
        self.config.metrics.stream_reset("own");
        self.numbers.resets_sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_read(&self, bytes: usize) {
        self.config.metrics.bytes_read.inc_by(bytes as u64);
        self.numbers.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_written(&self, bytes: usize) {
        self.config.metrics.bytes_written.inc_by(bytes as u64);
        self.numbers.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A writer has to wait for the peer's reader.
    pub(crate) fn count_stall(&self) {
        self.config.metrics.stalls.inc();
        self.numbers.stalls.fetch_add(1, Ordering::Relaxed);
    }

    // === resets that yamux does not send ===

    /// Has stream `id` reset before anything else is sent.
    pub(crate) fn reset_now(&self, id: u32) {
        self.resets.lock().push(id);
    }

    /// Has stream `id` reset when all that was written to it is out.
    pub(crate) fn reset_later(&self, id: u32) {
        self.lingering.lock().push_back((Instant::now() + LINGER, id));
    }

    /// The resets to send now.
    pub(crate) fn take_resets(&self) -> Vec<u32> {
        std::mem::take(&mut *self.resets.lock())
    }

    /// Moves what has lingered long enough to the resets to be sent. Returns whether there were any, and when the next is.
    pub(crate) fn end_lingering(&self, now: Instant) -> (bool, Option<Instant>) {
        let mut lingering = self.lingering.lock();
        let due = lingering.iter().take_while(|(at, _)| *at <= now).count();
        if due > 0 {
            self.resets.lock().extend(lingering.drain(..due).map(|(_, id)| id));
        }
        (due > 0, lingering.front().map(|(at, _)| *at))
    }

    // === the queue to the socket ===

    /// Whether a stream may hand over data; wakes its writer later if not. One that has nothing in the queue has as much room
    /// again: who has little to say does not wait for those who have much.
    pub(crate) fn poll_queue(&self, cx: &Context<'_>, state: &Arc<StreamState>) -> Poll<()> {
        let (own, all) = (state.queued.load(Ordering::Acquire), self.queued.load(Ordering::Acquire));
        if (own == 0 && all < 2 * QUEUE) || (own < SHARE && all < QUEUE) {
            return Poll::Ready(());
        }
        state.writer.register(cx.waker());
        if !state.blocked.swap(true, Ordering::AcqRel) {
            self.blocked.lock().push(Arc::clone(state));
        }
        // The queue may have emptied between the look and the registration.
        if self.queued.load(Ordering::Acquire) < QUEUE / 2 {
            self.wake_blocked();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// A stream is about to hand over data. The driver may send it before the hand-over returns, so it is counted before.
    pub(crate) fn queue_grew(&self, state: &StreamState, bytes: usize) {
        state.queued.fetch_add(bytes, Ordering::AcqRel);
        self.queued.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Of what was counted this much was not handed over.
    pub(crate) fn queue_kept(&self, state: &StreamState, bytes: usize) {
        state.queued.fetch_sub(bytes, Ordering::AcqRel);
        self.left_queue(bytes);
    }

    /// The socket has taken data of these streams, which may be gone by now.
    pub(crate) fn queue_shrank(&self, data: &[(u32, usize)]) {
        let mut bytes = 0;
        for (id, taken) in data {
            bytes += taken;
            if let Some(state) = self.streams.lock().get(id) {
                state.queued.fetch_sub(*taken, Ordering::AcqRel);
            }
        }
        self.left_queue(bytes);
    }

    fn left_queue(&self, bytes: usize) {
        let before = self.queued.fetch_sub(bytes, Ordering::AcqRel);
        if before.saturating_sub(bytes) < QUEUE / 2 {
            self.wake_blocked();
        }
    }

    fn wake_blocked(&self) {
        let blocked = std::mem::take(&mut *self.blocked.lock());
        for state in blocked {
            state.blocked.store(false, Ordering::Release);
            state.writer.wake();
        }
    }

    // === the end ===

    pub(crate) fn refuse_streams(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.closed.borrow().clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    pub(crate) fn watch_closed(&self) -> watch::Receiver<Option<CloseReason>> {
        self.closed.subscribe()
    }

    /// Ends the session for everybody who waits in it. The first reason stays.
    pub(crate) fn end(&self, reason: CloseReason) {
        let first = self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert_with(|| reason.clone());
            first
        });
        if !first {
            return;
        }
        self.config.metrics.session_closed(&reason);
        for state in self.streams.lock().values() {
            state.reader.wake();
            state.writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_fn;
    use futures_util::task::noop_waker;

    use super::*;

    fn shared() -> Arc<Shared> {
        Shared::new(SessionId::new([0; 16]), SessionConfig::default(), 8)
    }

    const CHUNK: usize = 16 * 1024;

    /// Hands over data for as long as there is room.
    fn fill(shared: &Shared, state: &Arc<StreamState>) -> usize {
        let waker = noop_waker();
        let cx = &Context::from_waker(&waker);
        let mut taken = 0;
        while shared.poll_queue(cx, state).is_ready() {
            shared.queue_grew(state, CHUNK);
            taken += CHUNK;
        }
        taken
    }

    #[test]
    fn no_stream_takes_the_whole_queue_and_half_of_it_wakes() {
        let shared = shared();
        let [one, two] = [1, 3].map(|id| shared.stream_opened(id, true));
        assert_eq!(fill(&shared, &one), SHARE);
        assert_eq!(fill(&shared, &two), QUEUE - SHARE);
        shared.queue_shrank(&[(1, CHUNK)]);
        assert_eq!(shared.blocked.lock().len(), 2);
        shared.queue_shrank(&[(1, QUEUE / 2 - 2 * CHUNK), (3, CHUNK)]);
        assert_eq!(shared.blocked.lock().len(), 2);
        // Of a stream that is gone by now.
        shared.queue_shrank(&[(99, CHUNK)]);
        assert!(shared.blocked.lock().is_empty());
        assert!(fill(&shared, &one) > 0 && fill(&shared, &two) > 0);
    }

    #[test]
    fn who_has_nothing_there_has_room_but_not_without_end() {
        let shared = shared();
        let [one, two] = [1, 3].map(|id| shared.stream_opened(id, true));
        assert_eq!(fill(&shared, &one) + fill(&shared, &two), QUEUE);
        let small = (2..500).map(|number| fill(&shared, &shared.stream_opened(2 * number + 1, true)));
        let small: Vec<_> = small.collect();
        assert!(small[0] == CHUNK && small.last() == Some(&0));
        assert_eq!(small.iter().sum::<usize>(), QUEUE);
    }

    #[tokio::test]
    async fn the_first_reason_of_an_end_stays() {
        let shared = shared();
        let state = shared.stream_opened(1, true);
        shared.end(CloseReason::Silent);
        shared.end(CloseReason::Closed);
        assert_eq!(shared.close_reason(), Some(CloseReason::Silent));
        shared.stream_dropped(1, true);
        assert_eq!(*shared.open_streams().borrow(), 0);
        assert_eq!(Arc::strong_count(&state), 1);
        poll_fn(|cx| shared.poll_queue(cx, &state)).await;
    }
}
