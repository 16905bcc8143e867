//! Which headers of an API server's answer reach the client.
//!
//! The answer comes from a machine that may be hostile and stands in the name of this server's origin, where a browser keeps a
//! session: it may neither run as a page, nor set cookies, nor change how the browser treats this host.

use cattle_proto::id::ClusterId;
use http::Uri;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::headers::{UpgradeProtocol, connection_tokens, is_hop_by_hop};
use crate::path::PREFIX;

/// Names with which an answer would speak for the whole origin, or ask for credentials.
const STRIPPED: [&str; 17] = [
    "alt-svc",
    "audit-id",
    "clear-site-data",
    "content-security-policy",
    "content-security-policy-report-only",
    "nel",
    "proxy-authenticate",
    "public-key-pins",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "set-cookie",
    "set-cookie2",
    "sourcemap",
    "strict-transport-security",
    "www-authenticate",
];

/// Why an answer is not passed on, as the end of the sentence "the API server …".
pub(crate) type Refusal = &'static str;

/// What passes of the head of an ordinary answer, hardened.
pub(crate) fn forwarded(headers: &HeaderMap, cluster: &ClusterId, server: &str) -> Result<HeaderMap, Refusal> {
    let nominated = connection_tokens(headers);
    let mut kept = HeaderMap::with_capacity(headers.len() + 4);
    for (name, value) in headers {
        if !is_hop_by_hop(name) && !is_stripped(name) && !nominated.iter().any(|token| token == name.as_str()) {
            kept.append(name, value.clone());
        }
    }
    if let Some(location) = headers.get(header::LOCATION) {
        kept.insert(header::LOCATION, own_location(location, cluster, server)?);
    }
    harden(&mut kept);
    Ok(kept)
}

/// What passes of the head of a `101`.
pub(crate) fn switched(headers: &HeaderMap, protocol: UpgradeProtocol) -> Result<HeaderMap, Refusal> {
    if !protocol.is_in(headers) {
        return Err("switched to a protocol that was not asked for");
    }
    let handshake = headers.iter().filter(|(name, _)| {
        name.as_str().starts_with("sec-websocket-") || name.as_str() == "x-stream-protocol-version"
    });
    let mut kept: HeaderMap = handshake.map(|(name, value)| (name.clone(), value.clone())).collect();
    kept.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    kept.insert(header::UPGRADE, protocol.token());
    Ok(kept)
}

/// Nothing that comes from a cluster is a page of this origin.
pub(crate) fn harden(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
}

fn is_stripped(name: &HeaderName) -> bool {
    let name = name.as_str();
    STRIPPED.contains(&name) || name.starts_with("access-control-") || name.starts_with("x-sourcemap")
}

/// A redirect stays within the cluster: a path gets the prefix that the client used, another host is refused, as
/// Kubernetes itself does with redirects of aggregated API servers (CVE-2022-3172).
fn own_location(location: &HeaderValue, cluster: &ClusterId, server: &str) -> Result<HeaderValue, Refusal> {
    const ELSEWHERE: Refusal = "redirects to another host";
    let text = location.to_str().map_err(|_| ELSEWHERE)?;
    // Browsers read a backslash as a slash, and drop blanks and control characters.
    if text.contains('\\') || text.starts_with("//") || text.bytes().any(|byte| byte <= b' ') {
        return Err(ELSEWHERE);
    }
    let path = match text.split_once(':') {
        Some((scheme, _)) if is_scheme(scheme) => {
            let uri: Uri = text.parse().map_err(|_| ELSEWHERE)?;
            let own = uri.scheme_str() == Some("https") && uri.host() == Some(server);
            let path = uri.path_and_query().filter(|_| own).ok_or(ELSEWHERE)?;
            path.as_str().to_owned()
        }
        _ => text.to_owned(),
    };
    let prefixed = if path.starts_with('/') { format!("{PREFIX}{cluster}{path}") } else { path };
    HeaderValue::from_str(&prefixed).map_err(|_| ELSEWHERE)
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterId {
        "c-abcde".parse().unwrap()
    }

    fn kept(headers: &[(&'static str, &'static str)]) -> Result<Vec<String>, Refusal> {
        let map = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let kept = forwarded(&map.collect(), &cluster(), "kubernetes.default.svc")?;
        let own = ["x-content-type-options: nosniff", "content-security-policy: sandbox"];
        let mut shown: Vec<String> =
            kept.iter().map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v.as_bytes()))).collect();
        assert!(own.iter().all(|line| shown.iter().filter(|shown| shown == line).count() == 1));
        shown.retain(|line| !own.contains(&line.as_str()));
        Ok(shown)
    }

    #[test]
    fn an_answer_cannot_speak_for_the_origin() {
        for name in STRIPPED {
            assert!(kept(&[(name, "x")]).unwrap().is_empty(), "{name}");
        }
        for name in
            ["access-control-allow-origin", "connection", "keep-alive", "transfer-encoding", "upgrade", "x-sourcemap"]
        {
            assert!(kept(&[(name, "x")]).unwrap().is_empty(), "{name}");
        }
        assert!(kept(&[("connection", "x-one"), ("x-one", "1")]).unwrap().is_empty());
        let plain =
            [("content-type", "application/json"), ("cache-control", "no-cache, private"), ("warning", "299 - \"x\"")];
        assert_eq!(kept(&plain).unwrap(), plain.map(|(name, value)| format!("{name}: {value}")));
    }

    #[test]
    fn redirects_stay_within_the_cluster() {
        let location =
            |to: &'static str| kept(&[("location", to)]).map(|lines| lines[0]["location: ".len()..].to_owned());
        assert_eq!(location("/api/v1/x?y=z").as_deref(), Ok("/k8s/clusters/c-abcde/api/v1/x?y=z"));
        assert_eq!(location("https://kubernetes.default.svc/a").as_deref(), Ok("/k8s/clusters/c-abcde/a"));
        assert_eq!(location("proxy/").as_deref(), Ok("proxy/"));
        assert_eq!(location("?a=b:c").as_deref(), Ok("?a=b:c"));
        for bad in [
            "//evil.example/",
            "https://evil.example/",
            "http://kubernetes.default.svc/",
            "/\\evil.example",
            "\\\\evil.example",
            "javascript:alert(1)",
            "https:/evil",
            "https://kubernetes.default.svc@evil.example/",
            "data:text/html,x",
            " /x",
        ] {
            assert!(location(bad).is_err(), "{bad}");
        }
    }
}
