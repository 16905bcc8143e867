//! List: pages, versions, selectors, visibility.

use axum::body::Body;
use cattle_store::{Continue, Listing, Page, Revision};
use http::Response;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{expired, find, store_error};
use crate::query::{ListOptions, Version, VersionMatch};
use crate::respond;
use crate::server::{Call, Filter, to_json};
use crate::status::StatusError;

/// Objects that one read of the store returns at most, when the client asks for all.
pub(crate) const PAGE: u32 = 500;
/// Reads of the store that one page of a selective list may take; then the page is short and has a continue token.
const READS_MAX: usize = 64;

/// All objects of a kind, or those that are selected and visible.
pub(crate) async fn list(call: &Call) -> Result<Response<Body>, StatusError> {
    let options = call.query.list_options(&call.served.selectable)?;
    let filter = call.authorize_name("list", options.fields.name())?;
    check_version(call, &options)?;
    let found = collect(call, filter, &options).await?;
    let mut items = Vec::with_capacity(found.items.len());
    for object in found.items {
        items.push(call.view(object)?);
    }
    let mut metadata = json!({"resourceVersion": found.revision.to_string()});
    if let Some(next) = found.next {
        metadata["continue"] = Value::from(next);
        // Counting what a selector or a filter would leave out means reading it all.
        if let Some(remaining) = found.remaining.filter(|_| is_everything(filter, &options)) {
            metadata["remainingItemCount"] = Value::from(remaining);
        }
    }
    respond::list(call, items, metadata)
}

/// What a list found.
pub(crate) struct Found {
    pub(crate) items: Vec<DynamicObject>,
    pub(crate) revision: u64,
    next: Option<String>,
    remaining: Option<u64>,
}

/// Reads until `limit` objects are selected or there are no more.
pub(crate) async fn collect(call: &Call, filter: Filter, options: &ListOptions) -> Result<Found, StatusError> {
    // A continue token names the last key read, which a caller with a filtered view might not be allowed to know. Their
    // lists are short: they get them whole, which clients have to expect.
    let limit = options.limit.filter(|_| filter == Filter::All);
    let mut from = options.continue_token.as_deref().map(|token| decode(call, token)).transpose()?;
    if let (Some(name), None) = (options.fields.name(), &from)
        && (call.namespace.is_some() || !call.served.resource.namespaced)
    {
        return one(call, filter, options, name).await;
    }
    let mut found = Found { items: Vec::new(), revision: 0, next: None, remaining: None };
    for reads in 1.. {
        let missing = limit.map(|limit| limit.saturating_sub(u32::try_from(found.items.len()).unwrap_or(u32::MAX)));
        let page = Page { limit: Some(missing.unwrap_or(PAGE).min(PAGE)), from: from.take() };
        let listing = read(call, page).await?;
        found.revision = listing.revision.0;
        for object in listing.items {
            if call.sees(filter, &object) && is_selected(call, options, &object)? {
                found.items.push(object);
            }
        }
        found.remaining = listing.remaining;
        let enough = limit.is_some_and(|limit| found.items.len() >= limit as usize || reads == READS_MAX);
        match listing.next {
            Some(next) if enough => {
                found.next = Some(next.to_string());
                break;
            }
            Some(next) => from = Some(next),
            None => break,
        }
    }
    Ok(found)
}

/// The list of the one object that the field selector names, without reading the others.
async fn one(call: &Call, filter: Filter, options: &ListOptions, name: &str) -> Result<Found, StatusError> {
    // Taken before the object is read, so that a watch from here misses nothing; and not older than the object, so that it
    // repeats nothing.
    let before = call.server.store.revision();
    let named = Call { name: Some(name.to_owned()), ..call.clone() };
    let object = find(&named).await?;
    let version = object.as_ref().and_then(|object| Revision::parse(object.metadata.resource_version.as_deref()?));
    let revision = version.map_or(before, |version| version.max(before)).0;
    let mut found = Found { items: Vec::new(), revision, next: None, remaining: None };
    if let Some(object) = object
        && call.sees(filter, &object)
        && is_selected(call, options, &object)?
    {
        found.items.push(object);
    }
    Ok(found)
}

async fn read(call: &Call, page: Page) -> Result<Listing, StatusError> {
    let store = &call.server.store;
    store.list(call.served.resource, call.namespace.as_deref(), page).await.map_err(store_error)
}

/// Whether labels and fields select an object.
pub(crate) fn is_selected(call: &Call, options: &ListOptions, object: &DynamicObject) -> Result<bool, StatusError> {
    if !options.labels.matches(object.metadata.labels.as_ref()) {
        return Ok(false);
    }
    if options.fields.is_empty() {
        return Ok(true);
    }
    Ok(options.fields.matches(&to_json(&call.served, object)?))
}

/// Answers always come from the newest state; a client that asks for a newer one, or for exactly an older one, is told so.
fn check_version(call: &Call, options: &ListOptions) -> Result<(), StatusError> {
    let current = call.server.store.revision().0;
    match (options.version, options.version_match) {
        (Version::At(asked), _) if asked > current => Err(StatusError::version_in_future(asked, current)),
        (Version::At(asked), Some(VersionMatch::Exact)) if asked != current => Err(expired()),
        _ => Ok(()),
    }
}

fn is_everything(filter: Filter, options: &ListOptions) -> bool {
    filter == Filter::All && options.labels.is_empty() && options.fields.is_empty()
}

fn decode(call: &Call, token: &str) -> Result<Continue, StatusError> {
    Continue::parse(token, call.served.resource)
        .map_err(|_| StatusError::bad_request("continue key is not valid: list again without it"))
}
