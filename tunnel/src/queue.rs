//! What waits for the socket, in an order that is fair: a pure decision.
//!
//! Each stream's frames wait in a line of their own. A stream that had nothing waiting goes before those that have had their
//! turn, and those take turns; so a request, an answer or a keystroke waits for one message of a bulk transfer and not for all
//! that the transfer has waiting (RFC 8290 does this with packets). Within a stream the order is that of yamux. Frames that
//! belong to no stream, or only give credit, go before everything: the order of those means nothing to the peer. A farewell
//! goes last.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::{Bytes, BytesMut};
use cattle_proto::limits;

use crate::frame::{HEADER, Header, Step, Tracker};

/// Bytes that are worth a message of their own, so that bulk is copied once.
const WHOLE: usize = 8 * 1024;

/// Whole frames, and whose data they carry.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Bytes,
    /// Streams and how many of the bytes are their data.
    pub(crate) data: Vec<(u32, usize)>,
}

/// The frames that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    tracker: Tracker,
    /// Where the frame goes that is being taken in.
    current: Place,
    urgent: BytesMut,
    farewell: BytesMut,
    lines: HashMap<u32, Line>,
    /// Streams whose first frame waits.
    unannounced: HashSet<u32>,
    /// Streams that had nothing waiting, and those that have had a turn since.
    fresh: VecDeque<u32>,
    turns: VecDeque<u32>,
    waiting: usize,
}

/// Among which frames one waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Those that go before everything.
    #[default]
    Urgent,
    /// Those of a stream.
    Stream(u32),
    /// What goes after everything: the peer reads nothing after it.
    Farewell,
}

/// The frames of one stream, in parts that are messages.
#[derive(Debug, Default)]
struct Line {
    parts: VecDeque<Part>,
}

#[derive(Debug, Default)]
struct Part {
    bytes: BytesMut,
    data: usize,
}

impl Queue {
    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn at_boundary(&self) -> bool {
        self.tracker.at_boundary()
    }

    /// Takes in the next bytes of frames; calls `each` for every header in them.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Header)) {
        self.waiting += bytes.len();
        while !bytes.is_empty() {
            let taken = match self.tracker.step(bytes) {
                Step::Body(taken) => {
                    self.place(0).extend_from_slice(&bytes[..taken]);
                    self.count(taken);
                    taken
                }
                Step::Part(taken) => taken,
                Step::Header(taken, header) => {
                    each(header);
                    self.begin(header);
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
    }

    fn begin(&mut self, header: Header) {
        let id = header.stream;
        if header.is_syn() {
            self.unannounced.insert(id);
        }
        // The peer must have heard of a stream before it hears of credit for it.
        self.current = match () {
            () if header.is_go_away() => Place::Farewell,
            () if header.is_apart() && !self.unannounced.contains(&id) => Place::Urgent,
            () => Place::Stream(id),
        };
        let raw = self.tracker.header();
        self.place(HEADER + header.body()).extend_from_slice(&raw);
    }

    /// The next message, of whole frames; `None` when nothing waits.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        if !self.tracker.at_boundary() || self.waiting == 0 {
            return None;
        }
        let mut message = self.urgent.split_to(self.urgent.len().min(limits::WEBSOCKET_MESSAGE));
        let mut data = Vec::new();
        while message.len() < WHOLE {
            // What is small gathers; bulk stands alone.
            let room = if message.is_empty() { limits::WEBSOCKET_MESSAGE } else { WHOLE };
            let Some((id, part)) = self.turn(room) else { break };
            self.unannounced.remove(&id);
            if part.data > 0 {
                data.push((id, part.data));
            }
            if message.is_empty() {
                message = part.bytes;
            } else {
                message.extend_from_slice(&part.bytes);
            }
        }
        if message.is_empty() {
            message = std::mem::take(&mut self.farewell);
        }
        self.waiting -= message.len();
        if self.waiting == 0 {
            // Nobody waits, so nobody has had a turn.
            self.lines.clear();
            self.turns.clear();
        }
        Some(Message { bytes: message.freeze(), data })
    }

    /// The part of the stream whose turn it is, if it has at most `room` bytes.
    fn turn(&mut self, room: usize) -> Option<(u32, Part)> {
        loop {
            let line = if self.fresh.is_empty() { &mut self.turns } else { &mut self.fresh };
            let id = *line.front()?;
            let parts = self.lines.get_mut(&id).map(|line| &mut line.parts);
            match parts.and_then(|parts| parts.pop_front_if(|part| part.bytes.len() <= room)) {
                Some(part) => {
                    line.pop_front();
                    self.turns.push_back(id);
                    return Some((id, part));
                }
                None if self.lines.get(&id).is_some_and(|line| !line.parts.is_empty()) => return None,
                // It had its turn and has had nothing to say since: it is fresh again.
                None => {
                    line.pop_front();
                    self.lines.remove(&id);
                }
            }
        }
    }

    /// Where the bytes of the current frame go; a frame that begins has `size` bytes.
    fn place(&mut self, size: usize) -> &mut BytesMut {
        let id = match self.current {
            Place::Urgent => return &mut self.urgent,
            Place::Farewell => return &mut self.farewell,
            Place::Stream(id) => id,
        };
        let fresh = &mut self.fresh;
        let line = self.lines.entry(id).or_insert_with(|| {
            fresh.push_back(id);
            Line::default()
        });
        line.place(size)
    }

    /// Counts data of the current frame.
    fn count(&mut self, bytes: usize) {
        if let Place::Stream(id) = self.current
            && let Some(part) = self.lines.get_mut(&id).and_then(|line| line.parts.back_mut())
        {
            part.data += bytes;
        }
    }
}

impl Line {
    fn place(&mut self, size: usize) -> &mut BytesMut {
        let full = |part: &Part| part.bytes.len() + size > limits::WEBSOCKET_MESSAGE;
        if size > 0 && self.parts.back().is_none_or(full) {
            // Who sends much will fill a message.
            let capacity = if size < WHOLE / 2 { size } else { limits::WEBSOCKET_MESSAGE };
            self.parts.push_back(Part { bytes: BytesMut::with_capacity(capacity), data: 0 });
        }
        let last = self.parts.len().saturating_sub(1);
        &mut self.parts[last].bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u16 = 1;

    fn data(stream: u32, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0];
        frame.extend(flags.to_be_bytes());
        frame.extend(stream.to_be_bytes());
        frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend(body);
        frame
    }

    fn credit(stream: u32) -> Vec<u8> {
        let mut frame = data(stream, 0, &[]);
        frame[1] = 1;
        frame
    }

    /// The streams of a message's frames, one letter a frame: data in capitals.
    fn frames(message: &Message) -> String {
        let mut seen = String::new();
        Tracker::default().feed(&message.bytes, |header| {
            let letter = char::from(b'a' + u8::try_from(header.stream).unwrap());
            seen.push(if header.is_apart() { letter } else { letter.to_ascii_uppercase() });
        });
        seen
    }

    fn drain(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|message| frames(&message)).collect()
    }

    #[test]
    fn who_comes_new_waits_for_one_message_of_bulk() {
        let mut queue = Queue::default();
        for _ in 0..20 {
            queue.push(&data(1, 0, &[0; 16_000]), |_| {});
        }
        assert_eq!(queue.pop().map(|message| frames(&message)).as_deref(), Some("BBBB"));
        queue.push(&data(2, SYN, b"GET /"), |_| {});
        queue.push(&credit(3), |_| {});
        queue.push(&data(4, 0, b"key"), |_| {});
        assert_eq!(queue.pop().map(|message| frames(&message)).as_deref(), Some("dCE"));
        assert_eq!(drain(&mut queue), ["BBBB"; 4]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_farewell_is_the_last_word() {
        let mut queue = Queue::default();
        let farewell = [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        queue.push(&data(1, 0, b"answer"), |_| {});
        queue.push(&farewell, |_| {});
        queue.push(&credit(2), |_| {});
        assert_eq!(drain(&mut queue), ["cB", "a"]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn bulk_takes_turns() {
        let mut queue = Queue::default();
        for _ in 0..12 {
            for stream in [1, 2, 3] {
                queue.push(&data(stream, 0, &[0; 16_000]), |_| {});
            }
        }
        let order = drain(&mut queue).join(" ");
        assert_eq!(order, "BBBB CCCC DDDD BBBB CCCC DDDD BBBB CCCC DDDD");
    }

    /// Who has had a turn is not new again by being quick: those before it have theirs first.
    #[test]
    fn many_small_streams_do_not_starve_bulk() {
        let mut queue = Queue::default();
        for _ in 0..100 {
            queue.push(&data(1, 0, &[0; 16_000]), |_| {});
        }
        let mut bulk = 0;
        for round in 0..50 {
            for small in [2, 3] {
                queue.push(&data(small, 0, &[0; 16_000]), |_| {});
            }
            let frames = frames(&queue.pop().unwrap());
            bulk += usize::from(frames.contains('B'));
            assert!(round < 6 || bulk > 0, "after {round} rounds");
        }
        assert!(bulk >= 15, "{bulk} of 50 turns");
    }

    #[test]
    fn credit_for_a_stream_comes_after_its_first_frame() {
        let mut queue = Queue::default();
        queue.push(&data(1, 0, &[0; 16_000]), |_| {});
        queue.push(&data(2, SYN, b"x"), |_| {});
        queue.push(&credit(2), |_| {});
        assert_eq!(drain(&mut queue), ["B", "Cc"]);
        queue.push(&data(2, 0, b"x"), |_| {});
        queue.push(&credit(2), |_| {});
        assert_eq!(drain(&mut queue), ["cC"]);
    }

    #[test]
    fn no_message_ends_within_a_frame_or_is_too_large() {
        let mut queue = Queue::default();
        let frame = data(1, 0, &[7; 1000]);
        queue.push(&frame[..500], |_| {});
        assert!(queue.pop().is_none());
        queue.push(&frame[500..], |_| {});
        assert_eq!(queue.pop().map(|message| message.bytes.to_vec()), Some(frame));
        for _ in 0..10_000 {
            queue.push(&credit(5), |_| {});
        }
        let sizes: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|message| message.bytes.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 120_000);
        assert!(sizes.iter().all(|size| *size <= limits::WEBSOCKET_MESSAGE));
    }

    /// Whatever comes in goes out, once, each stream's in its order, and what is counted is the data.
    #[test]
    fn every_stream_keeps_its_order() {
        let matrix = cattle_matrix::Matrix::of_this_run("orders of a queue");
        for round in matrix.slice(2000, 200) {
            let mut random = matrix.random_at(round);
            let mut queue = Queue::default();
            let (mut sent, mut got): (HashMap<u32, Vec<u8>>, HashMap<u32, Vec<u8>>) = Default::default();
            let mut counted: HashMap<u32, usize> = HashMap::new();
            let mut take = |queue: &mut Queue| {
                let Some(message) = queue.pop() else { return };
                assert!(message.bytes.len() <= limits::WEBSOCKET_MESSAGE);
                let (mut tracker, mut bytes, mut stream) = (Tracker::default(), &message.bytes[..], 0);
                while !bytes.is_empty() {
                    let taken = match tracker.step(bytes) {
                        Step::Body(taken) => {
                            got.entry(stream).or_default().extend_from_slice(&bytes[..taken]);
                            taken
                        }
                        Step::Part(taken) => taken,
                        Step::Header(taken, header) => {
                            stream = header.stream;
                            taken
                        }
                    };
                    bytes = &bytes[taken..];
                }
                assert!(tracker.at_boundary());
                for (stream, bytes) in message.data {
                    *counted.entry(stream).or_default() += bytes;
                }
            };
            for _ in 0..random.usize(..200) {
                let stream = random.u32(1..9);
                if random.u8(..4) == 0 {
                    queue.push(&credit(stream), |_| {});
                } else {
                    let body: Vec<u8> = (0..random.usize(..16_384)).map(|_| random.u8(..)).collect();
                    sent.entry(stream).or_default().extend_from_slice(&body);
                    let frame = data(stream, 0, &body);
                    let (one, other) = frame.split_at(random.usize(..frame.len()));
                    queue.push(one, |_| {});
                    queue.push(other, |_| {});
                }
                if random.u8(..3) == 0 {
                    take(&mut queue);
                }
            }
            while queue.waiting() > 0 {
                take(&mut queue);
            }
            sent.retain(|_, bytes| !bytes.is_empty());
            assert!(sent == got, "round {round}");
            assert!(sent.iter().all(|(stream, bytes)| counted[stream] == bytes.len()), "round {round}");
        }
    }
}
