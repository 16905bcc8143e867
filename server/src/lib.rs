//! The server: composition root.
//!
//! | module | what it does |
//! |---|---|
//! | [`args`], [`config`] | command line, environment and file become one validated [`config::Config`] |
//! | [`installation`], [`certificates`] | what the first start makes and every start takes up again |
//! | [`app`] | makes every part, binds every socket, hands them to the process's tasks; the order of stopping |
//! | [`drain`] | how long what runs may go on when its end has come |
//! | [`listen`], [`router`] | the one public listener, and which part answers which path |
//! | [`import`], [`sign_in`] | the import manifest; the record of attempts to sign in |
//! | [`adapters`] | where the parts meet |
//! | [`reroute`] | keeps warm connections on routes that are there to stay |
//! | [`revocation`] | ends what runs when the right to run it is gone |
//! | [`command`] | serve, back up, restore, reset the administrator |

pub mod adapters;
pub mod app;
pub mod args;
pub mod certificates;
pub mod command;
pub mod config;
pub mod drain;
pub mod import;
pub mod installation;
pub mod listen;
pub mod reroute;
pub mod revocation;
pub mod router;
pub mod server_url;
pub mod sign_in;
pub mod status;
