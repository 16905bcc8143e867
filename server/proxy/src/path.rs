//! Which cluster a request is for, and what it asks of that cluster.
//!
//! The target is split on raw bytes and never rewritten: what the API server gets is byte for byte what stood after our
//! prefix. A target that this server and an API server could read differently is refused, so that the cluster which was
//! authorised is the cluster that is asked.

use cattle_proto::id::ClusterId;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// Where the downstream APIs live.
pub(crate) const PREFIX: &str = "/k8s/clusters/";

/// Longest request target, in bytes.
const TARGET_LIMIT: usize = 16 * 1024;

/// A request target that means one thing only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The cluster.
    pub cluster: ClusterId,
    /// What its API server is asked: path and query, unchanged.
    pub upstream: PathAndQuery,
}

/// Why a request target is no [`Route`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/k8s/clusters/`.
    #[error("not a path of a downstream cluster")]
    NotOurs,
    /// It is longer than the limit.
    #[error("the request path is too long")]
    TooLong,
    /// It can be read in more than one way.
    #[error("the request path is refused: {0}")]
    Ambiguous(&'static str),
    /// No cluster can have this id.
    #[error("no cluster has this id")]
    NoSuchCluster,
}

impl Route {
    /// Reads a target in origin form, e.g. `/k8s/clusters/c-abcde/api/v1/pods?limit=5`.
    ///
    /// # Errors
    ///
    /// [`PathError`]; ambiguity is looked for before the cluster, so that the answer says nothing about which exist.
    pub fn parse(target: &str) -> Result<Self, PathError> {
        if target.len() > TARGET_LIMIT {
            return Err(PathError::TooLong);
        }
        if target.contains('#') {
            return Err(PathError::Ambiguous("it has a fragment"));
        }
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let rest = path.strip_prefix(PREFIX).ok_or(PathError::NotOurs)?;
        let (id, upstream) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        check_id(id)?;
        check_upstream(upstream)?;
        let cluster = id.parse().map_err(|_| PathError::NoSuchCluster)?;
        let forwarded = query.map_or_else(|| upstream.to_owned(), |query| format!("{upstream}?{query}"));
        let upstream = forwarded.parse().map_err(|_| PathError::Ambiguous("it has bytes that no path may have"))?;
        Ok(Self { cluster, upstream })
    }
}

/// The segment that names the cluster stands for itself: nothing in it is encoded, no dots, no parameters.
fn check_id(id: &str) -> Result<(), PathError> {
    match id {
        "" => Err(PathError::Ambiguous("the cluster id is empty")),
        _ if id.contains('%') => Err(PathError::Ambiguous("the cluster id is percent-encoded")),
        _ if id.contains(['.', '\\', ';']) => Err(PathError::Ambiguous("the cluster id is not a plain name")),
        _ => Ok(()),
    }
}

fn check_upstream(path: &str) -> Result<(), PathError> {
    if !percent_signs_are_escapes(path.as_bytes()) {
        return Err(PathError::Ambiguous("it has a broken percent-encoding"));
    }
    // Kubernetes reads the path after decoding it once, so dots are looked for there. An encoded slash alone is fine: it is
    // forwarded as it is, and inside `…/proxy/…` it is common.
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    if decoded.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return Err(PathError::Ambiguous("it has control characters"));
    }
    if decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(is_dots) {
        return Err(PathError::Ambiguous("it has dot segments"));
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    // What follows `proxy` is another server's path and may be anything; before that, an empty segment is ambiguous.
    let own =
        segments.iter().position(|segment| *segment == "proxy").unwrap_or_else(|| segments.len().saturating_sub(1));
    if segments[..own].iter().any(|segment| segment.is_empty()) {
        return Err(PathError::Ambiguous("it has empty segments"));
    }
    Ok(())
}

fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    matches!(name, b"." | b"..")
}

fn percent_signs_are_escapes(path: &[u8]) -> bool {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        let escape = path.get(at + 1..at + 3);
        escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_follows_the_prefix_is_forwarded_as_it_is() {
        let table = [
            ("/k8s/clusters/c-abcde", "/"),
            ("/k8s/clusters/c-abcde/", "/"),
            ("/k8s/clusters/c-abcde?limit=5", "/?limit=5"),
            ("/k8s/clusters/c-abcde/api/v1/pods?a=%2F..%2f&b=//", "/api/v1/pods?a=%2F..%2f&b=//"),
            ("/k8s/clusters/c-abcde/api/v1/namespaces/a/pods/", "/api/v1/namespaces/a/pods/"),
            ("/k8s/clusters/c-abcde/api/v1/x%2Fy", "/api/v1/x%2Fy"),
            ("/k8s/clusters/c-abcde/api/v1/%252e%252e", "/api/v1/%252e%252e"),
            (
                "/k8s/clusters/c-abcde/api/v1/namespaces/a/services/b/proxy//x//y",
                "/api/v1/namespaces/a/services/b/proxy//x//y",
            ),
            ("/k8s/clusters/c-abcde/a?x=1?y=2", "/a?x=1?y=2"),
            ("/k8s/clusters/c-abcde/a..b/...", "/a..b/..."),
        ];
        for (target, upstream) in table {
            let route = Route::parse(target).unwrap();
            assert_eq!(route.cluster.as_str(), "c-abcde");
            assert_eq!(route.upstream.as_str(), upstream, "{target}");
        }
    }

    #[test]
    fn ambiguity_is_refused() {
        for target in [
            "/k8s/clusters/",
            "/k8s/clusters//",
            "/k8s/clusters//c-abcde/api",
            "/k8s/clusters/./c-abcde",
            "/k8s/clusters/../c-abcde",
            "/k8s/clusters/c-abcde%2f..%2fc-other/api",
            "/k8s/clusters/%63-abcde/api",
            "/k8s/clusters/c-abcde;x=1/api",
            "/k8s/clusters/c-abcde\\..\\c-other/api",
            "/k8s/clusters/c-abcde/../c-other/api",
            "/k8s/clusters/c-abcde/%2e%2e/c-other/api",
            "/k8s/clusters/c-abcde/.%2E/c-other/api",
            "/k8s/clusters/c-abcde/api/..%2fx",
            "/k8s/clusters/c-abcde/api/..;/x",
            "/k8s/clusters/c-abcde/api/./v1",
            "/k8s/clusters/c-abcde/api/%5c..%5cx",
            "/k8s/clusters/c-abcde//api/v1",
            "/k8s/clusters/c-abcde/api//v1",
            "/k8s/clusters/c-abcde/api/%00",
            "/k8s/clusters/c-abcde/api/%0d%0aX:y",
            "/k8s/clusters/c-abcde/api/%zz",
            "/k8s/clusters/c-abcde/api/%2",
            "/k8s/clusters/c-abcde/api#x",
            "/k8s/clusters/c-abcde/api/v1/namespaces/a/services/b/proxy/../../x",
        ] {
            assert!(matches!(Route::parse(target), Err(PathError::Ambiguous(_))), "{target}");
        }
    }

    #[test]
    fn what_cannot_be_a_cluster_is_not_found() {
        for id in ["local", "c-1", "C-ABCDE", "c-abcdE", "c-abcde-", "c_abcde", "*", "c-abcde:443", "c-äöüxx"] {
            assert_eq!(Route::parse(&format!("/k8s/clusters/{id}/api")), Err(PathError::NoSuchCluster), "{id}");
        }
        for target in [
            "/",
            "*",
            "/k8s/clusters",
            "/K8s/clusters/c-abcde",
            "/k8s//clusters/c-abcde",
            "http://x/k8s/clusters/c-abcde",
            "",
        ] {
            assert_eq!(Route::parse(target), Err(PathError::NotOurs), "{target}");
        }
        let long = format!("/k8s/clusters/c-abcde/{}", "a".repeat(TARGET_LIMIT));
        assert_eq!(Route::parse(&long), Err(PathError::TooLong));
    }

    proptest! {
        #![proptest_config(cattle_matrix::proptest_config(10_000))]

        /// The cluster that a reader who decodes and normalises would find is the one that was authorised.
        #[test]
        fn no_target_means_two_clusters(tail in "(/|//|\\.|\\.\\.|%2e|%2E|%2f|%2F|%5c|%25|;|\\?|#|c-aaaaa|c-bbbbb|api|v1|proxy|%00|\\\\|é){0,12}") {
            let target = format!("/k8s/clusters/{tail}");
            if let Ok(route) = Route::parse(&target) {
                let path = target.split('?').next().unwrap();
                let decoded = percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
                let mut stack: Vec<&str> = Vec::new();
                for segment in decoded.split('/') {
                    match segment {
                        "" | "." => {}
                        ".." => { stack.pop(); }
                        name => stack.push(name),
                    }
                }
                prop_assert_eq!(stack.get(2).copied(), Some(route.cluster.as_str()));
                prop_assert!(target.ends_with(route.upstream.as_str()) || route.upstream.as_str().starts_with("/?") || route.upstream == "/");
            }
        }

        #[test]
        fn no_text_panics(target in "\\PC{0,80}") {
            drop(Route::parse(&target));
            drop(Route::parse(&format!("/k8s/clusters/c-abcde/{target}")));
        }
    }
}
