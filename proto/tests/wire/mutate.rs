//! 10,000 inputs per decoder: the golden messages mutated, and noise. A decoder never panics, never reads more than it was
//! given, and what it accepts is a message that survives the way back.

use cattle_proto::codec::{self, Message, PREFIX};

use crate::samples::{self, Named};

const INPUTS: usize = 10_000;

#[test]
fn hello() {
    hammer(samples::hellos());
}

#[test]
fn hello_reply() {
    hammer(samples::hello_replies());
}

#[test]
fn stream_header() {
    hammer(samples::stream_headers());
}

#[test]
fn open_reply() {
    hammer(samples::open_replies());
}

#[test]
fn agent_message() {
    hammer(samples::agent_messages());
}

#[test]
fn server_message() {
    hammer(samples::server_messages());
}

fn hammer<M: Message + PartialEq>(seeds: Named<M>) {
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|(_, message)| codec::encode_frame(message).unwrap()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..INPUTS {
        let input = random.mutate(&seeds);
        match codec::decode_frame::<M>(&input) {
            Ok(None) => assert!(input.len() < PREFIX || input.len() - PREFIX < M::LIMIT),
            Err(_) => refused += 1,
            Ok(Some((message, used))) => {
                accepted += 1;
                assert!(used <= input.len());
                let body = codec::encode(&message).unwrap();
                assert!(codec::decode::<M>(&body).unwrap() == message);
            }
        }
    }
    assert!(accepted > 0 && refused > INPUTS / 20, "{accepted} accepted, {refused} refused: the mutations miss");
}

/// xorshift64*: the same inputs in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        if self.below(10) == 0 {
            input = (0..self.below(200)).map(|_| self.byte()).collect();
        }
        for _ in 0..=self.below(4) {
            let at = self.below(input.len());
            match self.below(7) {
                0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
                1 if !input.is_empty() => input[at] = [0, 1, 250, 251, 252, 253, 254, 255][self.below(8)],
                2 => input.truncate(at),
                3 => input.insert(at, self.byte()),
                4 if !input.is_empty() => drop(input.remove(at)),
                5 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len());
                    input.extend_from_slice(&other[from..]);
                }
                _ => {}
            }
        }
        // Most inputs get past the length, else only that would be tested.
        if self.below(4) > 0 && input.len() >= PREFIX {
            let length = u32::try_from(input.len() - PREFIX).unwrap();
            input[..PREFIX].copy_from_slice(&length.to_be_bytes());
        }
        input
    }
}
