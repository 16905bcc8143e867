//! The system's randomness.

use aws_lc_rs::rand;
use cattle_proto::id::InstanceId;

/// A number of `0.0..1.0`. Without randomness, which cannot happen once TLS works, 1.0: the longest wait.
pub(crate) fn fraction() -> f64 {
    const BITS: u32 = 53;
    let mut bytes = [0; 8];
    match rand::fill(&mut bytes) {
        Ok(()) => (u64::from_le_bytes(bytes) >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64,
        Err(_) => 1.0,
    }
}

/// A new id for this process.
pub(crate) fn instance() -> InstanceId {
    let mut bytes = [0; 16];
    // Only an id for logs and replacement: if the system had no randomness, the TLS handshake would fail anyway.
    let _ = rand::fill(&mut bytes);
    InstanceId::new(bytes)
}
