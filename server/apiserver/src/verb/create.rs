//! Create: names, defaults, the kind's own completion, one transaction.

use std::time::Duration;

use axum::body::Body;
use cattle_api::names;
use cattle_store::{StoreError, Write};
use http::Response;
use serde_json::Value;
use tokio::time::Instant;

use super::change::{Outcome, audited, commit, track};
use super::draft::{Intake, check, intake, reveal, server_metadata};
use super::store_error;
use crate::body;
use crate::field::FieldError;
use crate::query::WriteOptions;
use crate::respond;
use crate::schema;
use crate::server::Call;
use crate::status::StatusError;
use crate::strategy::{Draft, set, text};

/// Generated names that are tried before the client is told that all were taken.
const NAME_ATTEMPTS: usize = 8;

/// How long the answer to a create waits for the authorizer, and how often it looks.
const SETTLE_DEADLINE: Duration = Duration::from_secs(2);
const SETTLE_POLL: Duration = Duration::from_millis(5);

/// POST to a collection.
pub(crate) async fn create(call: &Call, body: Body) -> Result<Response<Body>, StatusError> {
    let options = call.query.write_options()?;
    if call.served.resource.namespaced && call.namespace.is_none() {
        return Err(StatusError::method_not_allowed());
    }
    let (_, bytes) = call.read("create", body).await?;
    let document = body::parse(&bytes, body::media_type(&call.headers)?)?;
    let Intake { draft, warnings } = intake(call, document, options.field_validation)?;
    let view = create_draft(call, draft, &options, |object| {
        track(call, options.field_manager.as_deref(), None, object);
    })
    .await?;
    Ok(respond::warn(respond::object(call, 201, view)?, &warnings))
}

/// Creates a drafted object and returns what the caller sees of it. `manage` writes the managed fields.
pub(crate) async fn create_draft(
    call: &Call,
    mut draft: Draft,
    options: &WriteOptions,
    manage: impl Fn(&mut Value),
) -> Result<Value, StatusError> {
    if !text(&draft.object, "/metadata/resourceVersion").is_empty() {
        return Err(StatusError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    server_metadata(&mut draft.object, None);
    if call.served.resource.has_status {
        draft.object.as_object_mut().map(|fields| fields.remove("status"));
    }
    schema::default(&call.served.schema, &mut draft.object);
    call.served.strategy.defaults(&call.admission(options.dry_run), &mut draft.object);
    let prefix = text(&draft.object, "/metadata/generateName").to_owned();
    let generated = text(&draft.object, "/metadata/name").is_empty();
    if generated && prefix.is_empty() {
        let error = FieldError::required("metadata.name", "name or generateName is required");
        return Err(StatusError::invalid(call.served.kind_subject(), "", &[error]));
    }
    // Held until the commit: see `Strategy::is_unique_beyond_name`. A permit, not a lock: nothing is guarded by it but
    // the order, and every step below has its deadline.
    let _turn = match call.served.strategy.is_unique_beyond_name() {
        true => call.server.unique.acquire().await.ok(),
        false => None,
    };
    for _ in 0..NAME_ATTEMPTS {
        let mut attempt = Draft { object: draft.object.clone(), intake: draft.intake.clone(), ..Draft::default() };
        if generated {
            set(&mut attempt.object, "/metadata/name", Value::from(names::generate(&prefix)));
        }
        match once(call, attempt, options, &manage).await? {
            Ok(view) => return Ok(view),
            Err(StoreError::AlreadyExists(_)) if generated => {}
            Err(error) => return Err(store_error(error)),
        }
    }
    Err(StatusError::already_exists(call.served.subject(), &prefix).retry_after(1))
}

/// One attempt under one name; `Err` inside when somebody else has the name.
async fn once(
    call: &Call,
    mut draft: Draft,
    options: &WriteOptions,
    manage: &impl Fn(&mut Value),
) -> Result<Result<Value, StoreError>, StatusError> {
    let admission = call.admission(options.dry_run);
    draft.object = check(&call.served, &draft.object, None)?;
    call.served.strategy.create(&admission, &mut draft).await?;
    draft.object = check(&call.served, &draft.object, None)?;
    manage(&mut draft.object);
    let name = text(&draft.object, "/metadata/name").to_owned();
    let create = |object, sealed| Write::Create { object, sealed };
    let change = commit(call, create, &mut draft, options.dry_run);
    match audited(call, "create", Some(&name), options.dry_run, change).await? {
        Outcome::Stored(object) => {
            let mut view = call.view(*object)?;
            if !options.dry_run {
                settle(call, &view).await;
            }
            // A dry run made nothing that a secret could open.
            if !options.dry_run {
                reveal(&mut view, &draft);
            }
            Ok(Ok(view))
        }
        Outcome::Raced(error) => Ok(Err(error)),
    }
}

/// Waits until the authorizer has seen what was made, at most [`SETTLE_DEADLINE`].
async fn settle(call: &Call, object: &Value) {
    let deadline = Instant::now() + SETTLE_DEADLINE;
    let admission = call.admission(false);
    while !call.served.strategy.is_settled(&admission, object) && Instant::now() < deadline {
        tokio::time::sleep(SETTLE_POLL).await;
    }
}
