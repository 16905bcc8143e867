//! OpenAPI version 2 ("Swagger"), for kubectl before 1.27: definitions, and of the operations what such clients look for.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::operations::{WRITE_PARAMETERS, paths};
use super::{add_schemas, group_version_kind, meta};
use crate::served::Served;

/// Prefix of references between schemas of version 2.
const DEFINITIONS: &str = "#/definitions/";

pub(super) fn document(kinds: &[Arc<Served>], version: &str) -> Value {
    let (mut all, mut definitions) = (Map::new(), meta::schemas(DEFINITIONS));
    for served in kinds {
        add_schemas(&mut definitions, served, DEFINITIONS, |metadata| metadata);
        // Clients look for the parameters of `patch` to learn whether dry runs and field validation are possible.
        let [_, _, object, _] = paths(served);
        if let Some(path) = object {
            all.insert(path, json!({"patch": patch(served)}));
        }
    }
    definitions.values_mut().for_each(simplify);
    json!({"swagger": "2.0", "info": {"title": "Cattle", "version": version}, "paths": all, "definitions": definitions})
}

fn patch(served: &Served) -> Value {
    let parameters: Vec<Value> = WRITE_PARAMETERS
        .iter()
        .map(|(name, kind)| json!({"name": name, "in": "query", "type": kind, "uniqueItems": true}))
        .collect();
    let mut gvk = group_version_kind(served, served.resource.kind);
    json!({
        "operationId": format!("patch{}", served.resource.kind), "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": gvk[0].take(),
    })
}

/// Takes out what version 2 cannot say. A schema with less in it accepts more, which is the safe side: the server checks.
fn simplify(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for name in ["nullable", "oneOf", "anyOf", "allOf", "not"] {
        fields.remove(name);
    }
    let open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let mixed = fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    if open || mixed {
        fields.remove("type");
        fields.remove("properties");
    }
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(simplify),
            ("items" | "additionalProperties", value) => simplify(value),
            _ => {}
        }
    }
}
