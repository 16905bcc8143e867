//! A store for tests.
