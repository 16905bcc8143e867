//! The wire between agents and the server.
