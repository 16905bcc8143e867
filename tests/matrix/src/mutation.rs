//! Inputs that are nearly right.

use fastrand::Rng;

/// Bytes where encodings change their meaning: bounds of bincode's and others' variable-length integers, text and JSON.
const EDGES: &[u8] = &[
    0, 1, 0x0a, 0x0d, 0x1b, 0x20, 0x22, 0x2c, 0x2e, 0x2f, 0x3a, 0x5b, 0x5c, 0x7b, 0x7f, 0x80, 250, 251, 252, 253, 254,
    255,
];
/// Longest noise, in bytes.
const NOISE: usize = 200;
/// Most copies of a piece that stand in a row.
const COPIES: usize = 2000;
/// Largest input, in bytes: above every limit but those of whole requests.
const LARGEST: usize = 1 << 20;

/// A sample with some mistakes, or noise.
pub(crate) fn mutate(random: &mut Rng, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut input = if samples.is_empty() || random.u8(..10) == 0 {
        (0..random.usize(..NOISE)).map(|_| random.u8(..)).collect()
    } else {
        samples[random.usize(..samples.len())].clone()
    };
    for _ in 0..=random.usize(..4) {
        mistake(random, &mut input, samples);
    }
    input.truncate(LARGEST);
    input
}

fn mistake(random: &mut Rng, input: &mut Vec<u8>, samples: &[Vec<u8>]) {
    let at = random.usize(..=input.len());
    let there = at < input.len();
    match random.u8(..10) {
        0 if there => input[at] ^= 1 << random.u8(..8),
        1 if there => input[at] = EDGES[random.usize(..EDGES.len())],
        2 => input.truncate(at),
        3 => input.insert(at, random.u8(..)),
        4 if there => drop(input.remove(at)),
        5 if !samples.is_empty() => {
            let other = &samples[random.usize(..samples.len())];
            input.extend_from_slice(&other[random.usize(..=other.len())..]);
        }
        6 if there => drop(input.drain(at..random.usize(at..input.len()))),
        7 if there => {
            let piece = input[at..random.usize(at..input.len())].to_vec();
            input.splice(at..at, piece);
        }
        // What a few bytes can blow up, if anything: the same piece very often.
        8 if there && random.u8(..20) == 0 => {
            let piece = input[at..(at + random.usize(1..9)).min(input.len())].to_vec();
            input.splice(at..at, piece.repeat(random.usize(..COPIES)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_are_many_different_inputs_and_near_the_samples() {
        let samples = [b"{\"kind\":\"User\"}".to_vec(), b"abc".to_vec()];
        let mut random = Rng::with_seed(1);
        let inputs: Vec<_> = (0..2000).map(|_| mutate(&mut random, &samples)).collect();
        let different: std::collections::BTreeSet<_> = inputs.iter().collect();
        assert!(different.len() > 1000, "{}", different.len());
        let near = inputs.iter().filter(|input| input.windows(3).any(|part| part == b"abc" || part == b"kin")).count();
        assert!(near > 1000, "{near}");
        assert!(inputs.iter().any(|input| input.len() > 1000) && inputs.iter().all(|input| input.len() <= LARGEST));
    }

    #[test]
    fn without_samples_there_is_noise() {
        let mut random = Rng::with_seed(1);
        assert!((0..100).any(|_| mutate(&mut random, &[]).len() > 50));
    }
}
