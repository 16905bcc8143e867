//! The store as its users see it, and what becomes of it when things go wrong.
#![expect(clippy::print_stdout, reason = "a test that is skipped says why")]

mod directory;
mod disk_full;
mod fixture;
mod history;
mod objects;
