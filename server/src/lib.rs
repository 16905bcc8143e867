//! The server: composition root.
//!
//! | module | what it does |
//! |---|---|
//! | [`args`], [`config`] | command line, environment and file become one validated [`config::Config`] |
//! | [`certificates`] | the server's own authority and leaf, or the user's files; renewed while serving |
//! | [`installation`] | what the first start makes and every start takes up again |
//! | [`listen`] | the one public listener: TLS off the accept loop, HTTP/1.1 and HTTP/2 |
//! | [`server_url`] | the address that agents and users reach |

pub mod args;
pub mod certificates;
pub mod config;
pub mod installation;
pub mod listen;
pub mod server_url;
