//! Removing everything of ours from a cluster that is being deleted.
//!
//! The order takes rights away first and the way in last: members' and impersonators' bindings, then roles, then the
//! impersonation namespace, then what the manifest made for the agent, then `cattle-system` with the agent itself, and the
//! server's own rights at the very end.
//!
//! The end needs care, since nobody can remove the rights that they are removing with. The server's ClusterRole and
//! ClusterRoleBinding are handed over to Namespace `cattle-system` as its dependents, then the namespace is deleted. Kubernetes
//! itself goes on from there: the agents' pods go, the link ends, and when the namespace is gone so are the server's rights.
//!
//! Each step looks anew at what is left, so a restart or a lost link costs nothing.

mod decide;
mod run;

pub use decide::{Leftovers, Progress, Removal, decide};

pub(crate) use run::{finish, remove_downstream, sweep};
