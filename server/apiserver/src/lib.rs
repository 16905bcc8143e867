//! The server's own Kubernetes-style API over the store.
