//! The users' authentication proxy: `/k8s/clusters/<id>/…` is a cluster's own API, reached through the tunnel, as the user.
//!
//! # Threat model
//!
//! The proxy holds, for every cluster, credentials that may impersonate its users. Whoever makes it say another name to an API
//! server is that other user. Attackers considered:
//!
//! - **A signed-in user** who wants to be somebody else, or in a cluster that they may not enter. They control every byte of
//!   their requests: identity headers in any spelling, names in `Connection`, framing, paths that two parsers read
//!   differently, upgrades that are not answered with `101`.
//! - **A hostile cluster**: it controls every byte of its answers, and wants to reach another cluster, the server, or the
//!   user's browser. It is never asked who somebody is.
//! - **An agent and its node**: they see ciphertext. TLS ends here and at the API server.
//!
//! Impersonation fails open: an API server that does not see the header acts for the account whose token came along. So the account
//! is not the server's: each user has an impersonator per cluster that may impersonate that one user and do nothing
//! else ([`Impersonators`]). Losing the header loses all rights.
//!
//! # The walk of a request
//!
//! The order is fixed, stands in one function (`service`), and each step is a module:
//!
//! | step | module | refused with |
//! |---|---|---|
//! | read the target: one cluster, nothing rewritten | `path` | 400, 404, 414 |
//! | (authenticate: the caller hands over a `UserInfo`, which only the authenticator makes) | | |
//! | register, so that a revocation finds it | `streams` | |
//! | may this user enter; unknown and forbidden are one answer | [`ClusterDirectory`] | 404 |
//! | permits | `limits` | 429 |
//! | read the head: strip what `Connection` names, refuse `Impersonate-*`, strip every identity and credential | `headers` | 400, 403 |
//! | our identity, from the `UserInfo` only | `impersonate` | 500 |
//! | audit changes, sessions and requests to switch protocols before they happen | `cattle_audit` | 503 |
//! | the impersonator's token | [`Impersonators`] | 503, 504 |
//! | our head: token, identity, our own `Connection`; checked to carry exactly one identity | `service` | 500 |
//! | a connection of this cluster and CA generation | `upstream` | 502, 503, 504 |
//! | refusals that are meant for the impersonator are not shown | `attempt`, `grace` | 503 |
//! | a hardened answer, streamed | `response`, `body` | 502 |
//! | or, after a `101` from the API server, bytes both ways | `upgrade` | 502 |
//!
//! Every failure is a `metav1.Status` made in one place (`error`) that names the hop that failed.
//!
//! # Life of a request
//!
//! Nothing is buffered: a frame is asked for when the one before has left, so a slow client holds back its own connection to the
//! API server and nothing else. A client that goes away drops the answer's body, which closes that connection. Access that ends
//! ([`Streams::close`], or the token's own expiry) ends a watch between two events and cuts everything else. A server that stops
//! ([`Streams::drain`]) ends watches in the same way, since they would never end by themselves and their clients watch again,
//! and waits for the rest.
//!
//! # What the listener must do
//!
//! Hand over the URI as it was received; put a [`ClientAddress`], and an [`Epoch`] that was taken before authentication,
//! into the request's extensions; serve HTTP/1.1 with upgrades
//! enabled and both protocols with bounded write buffers, which are what one stalled client costs.

mod attempt;
mod body;
mod directory;
mod error;
mod event;
mod grace;
mod headers;
mod impersonate;
mod limits;
mod metrics;
mod path;
mod request_body;
mod response;
mod running;
mod service;
mod streams;
mod timing;
mod upgrade;
mod upstream;
mod upstreams;

pub use body::{ProxyBody, ProxyBodyError};
pub use directory::{
    ApiServer, ClusterDialer, ClusterDirectory, Diagnosis, DialError, ImpersonatorError, Impersonators, Io, Refused,
};
pub use impersonate::{ImpersonationRefused, refuse_impersonation};
pub use limits::Limits;
pub use metrics::Metrics;
pub use path::{PathError, Route};
pub use running::ClientAddress;
pub use service::{Dependencies, Proxy};
pub use streams::{Epoch, Selector, Streams};
pub use upstream::{ApiServerError, Hop, Upstream, UpstreamBody, UpstreamError};
