//! Watch: changes in order from a version on, until the client, the clock or the authorizer ends it.
//!
//! There is no task behind a watch: the response body is polled, pulls events from the store one by one, and holds one at a
//! time. A client that does not read costs nothing but what the store keeps for it; when that is gone the watch ends with
//! 410 and the client lists again.

mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use cattle_store::{EventKind, Page, Revision, WatchError, WatchEvent, WatchStream};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, stream};
use http::Response;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use kube::core::DynamicObject;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use self::writer::Writer;
use super::list::{PAGE, collect, is_selected};
use super::{find, store_error};
use crate::accept::{Encoding, Shape, choose};
use crate::query::{ListOptions, Version};
use crate::respond::include_object;
use crate::server::{Call, Filter, Recomputed};
use crate::status::StatusError;

/// How long a watch lasts when the client does not say; the client then watches again from where it was.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Longest watch, whatever the client says.
const TIMEOUT_MAX: Duration = Duration::from_secs(2 * 60 * 60);
/// How often a client that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// How often the authorizer is asked again while nothing happens.
const AUTHORIZE_EVERY: Duration = Duration::from_secs(1);

/// GET of a collection with `watch`.
pub(crate) async fn watch(call: Call) -> Result<Response<Body>, StatusError> {
    let options = call.query.list_options(&call.served.selectable)?;
    let filter = call.authorize_name("watch", options.fields.name())?;
    let permit = Arc::clone(&call.server.watches).try_acquire_owned();
    let permit = permit.map_err(|_| StatusError::too_many_requests())?;
    let accepted = choose(&call.accepted, &[Shape::Object, Shape::Table, Shape::Metadata])?;
    let include = include_object(&call)?;
    let media_type = format!("{};stream=watch", accepted.encoding.media_type());
    if accepted.encoding != Encoding::Json {
        return Err(StatusError::not_acceptable(&["application/json"]));
    }
    let writer = Writer::new(accepted, include);
    let watch = Watch::start(call, options, filter, permit, writer).await?;
    let mut response = Response::new(Body::from_stream(watch.into_stream()));
    if let Ok(value) = http::HeaderValue::from_str(&media_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    Ok(response)
}

struct Watch {
    call: Call,
    options: ListOptions,
    filter: Filter,
    writer: Writer,
    phase: Phase,
    events: WatchStream,
    recomputed: BoxStream<'static, Recomputed>,
    deadline: Instant,
    bookmarks: Interval,
    authorize: Interval,
    /// What a filtered watch shows, to notice when the caller's roles change that.
    seen: Option<Seen>,
    /// What was shown last of objects whose computed fields change, to stay silent when they did not.
    shown: BTreeMap<(String, String), u64>,
    _permit: OwnedSemaphorePermit,
}

struct Seen {
    generation: u64,
    /// Namespace and name.
    objects: BTreeSet<(String, String)>,
}

enum Phase {
    /// What exists, before anything else.
    Initial(std::vec::IntoIter<DynamicObject>),
    /// The objects of a kind whose computed fields may all have changed.
    Refresh(std::vec::IntoIter<DynamicObject>),
    Live,
    Over,
}

/// What woke a live watch.
enum Wake {
    Event(Option<Result<WatchEvent, WatchError>>),
    Recomputed(Recomputed),
    Bookmark,
    Authorize,
    Timeout,
}

impl Watch {
    async fn start(
        call: Call,
        options: ListOptions,
        filter: Filter,
        permit: OwnedSemaphorePermit,
        writer: Writer,
    ) -> Result<Self, StatusError> {
        // Subscribed before anything is read, so that no recomputation falls between.
        let recomputed = call.server.hooks.decorate.changes(call.served.resource);
        let wants_initial = match (options.send_initial_events, options.version) {
            (Some(wants), _) => wants,
            (None, Version::At(_)) => false,
            (None, Version::Unset | Version::Any) => true,
        };
        let current = call.server.store.revision().0;
        let seen = seen(&call, filter, &options).await?;
        let (phase, after) = match options.version {
            Version::At(asked) if wants_initial && asked > current => {
                return Err(StatusError::version_in_future(asked, current));
            }
            _ if wants_initial => {
                let found = collect(&call, filter, &ListOptions { limit: None, ..options.clone() }).await?;
                (Phase::Initial(found.items.into_iter()), found.revision)
            }
            Version::At(asked) => (Phase::Live, asked),
            Version::Unset | Version::Any => (Phase::Live, current),
        };
        let namespace = call.namespace.as_deref();
        let events = call.server.store.watch(call.served.resource, namespace, Revision(after)).await;
        let events = events.map_err(store_error)?;
        let timeout = options.timeout.unwrap_or(DEFAULT_TIMEOUT).min(TIMEOUT_MAX);
        Ok(Self {
            call,
            options,
            filter,
            writer,
            phase,
            events,
            recomputed,
            deadline: Instant::now() + timeout,
            bookmarks: every(BOOKMARK_EVERY),
            authorize: every(AUTHORIZE_EVERY),
            seen,
            shown: BTreeMap::new(),
            _permit: permit,
        })
    }

    fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static {
        stream::unfold(self, |mut watch| async move {
            let chunk = watch.next().await?;
            Some((Ok(chunk), watch))
        })
    }

    /// The next event as a line, or `None` at the end. Cancel safe: an event is taken from the store and written without an
    /// await in between.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let step = match &mut self.phase {
                Phase::Over => return None,
                Phase::Initial(items) => match items.next() {
                    Some(object) => self.show("ADDED", object),
                    None => {
                        self.phase = Phase::Live;
                        Ok(self.end_of_initial())
                    }
                },
                Phase::Refresh(items) => match items.next() {
                    Some(object) => self.refreshed(object),
                    None => {
                        self.phase = Phase::Live;
                        Ok(None)
                    }
                },
                Phase::Live => {
                    let wake = self.wake().await;
                    self.woken(wake).await
                }
            };
            match step {
                Ok(Some(line)) => return Some(line),
                Ok(None) => {}
                Err(error) => {
                    self.phase = Phase::Over;
                    if let Some(internal) = error.internal_message() {
                        tracing::warn!(error = internal, "a watch ended");
                    }
                    return Some(Writer::error(&error));
                }
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let mut deadline = pin!(tokio::time::sleep_until(self.deadline));
        tokio::select! {
            biased;
            // First, so that a busy stream cannot outlive what ends it.
            () = &mut deadline => Wake::Timeout,
            _ = self.authorize.tick() => Wake::Authorize,
            event = self.events.next() => Wake::Event(event),
            Some(change) = self.recomputed.next() => Wake::Recomputed(change),
            _ = self.bookmarks.tick(), if self.options.bookmarks => Wake::Bookmark,
        }
    }

    async fn woken(&mut self, wake: Wake) -> Result<Option<Bytes>, StatusError> {
        match wake {
            Wake::Event(Some(Ok(event))) => {
                self.reauthorize()?;
                self.event(&event)
            }
            Wake::Event(Some(Err(WatchError::Expired))) => Err(super::expired()),
            Wake::Event(Some(Err(error))) => Err(StatusError::internal(&error)),
            Wake::Event(None) | Wake::Timeout => {
                self.phase = Phase::Over;
                Ok(None)
            }
            Wake::Recomputed(change) => self.recompute(change).await,
            Wake::Bookmark => {
                let version = self.events.position().0.to_string();
                Ok(Some(self.writer.bookmark(&self.call.served, &version, false)))
            }
            Wake::Authorize => {
                self.reauthorize()?;
                self.check_seen().await.map(|()| None)
            }
        }
    }

    /// Ends the watch when what it was allowed has changed: the client lists again and sees what it may see now.
    fn reauthorize(&self) -> Result<(), StatusError> {
        let filter = self.call.authorize_name("watch", self.options.fields.name())?;
        if filter == self.filter { Ok(()) } else { Err(changed_view()) }
    }

    /// The same for a filtered watch: objects that roles have made visible or hidden come with no event of their own.
    async fn check_seen(&mut self) -> Result<(), StatusError> {
        let generation = self.call.server.hooks.authorizer.generation();
        let Some(shown) = &mut self.seen else { return Ok(()) };
        if std::mem::replace(&mut shown.generation, generation) == generation {
            return Ok(());
        }
        let now = seen(&self.call, self.filter, &self.options).await?;
        if now.is_some_and(|now| now.objects == shown.objects) { Ok(()) } else { Err(changed_view()) }
    }

    /// A stored change, as this watch sees it: an object that comes into the selection is added, one that leaves it deleted.
    fn event(&mut self, event: &WatchEvent) -> Result<Option<Bytes>, StatusError> {
        let (now, before) = match (event.kind, &event.previous) {
            (EventKind::Added, _) => (self.selects(&event.object)?, false),
            (EventKind::Modified, Some(previous)) => (self.selects(&event.object)?, self.selects(previous)?),
            (EventKind::Modified, None) => (self.selects(&event.object)?, true),
            (EventKind::Deleted, Some(previous)) => (false, self.selects(previous)?),
            (EventKind::Deleted, None) => (false, self.selects(&event.object)?),
        };
        let kind = match (before, now) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return Ok(None),
        };
        self.show(kind, DynamicObject::clone(&event.object))
    }

    fn selects(&self, object: &DynamicObject) -> Result<bool, StatusError> {
        Ok(self.call.sees(self.filter, object) && is_selected(&self.call, &self.options, object)?)
    }

    /// A computed field has changed: the object again, unless a stored change of it is on its way anyhow.
    async fn recompute(&mut self, change: Recomputed) -> Result<Option<Bytes>, StatusError> {
        match change {
            Recomputed::One { namespace, name } => {
                if self.call.namespace.is_some() && self.call.namespace != namespace {
                    return Ok(None);
                }
                let named = Call { name: Some(name), namespace, ..self.call.clone() };
                match find(&named).await? {
                    Some(object) => self.refreshed(object),
                    None => Ok(None),
                }
            }
            Recomputed::Namespace(namespace) => match self.call.namespace.as_ref() {
                Some(own) if *own != namespace => Ok(None),
                _ => self.refresh(Some(&namespace)).await,
            },
            Recomputed::Any => self.refresh(self.call.namespace.clone().as_deref()).await,
        }
    }

    /// Looks at every object of a namespace, or of all.
    async fn refresh(&mut self, namespace: Option<&str>) -> Result<Option<Bytes>, StatusError> {
        let (mut items, mut from) = (Vec::new(), None);
        loop {
            let page = Page { limit: Some(PAGE), from };
            let listing = self.call.server.store.list(self.call.served.resource, namespace, page).await;
            let listing = listing.map_err(store_error)?;
            items.extend(listing.items);
            match listing.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        self.phase = Phase::Refresh(items.into_iter());
        Ok(None)
    }

    fn refreshed(&mut self, object: DynamicObject) -> Result<Option<Bytes>, StatusError> {
        let version = object.metadata.resource_version.as_deref().and_then(Revision::parse);
        // An object newer than what was delivered would overtake its own event.
        if version.is_none_or(|version| version > self.events.position()) || !self.selects(&object)? {
            return Ok(None);
        }
        let key = key(&object);
        let before = self.shown.get(&key).copied();
        let line = self.show("MODIFIED", object)?;
        // Computed fields are announced for many objects at once: what looks as before is no event.
        Ok(line.filter(|_| before.is_none() || before != self.shown.get(&key).copied()))
    }

    fn end_of_initial(&mut self) -> Option<Bytes> {
        let wanted = self.options.send_initial_events == Some(true) && self.options.bookmarks;
        let version = self.events.position().0.to_string();
        wanted.then(|| self.writer.bookmark(&self.call.served, &version, true))
    }

    fn show(&mut self, kind: &str, object: DynamicObject) -> Result<Option<Bytes>, StatusError> {
        let (key, now) = (key(&object), Timestamp::now());
        let view = self.call.server.view(&self.call.served, object, &self.call.user, now)?;
        let is_gone = kind == "DELETED";
        if let Some(seen) = &mut self.seen {
            if is_gone {
                seen.objects.remove(&key)
            } else {
                seen.objects.insert(key.clone())
            };
        }
        if is_gone {
            self.shown.remove(&key);
        } else if self.call.served.is_recomputed() {
            let mut calm = view.clone();
            self.call.server.hooks.decorate.calm(self.call.served.resource, &mut calm);
            let mut hasher = DefaultHasher::new();
            calm.hash(&mut hasher);
            self.shown.insert(key, hasher.finish());
        }
        Ok(Some(self.writer.event(&self.call.served, kind, view, now)))
    }
}

async fn seen(call: &Call, filter: Filter, options: &ListOptions) -> Result<Option<Seen>, StatusError> {
    if filter == Filter::All {
        return Ok(None);
    }
    let generation = call.server.hooks.authorizer.generation();
    let whole = ListOptions { limit: None, continue_token: None, ..options.clone() };
    let found = collect(call, filter, &whole).await?;
    Ok(Some(Seen { generation, objects: found.items.iter().map(key).collect() }))
}

fn key(object: &DynamicObject) -> (String, String) {
    let metadata = &object.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn changed_view() -> StatusError {
    StatusError::expired("what this watch may show has changed: list again")
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
