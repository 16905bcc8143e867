//! The store as its users see it, and what becomes of it when things go wrong.

mod common;
mod history;
mod objects;
