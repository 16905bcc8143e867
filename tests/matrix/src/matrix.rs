//! One matrix, as far as this run goes through it.

use fastrand::Rng;
use proptest::test_runner::{Config, RngSeed};

use crate::seed::Seed;
use crate::tier::Tier;

/// One long test: which of its points this run is for, and their random numbers.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    name: &'static str,
    tier: Tier,
    seed: Seed,
}

impl Matrix {
    /// The matrix of this name, in this run's tier and with its seed. Prints how to run the same again.
    #[must_use]
    pub fn of_this_run(name: &'static str) -> Self {
        let matrix = Self { name, tier: Tier::of_this_run(), seed: Seed::of_this_run() };
        matrix.announce();
        matrix
    }

    /// Points of `0..all`, ascending: all of them in the long tier, else `short`, spread evenly with a seeded one from each
    /// part.
    #[must_use]
    pub fn slice(&self, all: usize, short: usize) -> Vec<usize> {
        let parts = self.tier.pick(all, short.min(all));
        let mut random = self.random();
        let part = |at: usize| at * all / parts;
        (0..parts).map(|at| random.usize(part(at)..part(at + 1))).collect()
    }

    /// The one of two values that belongs to the tier.
    #[must_use]
    pub fn pick<T>(&self, long: T, short: T) -> T {
        self.tier.pick(long, short)
    }

    /// Random numbers for the whole matrix.
    #[must_use]
    pub fn random(&self) -> Rng {
        Rng::with_seed(self.seed.of(self.name, u64::MAX))
    }

    /// Random numbers for one point, the same whichever other points are run.
    #[must_use]
    pub fn random_at(&self, point: usize) -> Rng {
        Rng::with_seed(self.seed.of(self.name, point as u64))
    }

    #[expect(clippy::print_stdout, reason = "a test shows its output when it fails, and this is how to repeat it")]
    fn announce(&self) {
        let Self { name, tier, seed } = self;
        let (long, seeded) = (Tier::VARIABLE, Seed::VARIABLE);
        match tier {
            Tier::Short => println!("{name}: a slice; {seeded}={seed} runs the same again, {long}=1 all of it"),
            Tier::Long => println!("{name}: all of it; {long}=1 {seeded}={seed} runs the same again"),
        }
    }
}

/// The configuration of a property test: `cases` in the short tier and ten times as many in the long one, from the run's
/// seed.
#[must_use]
pub fn proptest_config(cases: u32) -> Config {
    let cases = Tier::of_this_run().pick(cases.saturating_mul(10), cases);
    let rng_seed = RngSeed::Fixed(Seed::of_this_run().of("proptest", 0));
    Config { cases, rng_seed, failure_persistence: None, ..Config::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(tier: Tier, seed: &str) -> Matrix {
        Matrix { name: "test", tier, seed: seed.parse().unwrap() }
    }

    #[test]
    fn the_long_tier_is_everything() {
        assert_eq!(matrix(Tier::Long, "1").slice(200, 5), (0..200).collect::<Vec<_>>());
        assert_eq!(matrix(Tier::Short, "1").slice(3, 5), [0, 1, 2]);
        assert!(matrix(Tier::Long, "1").slice(0, 0).is_empty() && matrix(Tier::Short, "1").slice(9, 0).is_empty());
    }

    #[test]
    fn a_slice_has_a_point_of_each_part_and_moves_with_the_seed() {
        let slice = matrix(Tier::Short, "1").slice(200, 40);
        assert_eq!(slice.iter().map(|point| point / 5).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
        assert_eq!(slice, matrix(Tier::Short, "1").slice(200, 40));
        assert_ne!(slice, matrix(Tier::Short, "2").slice(200, 40));
    }

    #[test]
    fn slices_of_many_seeds_are_the_matrix() {
        let mut seen = [false; 200];
        for seed in 0..200 {
            for point in matrix(Tier::Short, &format!("{seed:x}")).slice(200, 10) {
                seen[point] = true;
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn a_point_is_the_same_in_both_tiers() {
        let (long, short) = (matrix(Tier::Long, "1"), matrix(Tier::Short, "1"));
        assert_eq!(long.random_at(7).u64(..), short.random_at(7).u64(..));
        assert_ne!(long.random_at(7).u64(..), long.random_at(8).u64(..));
    }
}
