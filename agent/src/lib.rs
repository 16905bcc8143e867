//! Being connected: dial, back off, supervise.
