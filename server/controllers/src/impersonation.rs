//! Impersonators: for each user who may enter a cluster, one account there that may speak for exactly that user.
//!
//! A user's requests reach the API server with the token of `cattle-impersonation-<user>`, which may do one thing:
//! impersonate that user, that user's groups and extras. If an identity header were ever lost on the way, the request could
//! do nothing. Four objects make it up, named and labelled as Rancher's documentation has them:
//!
//! | object | name | owned by |
//! |---|---|---|
//! | ClusterRole | `cattle-impersonation-<user>` | |
//! | ServiceAccount in `cattle-impersonation-system` | the same | the ClusterRole |
//! | ClusterRoleBinding | the same | the ClusterRole |
//! | Secret in `cattle-impersonation-system` | `cattle-impersonation-<user>-token-<hash>` | the ServiceAccount |
//!
//! [`decide`] compares what should be with what is and names the next step; it is called again until nothing is left to do.
//! Owner references let Kubernetes remove the rest when somebody deletes a part by hand; the removal does not rely on them.
//!
//! The Secret's name is random. A token of this kind is a function of its names, so one that was deleted because it leaked
//! must not come back under the same name.

mod decide;
mod desk;
mod objects;
mod reconcile;

pub use decide::{Conflict, Next, Observed, Step, decide};
pub use desk::{CACHE_LAG, Granted, ImpersonationError, Impersonators, WAIT};
pub use objects::{Impersonator, object_name, secret_prefix};

pub(crate) use desk::Desk;
pub(crate) use objects::user_of;
pub(crate) use reconcile::{Downstream, ReconcileError, Settled, observed_in, user_of_secret, users_in};
