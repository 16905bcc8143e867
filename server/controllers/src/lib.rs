//! One controller per cluster.
