//! The server end of all sessions.
