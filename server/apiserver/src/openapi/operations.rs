//! Paths and operations of a kind. Clients read from them which query parameters a verb takes.

use serde_json::{Map, Value, json};

use super::{group_version_kind, meta, schema_name};
use crate::served::Served;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const LIST_PARAMETERS: [(&str, &str); 10] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
pub(super) const WRITE_PARAMETERS: [(&str, &str); 3] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const DELETE_PARAMETERS: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// Paths of a kind: all namespaces, the collection, an object, its status.
pub(super) fn paths(served: &Served) -> [Option<String>; 4] {
    let resource = served.resource;
    let base = format!("/apis/{}", resource.api_version());
    let collection = if resource.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{base}/{}", resource.plural)
    };
    let object = format!("{collection}/{{name}}");
    let status = resource.has_status.then(|| format!("{object}/status"));
    let everywhere = resource.namespaced.then(|| format!("{base}/{}", resource.plural));
    [everywhere, Some(collection), Some(object), status]
}

pub(super) fn add(paths_of_all: &mut Map<String, Value>, served: &Served, prefix: &str) {
    let operation = Operations { served, prefix };
    let [everywhere, collection, object, status] = paths(served);
    if let Some(path) = everywhere {
        paths_of_all.insert(path.clone(), with_parameters(&path, json!({"get": operation.list(true)})));
    }
    if let Some(path) = collection {
        let item = json!({"get": operation.list(false), "post": operation.create(), "delete": operation.delete_all()});
        paths_of_all.insert(path.clone(), with_parameters(&path, item));
    }
    if let Some(path) = object {
        let item = json!({
            "get": operation.get(""), "put": operation.update(), "patch": operation.patch(), "delete": operation.delete(),
        });
        paths_of_all.insert(path.clone(), with_parameters(&path, item));
    }
    if let Some(path) = status {
        paths_of_all.insert(path.clone(), with_parameters(&path, json!({"get": operation.get("Status")})));
    }
}

struct Operations<'a> {
    served: &'a Served,
    prefix: &'a str,
}

impl Operations<'_> {
    fn list(&self, everywhere: bool) -> Value {
        let suffix = if everywhere { "ForAllNamespaces" } else { "" };
        let id = format!("list{}{suffix}", self.id());
        self.operation("list", &id, &LIST_PARAMETERS, None, &self.served.resource.list_kind(), "200")
    }

    fn get(&self, sub: &str) -> Value {
        self.operation("get", &format!("read{}{sub}", self.id()), &[], None, self.served.resource.kind, "200")
    }

    fn create(&self) -> Value {
        let kind = self.served.resource.kind;
        let body = self.body(kind);
        self.operation("post", &format!("create{}", self.id()), &WRITE_PARAMETERS, Some(body), kind, "201")
    }

    fn update(&self) -> Value {
        let kind = self.served.resource.kind;
        let body = self.body(kind);
        self.operation("put", &format!("replace{}", self.id()), &WRITE_PARAMETERS, Some(body), kind, "200")
    }

    fn patch(&self) -> Value {
        let any = json!({"schema": {"type": "object"}});
        let content: Map<String, Value> =
            ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
                .into_iter()
                .map(|media| (media.to_owned(), any.clone()))
                .collect();
        let mut parameters = WRITE_PARAMETERS.to_vec();
        parameters.push(("force", "boolean"));
        let id = format!("patch{}", self.id());
        self.operation("patch", &id, &parameters, Some(json!({"content": content})), self.served.resource.kind, "200")
    }

    fn delete(&self) -> Value {
        let schema = json!({"$ref": format!("{}{}", self.prefix, meta::DELETE_OPTIONS)});
        let body = json!({"content": {JSON: {"schema": schema}}});
        let id = format!("delete{}", self.id());
        self.operation("delete", &id, &DELETE_PARAMETERS, Some(body), self.served.resource.kind, "200")
    }

    fn delete_all(&self) -> Value {
        let mut parameters = DELETE_PARAMETERS.to_vec();
        parameters.extend([("fieldSelector", "string"), ("labelSelector", "string")]);
        let (id, kind) = (format!("deleteCollection{}", self.id()), self.served.resource.list_kind());
        self.operation("deletecollection", &id, &parameters, None, &kind, "200")
    }

    fn operation(
        &self,
        action: &str,
        id: &str,
        parameters: &[(&str, &str)],
        body: Option<Value>,
        answer: &str,
        code: &str,
    ) -> Value {
        let schema = json!({"schema": {"$ref": format!("{}{}", self.prefix, schema_name(self.served, answer))}});
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|(name, kind)| json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}}))
            .collect();
        let mut gvk = group_version_kind(self.served, self.served.resource.kind);
        let mut operation = json!({
            "operationId": id, "parameters": parameters, "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk[0].take(),
            "responses": {code: {"description": "OK", "content": {JSON: schema, YAML: schema}}},
        });
        if let Some(body) = body {
            operation["requestBody"] = body;
        }
        operation
    }

    fn body(&self, kind: &str) -> Value {
        let schema = json!({"schema": {"$ref": format!("{}{}", self.prefix, schema_name(self.served, kind))}});
        json!({"content": {JSON: schema, YAML: schema}, "required": true})
    }

    /// `ManagementCattleIoV3Cluster`
    fn id(&self) -> String {
        let resource = self.served.resource;
        let words = resource.group.split('.').chain([resource.version, resource.kind]);
        words
            .flat_map(|word| {
                let mut letters = word.chars();
                letters.next().into_iter().flat_map(char::to_uppercase).chain(letters)
            })
            .collect()
    }
}

fn with_parameters(path: &str, mut item: Value) -> Value {
    let parameters: Vec<Value> = ["name", "namespace"]
        .into_iter()
        .filter(|name| path.contains(&format!("{{{name}}}")))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    item["parameters"] = Value::Array(parameters);
    item
}
