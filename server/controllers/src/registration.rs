//! Binding a Cluster record to a cluster, once.
//!
//! An agent presents a registration token and a claim: UID of `kube-system`, CA, server name. The server believes none of
//! it. It opens a stream through that very session, verifies TLS against the claimed CA and name, and asks the API server
//! itself for the UID, the token issuer and its keys; then it verifies the agent's own projected token with those keys. Who
//! can pass that speaks for a cluster with that CA. [`decide`] says what follows for the record:
//!
//! | record | UID, CA | then |
//! |---|---|---|
//! | unbound | any | bind |
//! | bound | both match, the token was made since | replace name, issuer, keys and credential |
//! | bound | both match, and so do name and keys | change nothing: another replica, or a retry |
//! | bound | both match, name or keys do not | refuse: `RegistrationTokenSpent` |
//! | bound | UID matches, CA differs, and the spec names the new CA | rebind, once |
//! | bound | UID matches, CA differs | refuse: `CertificateAuthorityChanged` |
//! | bound | UID differs | refuse: `IdentityMismatch` |
//!
//! A refusal is written into the record, so that `cattle cluster status` can name it.

mod complete;
mod decide;
mod token;

pub use complete::{Attempt, Bound, RegistrationError, Registrations, Trust};
pub use decide::{CaFingerprint, Claim, Decision, Token, decide};
pub use token::{TokenMatch, TokenRefused};
