//! The cluster agent.
