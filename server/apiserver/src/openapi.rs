//! OpenAPI documents: version 3 per group version, as `kubectl explain` and `kubectl apply` read them, and version 2 for
//! older kubectl.

mod meta;
mod operations;
mod protobuf;
mod v2;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::accept::{Accepted, Encoding, Shape, choose};
use crate::query::Query;
use crate::respond;
use crate::served::Served;
use crate::status::StatusError;

/// Prefix of references between schemas of version 3.
const COMPONENTS: &str = "#/components/schemas/";
/// Media type of the protobuf form of version 2, as clients know it.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// All documents, made once.
pub(crate) struct OpenApi {
    index: Value,
    /// By path below `/openapi/v3/`.
    documents: BTreeMap<String, Document>,
    v2: Document,
    v2_protobuf: Document,
}

struct Document {
    body: Bytes,
    hash: String,
}

impl OpenApi {
    pub(crate) fn new(kinds: &[Arc<Served>], version: &str) -> Self {
        let mut groups: BTreeMap<String, Vec<&Served>> = BTreeMap::new();
        for served in kinds {
            groups.entry(format!("apis/{}", served.resource.api_version())).or_default().push(served);
        }
        let documents: BTreeMap<String, Document> = groups
            .into_iter()
            .map(|(path, kinds)| (path, Document::new(document(&kinds, version).to_string())))
            .collect();
        let paths: Map<String, Value> = documents
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        let second = v2::document(kinds, version);
        Self {
            index: json!({"paths": paths}),
            documents,
            v2_protobuf: Document::new(protobuf::encode(&second)),
            v2: Document::new(second.to_string()),
        }
    }

    /// `/openapi/v3`
    pub(crate) fn index(&self) -> Response<Body> {
        respond::json(200, &self.index)
    }

    /// `/openapi/v3/<group version>`
    pub(crate) fn document(
        &self,
        path: &str,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, StatusError> {
        let document = self.documents.get(path).ok_or_else(StatusError::no_such_resource)?;
        let mut response = document.answer(Encoding::Json.media_type(), headers);
        // Under its hash a document never changes.
        if query.get("hash") == Some(&document.hash) {
            let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
            response.headers_mut().insert(CACHE_CONTROL, forever);
        }
        Ok(response)
    }

    /// `/openapi/v2`
    pub(crate) fn v2(&self, accepted: &[Accepted], headers: &HeaderMap) -> Result<Response<Body>, StatusError> {
        let accepted = choose(accepted, &[Shape::Object, Shape::OpenApiV2Protobuf])?;
        Ok(if accepted.shape == Shape::OpenApiV2Protobuf {
            self.v2_protobuf.answer(PROTOBUF, headers)
        } else {
            self.v2.answer(Encoding::Json.media_type(), headers)
        })
    }
}

impl Document {
    fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Self { hash: format!("{:016X}", hasher.finish()), body }
    }

    fn answer(&self, media_type: &'static str, headers: &HeaderMap) -> Response<Body> {
        let tag = format!("\"{}\"", self.hash);
        let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let mut response = Response::new(if known { Body::empty() } else { Body::from(self.body.clone()) });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            response.headers_mut().insert(ETAG, tag);
        }
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response
    }
}

fn document(kinds: &[&Served], version: &str) -> Value {
    let (mut paths, mut schemas) = (Map::new(), meta::schemas(COMPONENTS));
    for served in kinds {
        operations::add(&mut paths, served, COMPONENTS);
        add_schemas(&mut schemas, served, COMPONENTS, |metadata| json!({"allOf": [metadata]}));
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "Cattle", "version": version}, "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// Adds the schemas of a kind and its list. `refer` wraps a reference so that it can have neighbours.
fn add_schemas(schemas: &mut Map<String, Value>, served: &Served, prefix: &str, refer: impl Fn(Value) -> Value) {
    let resource = served.resource;
    let name = schema_name(served, resource.kind);
    let reference = |name: &str| refer(json!({"$ref": format!("{prefix}{name}")}));
    let described = |mut value: Value, text: &str| {
        value["description"] = Value::from(text);
        value
    };
    let mut schema = served.schema.clone();
    schema["properties"]["apiVersion"] = json!({"type": "string", "description": meta::API_VERSION});
    schema["properties"]["kind"] = json!({"type": "string", "description": meta::KIND});
    schema["properties"]["metadata"] = described(reference(meta::OBJECT_META), meta::METADATA);
    schema["x-kubernetes-group-version-kind"] = group_version_kind(served, resource.kind);
    let list_kind = resource.list_kind();
    let list = json!({
        "description": format!("A list of {} objects.", resource.kind), "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": meta::API_VERSION},
            "kind": {"type": "string", "description": meta::KIND},
            "metadata": described(reference(meta::LIST_META), meta::METADATA),
            "items": {"type": "array", "description": "The objects.", "items": {"$ref": format!("{prefix}{name}")}},
        },
        "x-kubernetes-group-version-kind": group_version_kind(served, &list_kind),
    });
    schemas.insert(name, schema);
    schemas.insert(schema_name(served, &list_kind), list);
}

/// `io.cattle.management.v3.Cluster`: the group backwards, as for custom resources.
fn schema_name(served: &Served, kind: &str) -> String {
    let group: Vec<&str> = served.resource.group.rsplit('.').collect();
    format!("{}.{}.{kind}", group.join("."), served.resource.version)
}

fn group_version_kind(served: &Served, kind: &str) -> Value {
    json!([{"group": served.resource.group, "version": served.resource.version, "kind": kind}])
}
