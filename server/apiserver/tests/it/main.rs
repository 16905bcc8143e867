//! The API over a real store, by requests as clients send them.

mod authorization;
mod errors;
mod kubectl;
mod objects;
mod secrets;
mod shapes;
mod support;
mod watches;
