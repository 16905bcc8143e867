//! The life of a `cattle-server` process: how it starts, what strangers can do to it, how it stops.

#[path = "server_life/starting.rs"]
mod starting;
#[path = "server_life/stopping.rs"]
mod stopping;
#[path = "server_life/strangers.rs"]
mod strangers;
