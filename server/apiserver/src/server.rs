//! [`ApiServer`]: from a request and who makes it to a response.

mod hooks;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use cattle_api::resource::{self, Verb};
use cattle_auth::{Attributes, Decision, ObjectRef, UserInfo};
use cattle_store::Store;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

pub use self::hooks::{Decorate, Hooks, Recomputed};
use crate::accept::{self, Accepted};
use crate::audit::ClientAddress;
use crate::authorize::refusal;
use crate::body;
use crate::discovery::Discovery;
use crate::openapi::OpenApi;
use crate::path::{self, Path, ResourcePath};
use crate::query::Query;
use crate::respond;
use crate::review::{self, protobuf};
use crate::served::Served;
use crate::status::StatusError;
use crate::strategy::{Admission, text};
use crate::verb;

/// Requests that change something and are served at the same time; Kubernetes' default.
const MUTATING_MAX: usize = 200;
/// Other requests that are served at the same time; watches count only until they start.
const READING_MAX: usize = 400;
/// Watches that run at the same time.
const WATCHES_MAX: usize = 2000;
/// Longest time a request that is not a watch may take, its body included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// The server's own Kubernetes API. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hooks: Hooks,
    kinds: Vec<Arc<Served>>,
    discovery: Discovery,
    openapi: OpenApi,
    mutating: Semaphore,
    reading: Semaphore,
    pub(crate) watches: Arc<Semaphore>,
    /// One permit: creates of kinds that are unique by more than their name take turns.
    pub(crate) unique: Semaphore,
}

/// One request to a resource, as far as it is understood before its body is read.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) server: Arc<Inner>,
    pub(crate) user: UserInfo,
    pub(crate) served: Arc<Served>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<&'static str>,
    pub(crate) query: Query,
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) headers: HeaderMap,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) now: Timestamp,
}

/// Whether each object has to be looked at before it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    All,
    Visible,
}

impl ApiServer {
    /// Serves every kind of [`cattle_api::resource::ALL`] from `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, hooks: Hooks) -> Self {
        let kinds: Vec<Arc<Served>> = resource::ALL.iter().map(|kind| Arc::new(Served::new(kind))).collect();
        Self(Arc::new(Inner {
            store,
            discovery: Discovery::new(resource::ALL, &hooks.version),
            openapi: OpenApi::new(&kinds, &hooks.version),
            hooks,
            kinds,
            mutating: Semaphore::new(MUTATING_MAX),
            reading: Semaphore::new(READING_MAX),
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            unique: Semaphore::new(1),
        }))
    }

    /// Whether a request to this path is for this API.
    #[must_use]
    pub fn routes(path: &str) -> bool {
        path::owns(path)
    }

    /// Answers a request of an authenticated user. Never fails: what goes wrong is a `Status`.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request; a change that reached the store is made all the same.
    pub async fn serve(&self, request: Request<Body>, user: UserInfo) -> Response<Body> {
        let id = uuid::Uuid::new_v4().to_string();
        let span = tracing::info_span!("api", audit_id = %id, method = %request.method(), user = user.name());
        let mut response = self.answer(request, user, &id).instrument(span).await;
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("audit-id", id);
        }
        response.headers_mut().entry("cache-control").or_insert(HeaderValue::from_static("no-cache, private"));
        response
    }

    async fn answer(&self, request: Request<Body>, user: UserInfo, id: &str) -> Response<Body> {
        let head = request.method() == Method::HEAD;
        let response = match self.dispatch(request, user, id).await {
            Ok(response) => response,
            Err(error) => {
                if let Some(internal) = error.internal_message() {
                    tracing::warn!(error = internal, "a request could not be completed");
                }
                respond::failure(&error)
            }
        };
        if head { response.map(|_| Body::empty()) } else { response }
    }

    async fn dispatch(&self, request: Request<Body>, user: UserInfo, id: &str) -> Result<Response<Body>, StatusError> {
        let (parts, body) = request.into_parts();
        let path = Path::parse(parts.uri.path()).ok_or_else(StatusError::no_such_resource)?;
        let header = parts.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
        let accepted = accept::parse(header)?;
        let query = Query::parse(parts.uri.query())?;
        let Path::Resource(resource) = path else {
            return self.document(&path, &parts.method, &accepted, &query, &parts.headers);
        };
        if review::is_review(&resource) {
            return self.review(&resource, &parts.method, &parts.headers, body, &user).await;
        }
        let call = self.call(resource, user, id, query, accepted, &parts)?;
        self.verb(call, &parts.method, body).await
    }

    /// Documents about the API itself, which every signed-in user may read.
    fn document(
        &self,
        path: &Path,
        method: &Method,
        accepted: &[Accepted],
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, StatusError> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(StatusError::method_not_allowed());
        }
        match path {
            Path::OpenApiV2 => self.0.openapi.v2(accepted, headers),
            Path::OpenApiV3 => Ok(self.0.openapi.index()),
            Path::OpenApiV3Document(name) => self.0.openapi.document(name, query, headers),
            Path::LegacyVersions
            | Path::Groups
            | Path::Group(_)
            | Path::Version(_)
            | Path::Resource(_)
            | Path::ServerVersion => self.0.discovery.answer(path, accepted),
        }
    }

    async fn review(
        &self,
        path: &ResourcePath,
        method: &Method,
        headers: &HeaderMap,
        body: Body,
        user: &UserInfo,
    ) -> Result<Response<Body>, StatusError> {
        if *method != Method::POST {
            return Err(StatusError::method_not_allowed());
        }
        let bytes = body::read(headers, body).await?;
        let content_type = headers.get(http::header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let asked = if content_type == Some(protobuf::MEDIA_TYPE.as_bytes()) {
            protobuf::parse(&bytes)?
        } else {
            body::parse(&bytes, body::media_type(headers)?)?.value
        };
        let authorizer = self.0.hooks.authorizer.as_ref();
        let review = review::answer(path, asked, user, authorizer)?;
        Ok(respond::json(201, &review))
    }

    fn call(
        &self,
        path: ResourcePath,
        user: UserInfo,
        id: &str,
        query: Query,
        accepted: Vec<Accepted>,
        parts: &http::request::Parts,
    ) -> Result<Call, StatusError> {
        let served = self.0.find(&path).ok_or_else(StatusError::no_such_resource)?;
        let subresource = match path.subresource.as_deref() {
            None => None,
            Some("status") if served.resource.has_status => Some("status"),
            Some(_) => return Err(StatusError::no_such_resource()),
        };
        Ok(Call {
            server: Arc::clone(&self.0),
            user,
            served,
            namespace: path.namespace,
            name: path.name,
            subresource,
            query,
            accepted,
            headers: parts.headers.clone(),
            id: id.to_owned(),
            path: parts.uri.path().to_owned(),
            address: parts.extensions.get().map(|ClientAddress(address)| *address),
            now: Timestamp::now(),
        })
    }

    async fn verb(&self, call: Call, method: &Method, body: Body) -> Result<Response<Body>, StatusError> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let permits = if reads { &self.0.reading } else { &self.0.mutating };
        let _permit = permits.try_acquire().map_err(|_| StatusError::too_many_requests())?;
        let kind = call.served.resource;
        let can = |verb| kind.verbs.contains(&verb);
        let served = async {
            match (method.as_str(), call.name.is_some(), call.subresource.is_some()) {
                ("GET" | "HEAD", true, _) => verb::get(&call).await,
                ("GET", false, _) if call.query.watches()? => verb::watch(call).await,
                ("GET" | "HEAD", false, _) => verb::list(&call).await,
                ("POST", false, _) if can(Verb::Create) => verb::create(&call, body).await,
                // A status says what the server has found out; it alone writes it, into the store.
                ("PUT", true, false) if can(Verb::Update) => verb::update(&call, body).await,
                ("PATCH", true, false) if can(Verb::Patch) => verb::patch(&call, body).await,
                ("DELETE", true, false) if can(Verb::Delete) => verb::delete(&call, body).await,
                ("DELETE", false, _) if can(Verb::DeleteCollection) => verb::delete_collection(&call, body).await,
                _ => Err(StatusError::method_not_allowed()),
            }
        };
        tokio::time::timeout(REQUEST_DEADLINE, Box::pin(served)).await.unwrap_or_else(|_| {
            Err(StatusError::new(crate::status::Reason::Timeout, "request did not complete in time"))
        })
    }
}

impl Inner {
    fn find(&self, path: &ResourcePath) -> Option<Arc<Served>> {
        let found = self.kinds.iter().find(|served| {
            let resource = served.resource;
            resource.plural == path.resource
                && resource.group == path.group_version.group
                && resource.version == path.group_version.version
        })?;
        let scoped = found.resource.namespaced;
        // Namespaced objects stand in a namespace; over all namespaces there are only lists and watches.
        let fits = if scoped { path.namespace.is_some() || path.name.is_none() } else { path.namespace.is_none() };
        fits.then(|| Arc::clone(found))
    }

    /// The JSON that `reader` sees of a stored object.
    pub(crate) fn view(
        &self,
        served: &Served,
        mut object: DynamicObject,
        reader: &UserInfo,
        now: Timestamp,
    ) -> Result<Value, StatusError> {
        self.hooks.decorate.decorate(served.resource, &mut object);
        let mut value = to_json(served, &object)?;
        served.strategy.decorate(reader, now, &mut value);
        Ok(value)
    }
}

impl Call {
    /// Reads the body of a request that may be made, and asks the authorizer once more: a body may come slowly, and rights end
    /// in the meantime.
    pub(crate) async fn read(&self, verb: &'static str, body: Body) -> Result<(Filter, Bytes), StatusError> {
        self.authorize(verb)?;
        let bytes = body::read(&self.headers, body).await?;
        Ok((self.authorize(verb)?, bytes))
    }

    /// Asks the authorizer for this verb. Nothing is read before this is answered.
    pub(crate) fn authorize(&self, verb: &'static str) -> Result<Filter, StatusError> {
        self.authorize_name(verb, self.name.as_deref())
    }

    /// [`Call::authorize`] for a list or watch that names one object in its field selector.
    pub(crate) fn authorize_name(&self, verb: &'static str, name: Option<&str>) -> Result<Filter, StatusError> {
        let wanted = Attributes {
            verb,
            group: self.served.resource.group,
            resource: self.served.resource.plural,
            subresource: self.subresource,
            namespace: self.namespace.as_deref(),
            name,
        };
        match self.server.hooks.authorizer.authorize(&self.user, &wanted) {
            Decision::Allow => Ok(Filter::All),
            Decision::Filtered => Ok(Filter::Visible),
            Decision::Deny(denied) => Err(refusal(&self.user, &wanted, denied)),
        }
    }

    /// Whether the caller may see this object.
    pub(crate) fn sees(&self, filter: Filter, object: &DynamicObject) -> bool {
        if filter == Filter::All {
            return true;
        }
        let owner = object.data.pointer("/spec/userID").and_then(Value::as_str).or_else(|| {
            // A kubeconfig's owner stands in a label: its spec has no user, and nobody but the server sets the label.
            let labels = object.metadata.labels.as_ref()?;
            labels.get(cattle_api::ext::token::USER_LABEL).map(String::as_str)
        });
        let reference = ObjectRef {
            group: self.served.resource.group,
            resource: self.served.resource.plural,
            namespace: object.metadata.namespace.as_deref(),
            name: object.metadata.name.as_deref().unwrap_or_default(),
            owner,
        };
        self.server.hooks.authorizer.visible(&self.user, &reference)
    }

    pub(crate) fn admission(&self, dry_run: bool) -> Admission<'_> {
        Admission {
            store: self.server.store.as_ref(),
            authorizer: self.server.hooks.authorizer.as_ref(),
            passwords: &self.server.hooks.passwords,
            user: &self.user,
            now: self.now,
            dry_run,
            resource: self.served.resource,
        }
    }

    pub(crate) fn not_found(&self) -> StatusError {
        StatusError::not_found(self.served.subject(), self.name.as_deref().unwrap_or_default())
    }

    pub(crate) fn view(&self, object: DynamicObject) -> Result<Value, StatusError> {
        self.server.view(&self.served, object, &self.user, self.now)
    }
}

/// An object as JSON, with its `apiVersion` and `kind`.
pub(crate) fn to_json(served: &Served, object: &DynamicObject) -> Result<Value, StatusError> {
    let mut value = serde_json::to_value(object).map_err(|error| StatusError::internal(&error))?;
    value["apiVersion"] = Value::from(served.resource.api_version());
    value["kind"] = Value::from(served.resource.kind);
    Ok(value)
}

/// JSON as an object.
pub(crate) fn from_json(value: Value) -> Result<DynamicObject, StatusError> {
    let name = text(&value, "/metadata/name").to_owned();
    serde_json::from_value(value).map_err(|error| {
        StatusError::bad_request(format!("the metadata of object {name:?} could not be read: {error}"))
    })
}
