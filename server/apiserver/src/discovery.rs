//! Discovery: which groups, versions and resources there are, in the old form and in the aggregated one.

use axum::body::Body;
use cattle_api::Resource;
use cattle_api::resource::Verb;
use http::Response;
use serde_json::{Value, json};

use crate::accept::{Accepted, Encoding, Shape, choose};
use crate::path::Path;
use crate::respond;
use crate::review::{self, ReviewGroup};
use crate::status::StatusError;

/// All answers, made once.
pub(crate) struct Discovery {
    version: Value,
    groups: Vec<Group>,
}

struct Group {
    name: &'static str,
    version: &'static str,
    /// `APIResource`s of the old form.
    resources: Vec<Value>,
    /// `APIResourceDiscovery`s of the aggregated form.
    aggregated: Vec<Value>,
}

impl Discovery {
    pub(crate) fn new(kinds: &[&'static Resource], git_version: &str) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for kind in kinds {
            let found = groups.iter_mut().position(|group| group.name == kind.group && group.version == kind.version);
            let at = found.unwrap_or_else(|| {
                groups.push(Group::new(kind.group, kind.version));
                groups.len() - 1
            });
            groups[at].add(kind);
        }
        groups.extend(review::GROUPS.iter().map(Group::of_reviews));
        Self { version: server_version(git_version), groups }
    }

    /// Answers a path that is about the API itself.
    pub(crate) fn answer(&self, path: &Path, accepted: &[Accepted]) -> Result<Response<Body>, StatusError> {
        let value = match path {
            Path::ServerVersion => self.version.clone(),
            Path::LegacyVersions => match aggregated(accepted)? {
                Some(version) => return Ok(list(version, &[])),
                None => json!({"kind": "APIVersions", "versions": [], "serverAddressByClientCIDRs": []}),
            },
            Path::Groups => match aggregated(accepted)? {
                Some(version) => return Ok(list(version, &self.groups)),
                None => json!({
                    "kind": "APIGroupList", "apiVersion": "v1",
                    "groups": self.groups.iter().map(Group::describe).collect::<Vec<_>>(),
                }),
            },
            Path::Group(name) => {
                let group = self.groups.iter().find(|group| group.name == name);
                let mut described = group.ok_or_else(StatusError::no_such_resource)?.describe();
                described["kind"] = Value::from("APIGroup");
                described["apiVersion"] = Value::from("v1");
                described
            }
            Path::Version(wanted) => {
                let found =
                    self.groups.iter().find(|group| group.name == wanted.group && group.version == wanted.version);
                let group = found.ok_or_else(StatusError::no_such_resource)?;
                json!({
                    "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group.group_version(),
                    "resources": group.resources,
                })
            }
            Path::Resource(_) | Path::OpenApiV2 | Path::OpenApiV3 | Path::OpenApiV3Document(_) => {
                return Err(StatusError::no_such_resource());
            }
        };
        choose(accepted, &[Shape::Object]).map(|_| respond::json(200, &value))
    }
}

/// The version of aggregated discovery that the client prefers to the old form, if any.
fn aggregated(accepted: &[Accepted]) -> Result<Option<&'static str>, StatusError> {
    let shapes = [Shape::Object, Shape::Discovery("v2"), Shape::Discovery("v2beta1")];
    let shape = choose(accepted, &shapes)?.shape;
    Ok(if let Shape::Discovery(version) = shape { Some(version) } else { None })
}

fn list(version: &'static str, groups: &[Group]) -> Response<Body> {
    let items: Vec<Value> = groups.iter().map(Group::aggregate).collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items,
    });
    // Clients tell the aggregated form from the old one by this header alone.
    let media_type =
        format!("{};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList", Encoding::Json.media_type());
    respond::bytes(200, &media_type, body.to_string().into_bytes())
}

impl Group {
    fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version, resources: Vec::new(), aggregated: Vec::new() }
    }

    fn of_reviews(reviews: &ReviewGroup) -> Self {
        let mut group = Self::new(reviews.group, reviews.version);
        for (plural, kind) in reviews.reviews {
            let singular = kind.to_ascii_lowercase();
            group.resources.push(json!({
                "name": plural, "singularName": singular, "namespaced": false, "kind": kind, "verbs": ["create"],
            }));
            group.aggregated.push(json!({
                "resource": plural, "responseKind": {"group": reviews.group, "version": reviews.version, "kind": kind},
                "scope": "Cluster", "singularResource": singular, "verbs": ["create"],
            }));
        }
        group
    }

    fn add(&mut self, kind: &Resource) {
        let verbs: Vec<&str> = kind.verbs.iter().map(|verb| verb.as_str()).collect();
        self.resources.push(json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": verbs, "shortNames": kind.short_names, "categories": kind.categories,
        }));
        let response_kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let mut aggregated = json!({
            "resource": kind.plural, "responseKind": response_kind, "singularResource": kind.singular,
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "verbs": verbs, "shortNames": kind.short_names, "categories": kind.categories,
        });
        if kind.has_status {
            let verbs = [Verb::Get.as_str()];
            self.resources.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": verbs,
            }));
            aggregated["subresources"] =
                json!([{"subresource": "status", "responseKind": response_kind, "verbs": verbs}]);
        }
        self.aggregated.push(aggregated);
    }

    fn group_version(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }

    fn describe(&self) -> Value {
        let version = json!({"groupVersion": self.group_version(), "version": self.version});
        json!({"name": self.name, "versions": [version], "preferredVersion": version})
    }

    fn aggregate(&self) -> Value {
        json!({
            "metadata": {"name": self.name, "creationTimestamp": null},
            "versions": [{"version": self.version, "resources": self.aggregated, "freshness": "Current"}],
        })
    }
}

/// `major` and `minor` are those of the Kubernetes API whose behaviour this server follows; `gitVersion` is the server's.
fn server_version(git_version: &str) -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": git_version, "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}
