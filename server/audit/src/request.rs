//! What a Kubernetes API request asks for.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::ObjectReference;

/// Verb and object of a request, read from method, path and query as the Kubernetes API server reads them.
///
/// This is for the audit log and for deadlines. It is not an authorization decision: what a user may do in a downstream cluster
/// is decided there.
///
/// An API server routes on the path after decoding it once, so that `pods/p/%65xec` and `pods/p%2Fexec` are sessions like
/// `pods/p/exec`: nothing here is decided on the bytes as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    verb: String,
    object: Option<ObjectReference>,
    safe: bool,
}

impl RequestInfo {
    /// Reads a request. `path` is the path as it is sent, still percent-encoded; `query` what follows the `?`.
    #[must_use]
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Self {
        let safe = matches!(method, "GET" | "HEAD" | "OPTIONS");
        let path = percent_decode_str(path).decode_utf8_lossy();
        let mut segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let Some(mut object) = api_of(&mut segments) else {
            return Self { verb: method.to_ascii_lowercase(), object: None, safe };
        };
        // `/api/v1/watch/…` is the old form of `?watch=true`.
        let old_watch = segments.first() == Some(&"watch");
        if old_watch {
            segments.remove(0);
        }
        if segments.is_empty() {
            return Self { verb: method.to_ascii_lowercase(), object: None, safe };
        }
        fill(&mut object, &segments);
        let watch = old_watch || is_set(query, "watch");
        let verb = verb_of(method, object.name.is_empty(), watch);
        Self { verb: verb.to_owned(), object: Some(object), safe }
    }

    /// A request that is about no object, with a verb of its own.
    #[must_use]
    pub fn non_resource(verb: &str) -> Self {
        Self { verb: verb.to_owned(), object: None, safe: false }
    }

    /// Something that is no request of the Kubernetes API, with a verb of its own, done to an object.
    #[must_use]
    pub fn on(verb: &str, object: ObjectReference) -> Self {
        Self { verb: verb.to_owned(), object: Some(object), safe: false }
    }

    /// The Kubernetes verb (`get`, `list`, `watch`, `create`, …), or the method in lower case if no object is named.
    #[must_use]
    pub fn verb(&self) -> &str {
        &self.verb
    }

    /// The object; none for `/healthz`, `/api`, `/version`.
    #[must_use]
    pub fn object(&self) -> Option<&ObjectReference> {
        self.object.as_ref()
    }

    /// Whether this opens a session into a pod: `exec`, `attach` or `port-forward`, whatever the method.
    #[must_use]
    pub fn is_pod_session(&self) -> bool {
        self.object.as_ref().is_some_and(|object| {
            object.resource == "pods" && matches!(object.subresource.as_str(), "exec" | "attach" | "portforward")
        })
    }

    /// Whether the answer may take as long as the client likes: watches, followed logs, sessions and proxied services.
    #[must_use]
    pub fn is_long_running(&self, query: Option<&str>) -> bool {
        let Some(object) = &self.object else { return false };
        self.verb == "watch"
            || self.is_pod_session()
            || self.is_proxied()
            || (object.subresource == "log" && is_set(query, "follow"))
    }

    /// Whether it must stand in the audit log before it happens: everything but reads, all pod sessions, and whatever goes to
    /// another server behind the API server. The reviews of Kubernetes (`kubectl auth can-i`, `whoami`) are questions
    /// although they are POSTs.
    ///
    /// A request to switch protocols must stand there too, whatever its path; it is seen in the headers, which this does not
    /// know.
    #[must_use]
    pub fn must_be_audited(&self) -> bool {
        if self.is_pod_session() || self.is_proxied() {
            return true;
        }
        !self.safe && !self.is_review()
    }

    /// Whether a kubelet, pod or service answers. What it does is not known from the method: a kubelet's
    /// `GET …/proxy/exec/…` is a session.
    fn is_proxied(&self) -> bool {
        self.object.as_ref().is_some_and(|object| object.subresource == "proxy")
    }

    fn is_review(&self) -> bool {
        self.object.as_ref().is_some_and(|object| {
            self.verb == "create"
                && matches!(object.api_group.as_str(), "authorization.k8s.io" | "authentication.k8s.io")
                && object.subresource.is_empty()
                && object.resource.ends_with("reviews")
        })
    }
}

/// Takes `api/<version>` or `apis/<group>/<version>` off the front.
fn api_of(segments: &mut Vec<&str>) -> Option<ObjectReference> {
    let (group, version, used) = match segments.as_slice() {
        ["api", version, ..] => ("", *version, 2),
        ["apis", group, version, ..] => (*group, *version, 3),
        _ => return None,
    };
    let (api_group, api_version) = (group.to_owned(), version.to_owned());
    segments.drain(..used);
    Some(ObjectReference { api_group, api_version, ..ObjectReference::default() })
}

fn fill(object: &mut ObjectReference, segments: &[&str]) {
    let rest = match segments {
        // A namespace itself, and the two subresources it has.
        ["namespaces"] => segments,
        ["namespaces", name] | ["namespaces", name, "status" | "finalize", ..] => {
            object.namespace = (*name).to_owned();
            segments
        }
        ["namespaces", namespace, rest @ ..] => {
            object.namespace = (*namespace).to_owned();
            rest
        }
        _ => segments,
    };
    let mut rest = rest.iter();
    for field in [&mut object.resource, &mut object.name, &mut object.subresource] {
        if let Some(segment) = rest.next() {
            *field = (*segment).to_owned();
        }
    }
}

fn verb_of(method: &str, collection: bool, watch: bool) -> &'static str {
    match method {
        "GET" | "HEAD" if watch => "watch",
        "GET" | "HEAD" if collection => "list",
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if collection => "deletecollection",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "unknown",
    }
}

/// Kubernetes takes the first value of a name, and everything but `false` and `0` for true. Names and values are decoded.
fn is_set(query: Option<&str>, name: &str) -> bool {
    let pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(key, _)| form_decoded(key) == name).map(|(_, value)| form_decoded(value));
    values.next().is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
}

fn form_decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(request: &str) -> RequestInfo {
        let (method, uri) = request.split_once(' ').unwrap();
        let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
        RequestInfo::parse(method, path, query)
    }

    fn shown(request: &str) -> String {
        let info = parse(request);
        let Some(o) = info.object() else {
            return info.verb().to_owned();
        };
        format!(
            "{} {}|{}|{}|{}|{}|{}",
            info.verb(),
            o.api_group,
            o.api_version,
            o.namespace,
            o.resource,
            o.name,
            o.subresource
        )
    }

    #[test]
    fn requests_are_read_as_the_api_server_reads_them() {
        let table = [
            ("GET /api/v1/pods", "list |v1||pods||"),
            ("GET /api/v1/pods?watch=true", "watch |v1||pods||"),
            ("GET /api/v1/pods?watch=1", "watch |v1||pods||"),
            ("GET /api/v1/pods?watch=0", "list |v1||pods||"),
            ("GET /api/v1/watch/namespaces/a/pods", "watch |v1|a|pods||"),
            ("GET /api/v1/namespaces", "list |v1||namespaces||"),
            ("GET /api/v1/namespaces/a", "get |v1|a|namespaces|a|"),
            ("PUT /api/v1/namespaces/a/finalize", "update |v1|a|namespaces|a|finalize"),
            ("GET /api/v1/namespaces/a/pods/b", "get |v1|a|pods|b|"),
            ("POST /api/v1/namespaces/a/pods/b/exec?command=sh", "create |v1|a|pods|b|exec"),
            ("DELETE /apis/apps/v1/namespaces/a/deployments", "deletecollection apps|v1|a|deployments||"),
            ("PATCH /apis/apps/v1/namespaces/a/deployments/x/scale", "patch apps|v1|a|deployments|x|scale"),
            ("GET /version", "get"),
            ("GET /api/v1", "get"),
            ("GET /apis/apps", "get"),
            ("GET /", "get"),
            ("GET //api/v1/pods/", "list |v1||pods||"),
            ("GET /%61pi/v1/namespaces/a/pods/b/%65xec", "get |v1|a|pods|b|exec"),
            ("GET /api%2Fv1%2Fnamespaces%2Fa%2Fpods%2Fb%2Fexec%2f", "get |v1|a|pods|b|exec"),
            ("GET /api/v1/namespaces/a/pods/b%252Fexec", "get |v1|a|pods|b%2Fexec|"),
            ("GET /api/v1/namespaces/a/pods/%C3%A4%ff", "get |v1|a|pods|\u{e4}\u{fffd}|"),
            ("GET /api/v1/namespaces/a/status/pods/b/exec", "get |v1|a|namespaces|a|status"),
            ("GET /api/v1/nodes/n/proxy/exec/a/b/c", "get |v1||nodes|n|proxy"),
            ("GET /api/v1/pods?%77atch=1", "watch |v1||pods||"),
            ("GET /api/v1/pods?watch", "watch |v1||pods||"),
            ("GET /api/v1/pods?watch=", "watch |v1||pods||"),
            ("GET /api/v1/pods?watch=FALSE", "list |v1||pods||"),
            ("GET /api/v1/pods?watch=%30", "list |v1||pods||"),
            ("GET /api/v1/pods?watch=0&watch=1", "list |v1||pods||"),
        ];
        for (request, expected) in table {
            assert_eq!(shown(request), expected, "{request}");
        }
    }

    #[test]
    fn changes_and_sessions_are_audited_and_questions_are_not() {
        let table = [
            ("GET /api/v1/namespaces/a/pods/b/exec?command=sh", true),
            ("GET /api/v1/namespaces/a/pods/b/attach", true),
            ("GET /api/v1/namespaces/a/pods/b/portforward", true),
            ("GET /api/v1/namespaces/a/pods/b/%65xec?command=sh", true),
            ("GET /api/v1/namespaces/a/pods/b%2Fexec?command=sh", true),
            ("GET /api/v1/namespaces/a/pods/b%2f%61ttach", true),
            ("HEAD /api/v1/namespaces%2Fa%2Fpods/b/portforwar%64", true),
            ("GET /api/v1/nodes/n/proxy/exec/a/b/c?command=sh", true),
            ("GET /api/v1/nodes/n%2Fproxy/run/a/b/c", true),
            ("GET /api/v1/namespaces/a/pods/b/proxy", true),
            ("GET /api/v1/namespaces/a/services/https:b:443/prox%79/x", true),
            ("POST /apis/authorization.k8s.io%2Fv1/selfsubjectaccessreviews", false),
            ("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews/x/y", true),
            ("GET /api/v1/namespaces/a/pods/b/log", false),
            ("GET /api/v1/secrets", false),
            ("POST /api/v1/namespaces/a/pods", true),
            ("DELETE /api/v1/namespaces/a", true),
            ("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", false),
            ("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", false),
            ("POST /apis/example.org/v1/reviews", true),
            ("POST /anything", true),
            ("BREW /api/v1/pods", true),
            ("HEAD /healthz", false),
        ];
        for (request, expected) in table {
            assert_eq!(parse(request).must_be_audited(), expected, "{request}");
        }
    }

    #[test]
    fn what_may_last_is_known() {
        let long = |request: &str| parse(request).is_long_running(request.split_once('?').map(|(_, query)| query));
        assert!(long("GET /api/v1/pods?watch=true"));
        assert!(long("GET /api/v1/namespaces/a/pods/b/log?follow=true"));
        assert!(long("GET /api/v1/namespaces/a/services/b/proxy/x"));
        assert!(long("POST /api/v1/namespaces/a/pods/b/exec"));
        assert!(!long("GET /api/v1/namespaces/a/pods/b/log"));
        assert!(!long("GET /api/v1/pods"));
        assert!(!long("GET /healthz?watch=true"));
    }

    #[test]
    fn any_request_has_a_verb() {
        let samples = [
            "/api/v1/namespaces/default/pods/web-1/exec?command=sh",
            "/apis/apps/v1/deployments?watch=true&resourceVersion=7",
            "/api/v1/watch/namespaces/default/pods",
            "/healthz",
        ];
        cattle_matrix::Decoder::new("audited request", samples).memory(64 << 20).hammer_text(|target| {
            let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
            let request = RequestInfo::parse("POST", path, query);
            assert!(!request.verb().is_empty());
            request.object().is_some()
        });
    }
}
