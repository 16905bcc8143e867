//! What was acknowledged is there after a kill, a power cut and a failed fsync.
//!
//! A program of its own: it starts others, and while it does so, they hold its locks for a moment.

mod crash;
#[path = "../store/fixture.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
mod fixture;
mod power;
