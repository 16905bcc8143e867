//! Long matrices of tests, in two tiers.
//!
//! A *matrix* is a test over many points: moments of a kill, cuts of power, mutations of a frame, sizes of a load. In the
//! short tier (`make test`) it runs a seeded slice, in the long tier (`CATTLE_LONG=1`, `make test-long`) all of it.
//!
//! ```
//! let matrix = cattle_matrix::Matrix::of_this_run("power cuts");
//! for point in matrix.slice(200, 40) {
//!     let mut random = matrix.random_at(point);
//!     // The same point has the same numbers in either tier.
//!     let _moment = random.usize(..1000);
//! }
//! ```
//!
//! The seed moves with each commit, so that the slices of many commits together are the matrix. A test prints its seed;
//! `CATTLE_SEED` with that value runs the same slice again.
//!
//! [`Decoder`] is the matrix of everything that reads bytes of strangers: mutations of good inputs, each of which has to be
//! accepted or refused within a bound of memory. Linking this crate counts what the test allocates.

mod decoder;
mod matrix;
mod mutation;
mod seed;
mod tier;

pub use decoder::{Decoder, Verdict};
pub use matrix::{Matrix, proptest_config};
pub use seed::{InvalidSeed, Seed};
pub use tier::Tier;
