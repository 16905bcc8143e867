//! The server: composition root.
