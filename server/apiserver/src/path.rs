//! The URL paths that this API owns, parsed once and strictly.
//!
//! A path is split on raw `/` and nothing is decoded or normalised: percent signs, dot segments, empty segments and
//! anything outside a name's alphabet are refused, so what is authorized is what is served.

/// Longest name or path segment, in bytes: the limit of a DNS subdomain.
const SEGMENT_MAX: usize = 253;

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Path {
    /// `/api`: the legacy group, which has no versions here.
    LegacyVersions,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(String),
    /// `/apis/<group>/<version>`
    Version(GroupVersion),
    /// `/apis/<group>/<version>/[namespaces/<namespace>/]<resource>[/<name>[/<subresource>]]`
    Resource(ResourcePath),
    /// `/version`
    ServerVersion,
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`
    OpenApiV3,
    /// `/openapi/v3/<path of a group version>`
    OpenApiV3Document(String),
}

/// A group and one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupVersion {
    /// API group.
    pub(crate) group: String,
    /// Version.
    pub(crate) version: String,
}

/// A collection, an object or a subresource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    /// Group and version.
    pub(crate) group_version: GroupVersion,
    /// Namespace, if the path has one.
    pub(crate) namespace: Option<String>,
    /// Plural name of the resource.
    pub(crate) resource: String,
    /// Name of the object.
    pub(crate) name: Option<String>,
    /// Subresource, such as `status`.
    pub(crate) subresource: Option<String>,
}

/// Whether this API owns `path` (so that the composition root hands the request to it).
#[must_use]
pub(crate) fn owns(path: &str) -> bool {
    ["/api", "/apis", "/version", "/openapi"]
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

impl Path {
    /// Parses a raw path; `None` where nothing is served.
    #[must_use]
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        // kubectl asks for `/api/` and `/apis/` in places: one trailing slash is the same there, and only there.
        let segments = match segments.as_slice() {
            [one @ ("api" | "apis" | "version"), ""] => vec![*one],
            _ => segments,
        };
        if segments.iter().any(|segment| !is_segment(segment)) {
            return None;
        }
        match segments.as_slice() {
            ["api"] => Some(Self::LegacyVersions),
            ["version"] => Some(Self::ServerVersion),
            ["openapi", "v2"] => Some(Self::OpenApiV2),
            ["openapi", "v3"] => Some(Self::OpenApiV3),
            ["openapi", "v3", rest @ ..] => Some(Self::OpenApiV3Document(rest.join("/"))),
            ["apis"] => Some(Self::Groups),
            ["apis", group] => Some(Self::Group((*group).to_owned())),
            ["apis", group, version] => Some(Self::Version(GroupVersion::new(group, version))),
            ["apis", group, version, rest @ ..] => {
                ResourcePath::parse(GroupVersion::new(group, version), rest).map(Self::Resource)
            }
            _ => None,
        }
    }
}

impl GroupVersion {
    fn new(group: &str, version: &str) -> Self {
        Self { group: group.to_owned(), version: version.to_owned() }
    }
}

impl ResourcePath {
    fn parse(group_version: GroupVersion, rest: &[&str]) -> Option<Self> {
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (resource, name, subresource) = match rest {
            [resource] => (*resource, None, None),
            [resource, name] => (*resource, Some(*name), None),
            [resource, name, subresource] => (*resource, Some(*name), Some(*subresource)),
            _ => return None,
        };
        Some(Self {
            group_version,
            namespace: namespace.map(str::to_owned),
            resource: resource.to_owned(),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        })
    }
}

fn is_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment.len() <= SEGMENT_MAX
        && segment != "."
        && segment != ".."
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_parse_to_what_they_name() {
        let Some(Path::Resource(path)) =
            Path::parse("/apis/management.cattle.io/v3/namespaces/c-abcde/clusterregistrationtokens/t/status")
        else {
            panic!("must parse");
        };
        assert_eq!(path.namespace.as_deref(), Some("c-abcde"));
        assert_eq!(path.resource, "clusterregistrationtokens");
        assert_eq!(path.name.as_deref(), Some("t"));
        assert_eq!(path.subresource.as_deref(), Some("status"));
        let Some(Path::Resource(path)) = Path::parse("/apis/management.cattle.io/v3/clusters") else {
            panic!("must parse");
        };
        assert_eq!((path.namespace, path.name), (None, None));
        assert_eq!(Path::parse("/apis"), Some(Path::Groups));
        assert_eq!(Path::parse("/apis/"), Some(Path::Groups));
        assert_eq!(
            Path::parse("/openapi/v3/apis/management.cattle.io/v3"),
            Some(Path::OpenApiV3Document("apis/management.cattle.io/v3".into()))
        );
    }

    #[test]
    fn ambiguous_paths_name_nothing() {
        let long = format!("/apis/g/v/clusters/{}", "a".repeat(254));
        for path in [
            "",
            "/",
            "apis",
            "//apis",
            "/apis//v3",
            "/apis/./v3",
            "/apis/../version",
            "/apis/g/v/clusters/",
            "/apis/g/v/clusters/%2e%2e",
            "/apis/g/v/clusters/a%2fb",
            "/apis/g/v/clusters/a%00",
            "/apis/g/v/clusters/a;b",
            "/apis/g/v/clusters/a\\b",
            "/apis/g/v/clusters/ä",
            "/apis/g/v/clusters/a/status/more",
            "/apis/g/v/namespaces/n/clusters/a/status/more",
            "/openapi",
            "/api/v1/nodes",
            long.as_str(),
        ] {
            assert_eq!(Path::parse(path), None, "{path}");
        }
    }

    #[test]
    fn ownership_is_by_whole_segments() {
        for path in ["/api", "/apis/x", "/version", "/openapi/v3"] {
            assert!(owns(path), "{path}");
        }
        for path in ["/apisx", "/v3/connect", "/", "/versions", "/k8s/clusters/c/api"] {
            assert!(!owns(path), "{path}");
        }
    }
}
