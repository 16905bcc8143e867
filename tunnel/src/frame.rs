//! yamux's frames as they pass by: where one begins, and what its header says.
//!
//! The crate `yamux` does not tell a reset from an end of file once this end has closed its half, and sends none for a
//! stream that is dropped then. Both can be seen and mended from outside, where the bytes pass.

/// Bytes of a header: version, type, flags (2), stream (4), length (4); big-endian.
pub(crate) const HEADER: usize = 12;

const TYPE_DATA: u8 = 0;
const TYPE_WINDOW_UPDATE: u8 = 1;
const TYPE_GO_AWAY: u8 = 3;
const FLAG_SYN: u16 = 1;
const FLAG_FIN: u16 = 4;
const FLAG_RST: u16 = 8;

/// One header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    kind: u8,
    flags: u16,
    pub(crate) stream: u32,
    length: u32,
}

impl Header {
    /// The header in `bytes`.
    fn parse(bytes: &[u8; HEADER]) -> Self {
        let [_, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = *bytes;
        Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        }
    }

    /// A frame that resets `stream`.
    pub(crate) fn reset(stream: u32) -> [u8; HEADER] {
        let [f0, f1] = FLAG_RST.to_be_bytes();
        let [s0, s1, s2, s3] = stream.to_be_bytes();
        [0, TYPE_DATA, f0, f1, s0, s1, s2, s3, 0, 0, 0, 0]
    }

    /// Bytes of body after it.
    pub(crate) fn body(self) -> usize {
        if self.kind == TYPE_DATA { usize::try_from(self.length).unwrap_or(usize::MAX) } else { 0 }
    }

    pub(crate) fn is_fin(self) -> bool {
        self.of_stream() && self.flags & FLAG_FIN != 0
    }

    pub(crate) fn is_reset(self) -> bool {
        self.of_stream() && self.flags & FLAG_RST != 0
    }

    pub(crate) fn is_go_away(self) -> bool {
        self.kind == TYPE_GO_AWAY
    }

    pub(crate) fn is_syn(self) -> bool {
        self.of_stream() && self.flags & FLAG_SYN != 0
    }

    /// Whether nothing of a stream comes after it or before it in any order that counts: it asks for an answer, ends the
    /// session, or gives credit.
    pub(crate) fn is_apart(self) -> bool {
        match self.kind {
            TYPE_DATA => false,
            TYPE_WINDOW_UPDATE => self.flags & (FLAG_SYN | FLAG_FIN | FLAG_RST) == 0,
            _ => true,
        }
    }

    fn of_stream(self) -> bool {
        matches!(self.kind, TYPE_DATA | TYPE_WINDOW_UPDATE)
    }
}

/// What the next bytes are, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Of a body.
    Body(usize),
    /// Of a header that goes on after them.
    Part(usize),
    /// The end of this header.
    Header(usize, Header),
}

/// Follows one direction of a connection from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    header: [u8; HEADER],
    filled: usize,
    body_left: usize,
}

impl Tracker {
    /// Takes the next bytes; calls `each` for every header that they complete. Returns how many of the bytes were bodies.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Header)) -> usize {
        let mut bodies = 0;
        while !bytes.is_empty() {
            let taken = match self.step(bytes) {
                Step::Body(taken) => {
                    bodies += taken;
                    taken
                }
                Step::Part(taken) => taken,
                Step::Header(taken, header) => {
                    each(header);
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
        bodies
    }

    /// Takes some of the next bytes, of which there must be one at least.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Step {
        if self.body_left > 0 {
            let taken = self.body_left.min(bytes.len());
            self.body_left -= taken;
            return Step::Body(taken);
        }
        let taken = (HEADER - self.filled).min(bytes.len());
        self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled < HEADER {
            return Step::Part(taken);
        }
        self.filled = 0;
        let header = Header::parse(&self.header);
        self.body_left = header.body();
        Step::Header(taken, header)
    }

    /// The bytes of the last header.
    pub(crate) fn header(&self) -> [u8; HEADER] {
        self.header
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn at_boundary(&self) -> bool {
        self.filled == 0 && self.body_left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(stream: u32, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, TYPE_DATA];
        frame.extend(flags.to_be_bytes());
        frame.extend(stream.to_be_bytes());
        frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend(body);
        frame
    }

    #[test]
    fn headers_are_found_however_the_bytes_are_cut() {
        let mut bytes = data(1, 1, b"hello");
        bytes.extend([0, TYPE_WINDOW_UPDATE, 0, 4, 0, 0, 0, 3, 0, 0, 1, 0]);
        bytes.extend(data(5, FLAG_RST, b""));
        bytes.extend([0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9]);
        for size in 1..=bytes.len() {
            let mut tracker = Tracker::default();
            let (mut seen, mut bodies) = (Vec::new(), 0);
            for part in bytes.chunks(size) {
                bodies += tracker.feed(part, |header| seen.push((header.stream, header.is_fin(), header.is_reset())));
            }
            assert_eq!(
                seen,
                [(1, false, false), (3, true, false), (5, false, true), (0, false, false)],
                "cut at {size}"
            );
            assert_eq!(bodies, 5);
            assert!(tracker.at_boundary());
        }
    }

    #[test]
    fn a_reset_frame_is_a_reset() {
        let mut seen = None;
        assert_eq!(Tracker::default().feed(&Header::reset(7), |header| seen = Some(header)), 0);
        assert!(seen.is_some_and(|header| header.is_reset() && header.stream == 7));
    }

    #[test]
    fn any_bytes_are_followed_the_same_however_they_are_cut() {
        let update = vec![0, TYPE_WINDOW_UPDATE, 0, 4, 0, 0, 0, 3, 0, 0, 1, 0];
        let samples = [data(1, 1, b"hello"), [data(5, FLAG_RST, b""), update, data(7, FLAG_FIN, b"x")].concat()];
        cattle_matrix::Decoder::new("yamux frames", samples).memory(1024).hammer(|bytes| {
            let (mut whole, mut cut) = (Tracker::default(), Tracker::default());
            let (mut seen, mut again) = (0_u64, 0_u64);
            let sum = |header: Header| u64::from(header.stream).wrapping_mul(31) ^ u64::from(header.length);
            let bodies = whole.feed(bytes, |header| seen = seen.wrapping_mul(7).wrapping_add(sum(header)));
            let parts = bytes.chunks(5);
            let parts =
                parts.map(|part| cut.feed(part, |header| again = again.wrapping_mul(7).wrapping_add(sum(header))));
            assert_eq!((parts.sum::<usize>(), again, cut.at_boundary()), (bodies, seen, whole.at_boundary()));
            assert!(bodies <= bytes.len());
            whole.at_boundary()
        });
    }
}
