//! Where one event of a watch ends and the next begins.

use bytes::Bytes;

/// Follows the framing of a watch, so that it can be ended between two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Events {
    /// JSON: one event per line.
    Lines {
        /// The last byte was the end of one.
        between: bool,
    },
    /// Protobuf and CBOR sequences of Kubernetes: four bytes of length, big endian, before each event.
    Lengths {
        /// Bytes of the length that have passed.
        header: u8,
        /// The length as far as it is known.
        length: u32,
        /// Bytes of the event that are to come.
        left: u32,
    },
}

impl Events {
    /// The framing of a watch with this content type, if it is one that we can follow.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        match kind {
            "application/json" => Some(Self::Lines { between: true }),
            "application/vnd.kubernetes.protobuf" => Some(Self::Lengths { header: 0, length: 0, left: 0 }),
            _ => None,
        }
    }

    /// Whether everything so far was whole events.
    pub(crate) fn is_between(&self) -> bool {
        match self {
            Self::Lines { between } => *between,
            Self::Lengths { header, left, .. } => *header == 0 && *left == 0,
        }
    }

    /// Lets bytes pass. With `last`, only up to the end of the event that is under way.
    pub(crate) fn pass(&mut self, data: Bytes, last: bool) -> Bytes {
        let mut at = 0;
        while at < data.len() {
            at += self.step(&data[at..]);
            if last && self.is_between() {
                break;
            }
        }
        data.slice(..at)
    }

    /// Takes at least one byte, and no more than the rest of one event.
    fn step(&mut self, data: &[u8]) -> usize {
        match self {
            Self::Lines { between } => {
                let end = data.iter().position(|byte| *byte == b'\n');
                *between = end.is_some();
                end.map_or(data.len(), |end| end + 1)
            }
            Self::Lengths { header, length, left } if *left == 0 => {
                *length = (*length << 8) | u32::from(data[0]);
                *header += 1;
                if *header == 4 {
                    (*left, *header, *length) = (*length, 0, 0);
                }
                1
            }
            Self::Lengths { left, .. } => {
                let taken = data.len().min(*left as usize);
                *left -= u32::try_from(taken).unwrap_or(*left);
                taken
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_framings() {
        assert!(Events::of("application/json").is_some());
        assert!(Events::of("application/json;stream=watch").is_some());
        assert!(Events::of("application/vnd.kubernetes.protobuf;stream=watch").is_some());
        assert!(Events::of("application/jsonp").is_none());
        assert!(Events::of("text/plain").is_none());
    }

    proptest! {
        #![proptest_config(cattle_matrix::proptest_config(10_000))]

        /// However the bytes are cut into frames, all pass, and the last call stops at the end of an event.
        #[test]
        fn events_are_found_in_any_frames(events in prop::collection::vec("[a-z]{0,40}", 1..10), cut in 1_usize..17, protobuf in any::<bool>()) {
            let mut wire = Vec::new();
            let mut ends = vec![0];
            for event in &events {
                if protobuf {
                    wire.extend(u32::try_from(event.len()).unwrap().to_be_bytes());
                    wire.extend(event.as_bytes());
                } else {
                    wire.extend(event.as_bytes());
                    wire.push(b'\n');
                }
                ends.push(wire.len());
            }
            let kind = if protobuf { "application/vnd.kubernetes.protobuf" } else { "application/json" };
            let mut whole = Events::of(kind).unwrap();
            let mut position = 0;
            for frame in wire.chunks(cut) {
                let before = whole;
                prop_assert_eq!(&whole.pass(Bytes::copy_from_slice(frame), false)[..], frame);
                position += frame.len();
                prop_assert_eq!(whole.is_between(), ends.contains(&position));
                if !before.is_between() {
                    let mut closing = before;
                    let passed = closing.pass(Bytes::copy_from_slice(frame), true).len();
                    let end = ends.iter().find(|end| **end > position - frame.len()).copied().unwrap();
                    prop_assert_eq!(passed, frame.len().min(end - (position - frame.len())));
                }
            }
        }
    }

    #[test]
    fn any_bytes_pass_once_and_in_order() {
        let samples = [b"\0\0\0\x05hello\0\0\0\0\0\0\0\x01x".to_vec(), b"{\"type\":\"ADDED\"}\n{}\n".to_vec()];
        cattle_matrix::Decoder::new("watch events", samples).memory(4 << 20).hammer(|bytes| {
            let bytes = Bytes::copy_from_slice(bytes);
            let mut between = false;
            for kind in ["application/json", "application/vnd.kubernetes.protobuf"] {
                let mut events = Events::of(kind).unwrap();
                let mut closing = events;
                assert_eq!(events.pass(bytes.clone(), false), bytes);
                let whole = closing.pass(bytes.clone(), true);
                assert!(bytes.starts_with(&whole) && (closing.is_between() || whole.len() == bytes.len()));
                between = events.is_between();
            }
            between
        });
    }
}
