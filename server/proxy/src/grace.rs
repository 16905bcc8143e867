//! Refusals that are meant for the impersonator and not for the user.
//!
//! API servers cache RBAC, each one its own. Right after the server has written a user's impersonator, one of them may not know
//! yet that it may impersonate. Such a 403 names our own service account; the user did nothing wrong, and the same request is
//! answered a moment later.
//!
//! A request without a body is simply repeated. One with a body is sent with `Expect: 100-continue` and its body held back:
//! Kubernetes decides about impersonation before it asks for the body, so that a refusal finds the body unread and the
//! request can be repeated as well. Asking the API server first with another request would not do, because behind a load
//! balancer the next connection may end at an API server that knows less.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::impersonate::account_of;
use crate::upstream::UpstreamBody;

/// First pause before a request is repeated; doubles each time.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// When repeating ends for good, whatever is written meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(12);

/// A refusal longer than this is not Kubernetes' own.
const READ_LIMIT: usize = 64 * 1024;
/// How long the refusal may take to arrive.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// What an answer says about our own account.
pub(crate) enum Verdict {
    /// Nothing: it is the user's answer. What was read of it comes first.
    Users(Option<Bytes>),
    /// The API server does not let the impersonator impersonate.
    MayNotImpersonate,
    /// The API server does not know the impersonator's token.
    UnknownToken,
}

/// Looks into a 401 or 403; others pass untouched.
pub(crate) async fn judge(response: &mut Response<UpstreamBody>, user: &str) -> Verdict {
    let status = response.status();
    if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) || !is_status(response) {
        return Verdict::Users(None);
    }
    let read = read(response.body_mut()).await;
    match status {
        StatusCode::FORBIDDEN if refuses_impersonation(&read, user) => Verdict::MayNotImpersonate,
        StatusCode::UNAUTHORIZED if refuses_token(&read) => Verdict::UnknownToken,
        _ => Verdict::Users(Some(read)),
    }
}

/// Kubernetes' own errors are JSON, protobuf or CBOR; a page of a proxied service is not.
fn is_status(response: &Response<UpstreamBody>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["application/json", "application/vnd.kubernetes.protobuf", "application/cbor", "text/plain"]
        .iter()
        .any(|k| kind.starts_with(k))
}

async fn read(body: &mut UpstreamBody) -> Bytes {
    let deadline = Instant::now() + READ_DEADLINE;
    let mut read = BytesMut::new();
    while read.len() < READ_LIMIT && !body.is_end_stream() {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data);
                }
            }
            Ok(None | Some(Err(_))) | Err(_) => break,
        }
    }
    read.freeze()
}

/// `users "u-abcde" is forbidden: User "system:serviceaccount:…:cattle-impersonation-u-abcde" cannot impersonate …`, in any
/// encoding that leaves text as it is.
fn refuses_impersonation(text: &[u8], user: &str) -> bool {
    let account = account_of(user);
    let Some(at) = find(text, account.as_bytes()) else { return false };
    let rest = &text[at + account.len()..];
    let named = rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-' && *byte != b'.');
    named && find(rest, b"cannot impersonate").is_some()
}

/// A `Status` of Kubernetes itself. A proxied service that wants a password says it otherwise.
fn refuses_token(text: &[u8]) -> bool {
    find(text, b"Status").is_some() && find(text, b"Unauthorized").is_some()
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_own_account_counts() {
        let refusal = |account: &str, does: &str| {
            format!(
                r#"{{"kind":"Status","message":"users \"x\" is forbidden: User \"{account}\" {does} resource \"users\""}}"#
            )
        };
        let own = "system:serviceaccount:cattle-impersonation-system:cattle-impersonation-u-abcde";
        assert!(refuses_impersonation(refusal(own, "cannot impersonate").as_bytes(), "u-abcde"));
        assert!(!refuses_impersonation(refusal(own, "cannot get").as_bytes(), "u-abcde"));
        assert!(!refuses_impersonation(refusal(&format!("{own}f"), "cannot impersonate").as_bytes(), "u-abcde"));
        assert!(!refuses_impersonation(refusal("u-abcde", "cannot impersonate").as_bytes(), "u-abcde"));
        assert!(!refuses_impersonation(b"", "u-abcde"));
    }
}
