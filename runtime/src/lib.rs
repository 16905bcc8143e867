//! What every process needs: logs, signals, readiness, owned tasks, the admin listener.
