//! Clients cannot tell the server from the cluster where pods are concerned: logs, exec, attach, run, cp, port-forward,
//! proxy, drain, rollout and wait give through the server what they give direct as the same identity, with a kubectl that
//! speaks WebSocket (1.34) and one that speaks SPDY (1.20). And many readers at once do not wait for one that does not read.
//!
//! All tests share one kubeadm cluster whose agents run as pods from the import manifest ([`rig`]). Nodes need root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]
#![allow(clippy::print_stdout, reason = "why it was skipped, and what was measured, is part of a test's output")]

#[path = "pods/attach.rs"]
mod attach;
#[path = "pods/copy.rs"]
mod copy;
#[path = "pods/exec.rs"]
mod exec;
#[path = "pods/forward.rs"]
mod forward;
#[path = "pods/logs.rs"]
mod logs;
#[path = "pods/object.rs"]
mod object;
#[path = "pods/readers.rs"]
mod readers;
#[path = "pods/rig.rs"]
mod rig;
#[path = "pods/session.rs"]
mod session;
#[path = "pods/terminal.rs"]
mod terminal;
#[path = "pods/workloads.rs"]
mod workloads;
