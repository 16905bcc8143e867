//! Who somebody is and what they may do.
//!
//! # The way of a request
//!
//! ```text
//! headers ── Authenticator ──► UserInfo ──┬── Access::authorize ──► Decision      (the server's own API)
//!            (token, user)                └── Access::may_enter ──► yes or no     (a cluster's API)
//!                                              Revocations::ended ──► when a stream that runs must end
//! ```
//!
//! - [`Authenticator`] is the only maker of a [`UserInfo`]. It reads the store; what it remembers is void as soon as the
//!   store changes, so a deleted token is refused by the next request.
//! - [`Access`] answers from memory. [`AccessWatcher`] feeds it from the store's watches; before the first complete list,
//!   and whenever a watch breaks, the answer is no.
//! - [`Revocations`] ends what runs: each stream waits for [`Revocations::ended`] beside its work.
//! - [`Login`] makes and ends tokens for people with passwords; [`routes()`] is its HTTP side.
//! - [`bootstrap`] makes the first administrator.
//!
//! # What is kept of secrets
//!
//! Of a token an HMAC with the token's name and cluster inside ([`TokenSecret`]); of a password an argon2id hash
//! ([`Passwords`]); both sealed beside their objects by the store, in no object. A refusal never says which part of a
//! credential was wrong.

mod access;
mod authenticate;
pub mod bootstrap;
mod credential;
mod issue;
pub mod login;
mod password;
mod revocation;
mod routes;
mod settings;
pub mod throttle;
mod token;
mod user;

pub use access::watcher::AccessWatcher;
pub use access::{Access, AccessIndex, Attributes, Decision, Denied, Kind, ObjectRef, Roles, fold_username};
pub use authenticate::{AuthenticateError, Authenticator};
pub use credential::{Credential, CredentialError};
pub use issue::{IssuedToken, NegativeTtl, TokenKind, TokenRequest, issue, lifetime, lifetime_by_settings};
pub use login::Login;
pub use password::{Busy, NewPassword, PasswordRejected, PasswordRules, Passwords, Verdict};
pub use revocation::{Revocations, Revoked};
pub use routes::routes;
pub use throttle::Source;
pub use token::TokenSecret;
pub use user::{
    EXTRA_PRINCIPAL_ID, EXTRA_USERNAME, GROUP_AUTHENTICATED, GROUP_CATTLE_AUTHENTICATED, TokenName, UserInfo,
};
