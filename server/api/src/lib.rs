//! The kinds of the server's API.
