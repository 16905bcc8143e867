//! A decoder against inputs that it was not made for.

use std::fmt::Write as _;
use std::thread::panicking;

use fastrand::Rng;

use crate::matrix::Matrix;
use crate::mutation::mutate;

/// Inputs in the short tier, and in the long one.
const SHORT: usize = 10_000;
const LONG: usize = 200_000;
/// Inputs after which what a decoder keeps for ever (tables, caches of a library) is there.
const WARM: usize = 100;
/// Bytes that all inputs after that together may leave behind.
const LEFT: i64 = 64 * 1024;
/// Bytes of an input that are shown when it fails.
const SHOWN: usize = 4096;

/// What a decoder made of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is one.
    Accepted,
    /// It is none, and the error said so.
    Refused,
}

impl<T, E> From<Result<T, E>> for Verdict {
    fn from(result: Result<T, E>) -> Self {
        result.is_ok().into()
    }
}

impl<T> From<Option<T>> for Verdict {
    fn from(result: Option<T>) -> Self {
        result.is_some().into()
    }
}

impl From<bool> for Verdict {
    fn from(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }
}

/// A decoder, and what is known to be good for it.
///
/// It gets 10,000 mutations of the samples (200,000 in the long tier). None may make it panic or take more memory than it
/// may, together they may leave nothing behind, and some are accepted and some refused: else the mutations miss.
pub struct Decoder {
    name: &'static str,
    samples: Vec<Vec<u8>>,
    memory: u64,
    one_of: usize,
    repair: fn(&mut Rng, &mut Vec<u8>),
}

impl Decoder {
    /// A decoder whose tests are called `name`, and inputs that it accepts.
    #[must_use]
    pub fn new<S: Into<Vec<u8>>>(name: &'static str, samples: impl IntoIterator<Item = S>) -> Self {
        let samples = samples.into_iter().map(Into::into).collect();
        Self { name, samples, memory: 1 << 20, one_of: 1, repair: |_, _| {} }
    }

    /// Bytes that one input may take while it is read, beside itself; 1 MiB if nothing is said.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes as u64;
        self
    }

    /// Takes one of so many inputs only: each of them is dear.
    #[must_use]
    pub fn one_of(mut self, inputs: usize) -> Self {
        self.one_of = inputs.max(1);
        self
    }

    /// What makes a mutated input pass the first look (a length, a digest), so that what comes after it is tested too.
    #[must_use]
    pub fn repair(mut self, repair: fn(&mut Rng, &mut Vec<u8>)) -> Self {
        self.repair = repair;
        self
    }

    /// Runs them.
    ///
    /// # Panics
    /// When a rule is broken; the input is printed.
    pub fn hammer<V: Into<Verdict>>(self, mut decode: impl FnMut(&[u8]) -> V) {
        self.hammer_as(<[u8]>::to_vec, |input| decode(input));
    }

    /// The same for a decoder of text.
    ///
    /// # Panics
    /// As [`hammer`](Self::hammer).
    pub fn hammer_text<V: Into<Verdict>>(self, mut decode: impl FnMut(&str) -> V) {
        self.hammer_as(|bytes| String::from_utf8_lossy(bytes).into_owned(), |text| decode(text));
    }

    /// The same for a decoder that is given something made of the bytes, which is not counted.
    ///
    /// # Panics
    /// As [`hammer`](Self::hammer).
    pub fn hammer_as<I, V: Into<Verdict>>(self, make: impl Fn(&[u8]) -> I, mut decode: impl FnMut(&I) -> V) {
        let matrix = Matrix::of_this_run(self.name);
        let (mut accepted, mut refused, mut left) = (0, 0, 0);
        let inputs = matrix.pick(LONG, SHORT) / self.one_of;
        for number in 0..inputs {
            let mut random = matrix.random_at(number);
            let mut bytes = mutate(&mut random, &self.samples);
            (self.repair)(&mut random, &mut bytes);
            let input = make(&bytes);
            let shown = Shown(&bytes);
            let mut verdict = Verdict::Refused;
            let taken = allocation_counter::measure(|| verdict = decode(&input).into());
            assert!(taken.bytes_max <= self.memory, "{} bytes for an input of {}", taken.bytes_max, bytes.len());
            drop(shown);
            match verdict {
                Verdict::Accepted => accepted += 1,
                Verdict::Refused => refused += 1,
            }
            if number >= WARM {
                left += taken.bytes_current;
            }
        }
        assert!(left <= LEFT, "{left} bytes are left of {inputs} inputs");
        assert!(accepted > 0 && refused > inputs / 20, "{accepted} accepted, {refused} refused: the mutations miss");
    }
}

/// Prints its input if the test fails while it is alive.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    #[expect(clippy::print_stdout, reason = "a test shows its output when it fails")]
    fn drop(&mut self) {
        if panicking() {
            let mut hex = String::new();
            for byte in &self.0[..self.0.len().min(SHOWN)] {
                let _ = write!(hex, "{byte:02x}");
            }
            println!("input of {} bytes: {:?}\nin hex: {hex}", self.0.len(), String::from_utf8_lossy(self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// What the hammer says of a decoder of texts that begin with a digit.
    fn hammer(mut decode: impl FnMut(&str)) -> Result<(), String> {
        let decoder = Decoder::new("test", ["1abc", "2def"]);
        let run = || {
            decoder.hammer_text(|text| {
                decode(text);
                text.starts_with(|first: char| first.is_ascii_digit())
            });
        };
        let panic = |panic: Box<dyn std::any::Any + Send>| panic.downcast_ref::<String>().cloned().unwrap_or_default();
        catch_unwind(AssertUnwindSafe(run)).map_err(panic)
    }

    #[test]
    fn a_good_decoder_passes() {
        assert_eq!(hammer(|_| {}), Ok(()));
    }

    #[test]
    fn a_panic_is_found() {
        assert!(hammer(|text| assert!(!text.contains("bb"), "fell over {}", text.len())).is_err());
    }

    #[test]
    fn memory_for_one_input_is_found() {
        let found = hammer(|text| drop(vec![0_u8; if text.len() > 100 { 2 << 20 } else { 0 }]));
        assert!(found.clone().is_err_and(|found| found.contains("2097152 bytes for an input of")), "{found:?}");
    }

    #[test]
    fn memory_that_stays_is_found() {
        // At its full size from the start, so that what one input takes is its own.
        let mut kept = Vec::with_capacity(LONG);
        let found = hammer(|text| kept.push(text.to_owned()));
        assert!(found.clone().is_err_and(|found| found.contains("bytes are left of")), "{found:?}");
    }

    #[test]
    fn mutations_that_miss_are_found() {
        let all = || Decoder::new("test", ["a"]).hammer(|_| Verdict::Accepted);
        assert!(catch_unwind(all).is_err());
        let none = || Decoder::new("test", ["a"]).hammer(|_| Verdict::Refused);
        assert!(catch_unwind(none).is_err());
    }
}
