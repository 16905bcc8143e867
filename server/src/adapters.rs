//! Where the parts meet: each file implements a trait that one part owns over another part that it does not know.
//!
//! | file | trait of | over |
//! |---|---|---|
//! | [`agents`] | the gateway: whether an agent is believed | registrations, the store, token verification |
//! | [`credentials`] | the gateway: what agents send; the controllers: asking for it | each other |
//! | [`dialer`] | the proxy: streams to API servers | the gateway |
//! | [`downstream`] | the controllers: clients and probes | the proxy's connections |
//! | [`directory`] | the proxy: which clusters exist, who may enter | the store, [`cattle_auth::Access`] |
//! | [`impersonators`] | the proxy: tokens to act with | the controllers |
//! | [`rebinding`] | (of the first and the fourth) | the store: which clusters have to register again |
//! | [`audit`] | the server's API: the record before a change | the audit log |
//! | [`computed`], [`agent_sessions`] | the server's API: fields computed on read | the controllers, the gateway |
//! | [`hosts`] | (of the second) | the controllers: what node agents say |

pub mod agent_sessions;
pub mod agents;
pub mod audit;
pub mod computed;
pub mod credentials;
pub mod dialer;
pub mod directory;
pub mod downstream;
pub mod hosts;
pub mod impersonators;
pub mod rebinding;
pub mod session_probes;
