//! What the head of a request tells the audit log.

use std::net::IpAddr;

use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};

use crate::{Actor, AuditId, Event, RequestInfo};

/// Kept while the request itself goes on; costs next to nothing as long as nothing has to be written.
#[derive(Clone, Debug)]
pub struct Asked {
    method: Method,
    uri: Uri,
    user_agent: Option<HeaderValue>,
    address: Option<IpAddr>,
}

impl Asked {
    /// Of this request, which came from this address.
    #[must_use]
    pub fn of<B>(request: &Request<B>, address: Option<IpAddr>) -> Self {
        let user_agent = request.headers().get(USER_AGENT).cloned();
        Self { method: request.method().clone(), uri: request.uri().clone(), user_agent, address }
    }

    /// Path and query, as they came.
    #[must_use]
    pub fn target(&self) -> &str {
        self.uri.path_and_query().map_or("", |target| target.as_str())
    }

    /// What is asked of an API server under this path and query.
    #[must_use]
    pub fn info(&self, path: &str, query: Option<&str>) -> RequestInfo {
        RequestInfo::parse(self.method.as_str(), path, query)
    }

    /// What is asked of the server itself.
    #[must_use]
    pub fn own_info(&self) -> RequestInfo {
        self.info(self.uri.path(), self.uri.query())
    }

    /// The event of the request's arrival.
    #[must_use]
    pub fn event(&self, id: AuditId, actor: Actor, info: &RequestInfo) -> Event {
        let mut event = Event::request(id, actor, info, self.target());
        if let Some(address) = self.address {
            event = event.from_address(address);
        }
        if let Some(agent) = &self.user_agent {
            event = event.user_agent(&String::from_utf8_lossy(agent.as_bytes()));
        }
        event
    }
}
