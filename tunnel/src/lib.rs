//! One authenticated session: WebSocket and yamux, at both ends.
