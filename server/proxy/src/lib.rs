//! The users' authentication proxy.
