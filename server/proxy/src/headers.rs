//! Which headers of a client's request go downstream.
//!
//! A new header map is built from what may pass; nothing is deleted from the old one, so that no order of steps can leave
//! something behind. Names are compared after folding `_` to `-` (some servers do), and the names that `Connection`
//! lists are gone before anything of ours is added (CVE-2021-31999).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version, request};

use crate::impersonate::{ImpersonationRefused, refuse_impersonation};

/// A credential that browsers and kubectl plugins may put where a subprotocol should stand.
const BEARER_SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Names that concern one connection only, that carry a credential or an identity, or that are written by us.
const STRIPPED: [&str; 25] = [
    "audit-id",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-real-ip",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Families of names by which proxies and authenticators tell each other who somebody is.
const STRIPPED_PREFIXES: [&str; 10] = [
    "impersonate",
    "x-remote",
    "remote-",
    "x-forwarded",
    "x-api-tunnel-",
    "x-api-cattle-",
    "x-cattle-",
    "x-auth-request-",
    "x-client-",
    "x-ssl-",
];

/// A protocol that a client may switch to; both are carried without a look inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpgradeProtocol {
    /// exec, attach and port-forward of kubectl since 1.31, and proxied services.
    WebSocket,
    /// exec, attach and port-forward of older clients.
    Spdy31,
}

impl UpgradeProtocol {
    pub(crate) fn token(self) -> HeaderValue {
        match self {
            Self::WebSocket => HeaderValue::from_static("websocket"),
            Self::Spdy31 => HeaderValue::from_static("SPDY/3.1"),
        }
    }

    /// Whether a `101` switches to this protocol.
    pub(crate) fn is_in(self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::UPGRADE).iter();
        let only = values.next().filter(|_| values.next().is_none());
        only.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(self.token().as_bytes()))
    }
}

/// What is left of a client's head.
#[derive(Debug)]
pub(crate) struct ClientHeaders {
    /// May be sent on; holds no identity, no credential and nothing about the connection.
    pub(crate) forwarded: HeaderMap,
    /// The client wants to switch protocols.
    pub(crate) upgrade: Option<UpgradeProtocol>,
    /// The client waits for `100 Continue` before it sends its body.
    pub(crate) expects_continue: bool,
}

/// Why a head is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// The client asks to act as somebody else.
    #[error(transparent)]
    Impersonation(#[from] ImpersonationRefused),
    /// More than one host is named.
    #[error("the request names more than one host")]
    Host,
    /// The target names a host; this server is not a forward proxy.
    #[error("the request target must be a path")]
    AbsoluteTarget,
    /// The head asks to switch protocols in a way that can be read differently.
    #[error("the request to switch protocols is malformed")]
    Upgrade,
}

impl ClientHeaders {
    /// Reads a head.
    pub(crate) fn of(head: &request::Parts) -> Result<Self, HeaderError> {
        check_host(head)?;
        let nominated = connection_tokens(&head.headers);
        let upgrade = upgrade_of(head, &nominated)?;
        refuse_impersonation(&head.headers)?;
        let mut forwarded = HeaderMap::with_capacity(head.headers.len() + 8);
        for (name, value) in &head.headers {
            if !is_stripped(name) && !nominated.iter().any(|token| token == name.as_str()) {
                forwarded.append(name, value.clone());
            }
        }
        strip_bearer_subprotocol(&mut forwarded);
        let expects = head.headers.get(header::EXPECT);
        let expects_continue = expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Ok(Self { forwarded, upgrade, expects_continue })
    }
}

/// Lower-case tokens of all `Connection` lines. Bytes that are no text make no token and so strip nothing: they cannot be
/// a header's name either.
pub(crate) fn connection_tokens(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let tokens = lines.flat_map(|line| line.split(','));
    tokens.map(|token| token.trim().trim_matches('"').to_ascii_lowercase()).filter(|token| !token.is_empty()).collect()
}

/// Names that concern one connection only, in either direction.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

fn is_stripped(name: &HeaderName) -> bool {
    let name = folded(name);
    STRIPPED.contains(&name.as_str()) || STRIPPED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A name as servers that take `_` for `-` read it.
pub(crate) fn folded(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

fn check_host(head: &request::Parts) -> Result<(), HeaderError> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(HeaderError::Host);
    }
    match head.uri.authority() {
        // An HTTP/2 request always names its authority; a second name for it must be the same.
        Some(authority) if head.version == Version::HTTP_2 => {
            let same = host.is_none_or(|host| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()));
            same.then_some(()).ok_or(HeaderError::Host)
        }
        Some(_) => Err(HeaderError::AbsoluteTarget),
        None => Ok(()),
    }
}

/// Only HTTP/1.1 can switch, only with `Connection: upgrade`, and only to what we know. Anything else that is well-formed
/// (`h2c`) is ignored, which RFC 9110 §7.8 allows.
fn upgrade_of(head: &request::Parts, nominated: &[String]) -> Result<Option<UpgradeProtocol>, HeaderError> {
    let mut values = head.headers.get_all(header::UPGRADE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if head.version != Version::HTTP_11 || !nominated.iter().any(|token| token == "upgrade") {
        return Ok(None);
    }
    let text = value.to_str().map_err(|_| HeaderError::Upgrade)?;
    if values.next().is_some() || text.contains(',') {
        return Err(HeaderError::Upgrade);
    }
    if text.eq_ignore_ascii_case("websocket") {
        // RFC 6455 §4.1: the handshake is a GET.
        return if head.method == Method::GET {
            Ok(Some(UpgradeProtocol::WebSocket))
        } else {
            Err(HeaderError::Upgrade)
        };
    }
    Ok(text.eq_ignore_ascii_case("SPDY/3.1").then_some(UpgradeProtocol::Spdy31))
}

/// Takes bearer tokens out of the list of subprotocols: the client's is for this server, and an API server would take
/// another one for an identity.
fn strip_bearer_subprotocol(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<String> = lines
        .flat_map(|line| {
            String::from_utf8_lossy(line.as_bytes()).split(',').map(|t| t.trim().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let is_bearer = |offer: &String| offer.to_ascii_lowercase().starts_with(BEARER_SUBPROTOCOL);
    if !offered.iter().any(is_bearer) {
        return;
    }
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    let rest: Vec<String> = offered.into_iter().filter(|offer| !is_bearer(offer)).collect();
    if let Ok(value) = HeaderValue::from_str(&rest.join(", "))
        && !rest.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn head(headers: &[(&str, &str)]) -> request::Parts {
        let mut builder = Request::builder().uri("/k8s/clusters/c-abcde/api");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn forwarded(headers: &[(&str, &str)]) -> Vec<String> {
        let kept = ClientHeaders::of(&head(headers)).unwrap().forwarded;
        kept.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn what_clients_of_kubernetes_send_passes() {
        let kept = [
            ("accept", "application/json"),
            ("accept", "text/plain"),
            ("content-type", "application/json"),
            ("user-agent", "kubectl"),
            ("kubectl-command", "kubectl get"),
            ("if-none-match", "\"x\""),
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ];
        assert_eq!(forwarded(&kept), kept.map(|(name, value)| format!("{name}: {value}")));
    }

    #[test]
    fn identity_and_connection_headers_never_pass() {
        let none: [String; 0] = [];
        for name in [
            "Authorization",
            "Cookie",
            "X-Remote-User",
            "X-Remote-Group",
            "X-Remote-Extra-Scopes",
            "X-Remote-Uid",
            "x_remote_user",
            "X-Remote_Group",
            "X-Forwarded-User",
            "X_Forwarded_For",
            "X-Forwarded-Access-Token",
            "Forwarded",
            "Remote-User",
            "Proxy-Authorization",
            "X-API-Tunnel-Token",
            "X-API-Cattle-Auth",
            "X-Real-IP",
            "Audit-ID",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Proxy-Connection",
            "Transfer-Encoding",
            "HTTP2-Settings",
            "Content-Length",
            "Expect",
            "Authorization",
        ] {
            assert_eq!(forwarded(&[(name, "x"), (name, "y")]), none, "{name}");
        }
    }

    #[test]
    fn impersonation_is_refused_by_name() {
        for name in [
            "Impersonate-User",
            "iMpErSoNaTe-UsEr",
            "Impersonate-Group",
            "Impersonate-Uid",
            "Impersonate-Extra-Scopes",
            "Impersonate_User",
            "impersonate-extra_x",
            "Impersonate-Extra-%2573copes",
            "Impersonate",
        ] {
            let error = ClientHeaders::of(&head(&[(name, "admin")])).unwrap_err();
            assert!(matches!(error, HeaderError::Impersonation(_)), "{error:?}");
            assert!(error.to_string().contains(&name.to_ascii_lowercase()));
            // Hidden behind `Connection`, it is refused all the same.
            assert!(ClientHeaders::of(&head(&[("connection", name), (name, "admin")])).is_err());
        }
    }

    #[test]
    fn what_connection_names_is_gone() {
        let kept = forwarded(&[
            ("connection", "close, X-One ,\tx-two"),
            ("connection", "\"x-three\", impersonate-user"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("x-four", "4"),
        ]);
        assert_eq!(kept, ["x-four: 4"]);
    }

    #[test]
    fn only_known_protocols_are_switched_to() {
        let upgrade = |headers: &[(&str, &str)]| ClientHeaders::of(&head(headers)).map(|headers| headers.upgrade);
        assert_eq!(
            upgrade(&[("connection", "Upgrade"), ("upgrade", "websocket")]),
            Ok(Some(UpgradeProtocol::WebSocket))
        );
        assert_eq!(
            upgrade(&[("connection", "keep-alive, upgrade"), ("upgrade", "spdy/3.1")]),
            Ok(Some(UpgradeProtocol::Spdy31))
        );
        assert_eq!(upgrade(&[("upgrade", "websocket")]), Ok(None));
        assert_eq!(upgrade(&[("connection", "upgrade")]), Ok(None));
        assert_eq!(upgrade(&[("connection", "upgrade"), ("upgrade", "h2c")]), Ok(None));
        for bad in ["websocket, h2c", "websocket,"] {
            assert_eq!(upgrade(&[("connection", "upgrade"), ("upgrade", bad)]), Err(HeaderError::Upgrade), "{bad}");
        }
        let twice = [("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "websocket")];
        assert_eq!(upgrade(&twice), Err(HeaderError::Upgrade));
    }

    #[test]
    fn a_token_among_the_subprotocols_does_not_leave() {
        let name = "sec-websocket-protocol";
        let token = "base64url.bearer.authorization.k8s.io.dG9rZW4";
        assert_eq!(
            forwarded(&[(name, &format!("v4.channel.k8s.io, {token}"))]),
            ["sec-websocket-protocol: v4.channel.k8s.io"]
        );
        assert_eq!(
            forwarded(&[(name, "a"), (name, &token.to_ascii_uppercase()), (name, "b")]),
            ["sec-websocket-protocol: a, b"]
        );
        assert!(forwarded(&[(name, token)]).is_empty());
    }

    #[test]
    fn one_host_only() {
        assert_eq!(ClientHeaders::of(&head(&[("host", "a"), ("host", "a")])).unwrap_err(), HeaderError::Host);
        let mut absolute = head(&[]);
        absolute.uri = "http://evil/k8s/clusters/c-abcde/api".parse().unwrap();
        assert_eq!(ClientHeaders::of(&absolute).unwrap_err(), HeaderError::AbsoluteTarget);
        absolute.version = Version::HTTP_2;
        assert!(ClientHeaders::of(&absolute).is_ok());
        absolute.headers.insert("host", HeaderValue::from_static("other"));
        assert_eq!(ClientHeaders::of(&absolute).unwrap_err(), HeaderError::Host);
    }

    proptest! {
        #![proptest_config(cattle_matrix::proptest_config(10_000))]

        #[test]
        fn no_head_carries_an_identity_through(headers in prop::collection::vec((
            "(?i)(impersonate|x[-_]remote|x-forwarded|authorization|cookie|connection|upgrade|host|te|remote)[-_]?(user|group|extra-[a-z%0-9]{0,5}|uid|for)?",
            "[ -~]{0,24}|(?i)(close|upgrade|impersonate-user|authorization|x-remote-user|,| ){0,6}",
        ), 0..12)) {
            let mut request = head(&[]);
            for (name, value) in &headers {
                if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                    request.headers.append(name, value);
                }
            }
            if let Ok(kept) = ClientHeaders::of(&request) {
                for name in kept.forwarded.keys() {
                    let name = folded(name);
                    for prefix in ["impersonate", "x-remote", "x-forwarded"] {
                        prop_assert!(!name.starts_with(prefix), "{}", name);
                    }
                    prop_assert!(!STRIPPED.contains(&name.as_str()), "{}", name);
                }
            }
        }
    }
}
