//! Structural schemas (OpenAPI v3 as in a CustomResourceDefinition) at work: unknown fields, defaults, validation.
//!
//! Pure functions over JSON. What a schema cannot say is said by the kind's own strategy afterwards.

use serde_json::{Map, Value};

use crate::field::FieldError;

/// Most errors that are collected for one object.
const ERRORS_MAX: usize = 32;

/// Removes every field that the schema does not know and returns their paths. `apiVersion`, `kind` and `metadata` of
/// the object itself stay.
pub(crate) fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Value::Object(fields) = object {
        let properties = schema.get("properties");
        fields.retain(|name, value| {
            if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                return true;
            }
            match properties.and_then(|properties| properties.get(name)) {
                Some(property) => {
                    prune_value(property, value, name, &mut unknown);
                    true
                }
                None => {
                    unknown.push(name.clone());
                    false
                }
            }
        });
    }
    unknown
}

fn prune_value(schema: &Value, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let additional = schema.get("additionalProperties");
            let open = is_open(schema) || matches!(additional, Some(Value::Bool(true)));
            fields.retain(|name, value| {
                let path = format!("{path}.{name}");
                if let Some(property) = properties.and_then(|properties| properties.get(name)) {
                    prune_value(property, value, &path, unknown);
                } else if let Some(each @ Value::Object(_)) = additional {
                    prune_value(each, value, &path, unknown);
                } else if !open {
                    unknown.push(path);
                    return false;
                }
                true
            });
        }
        Value::Array(items) => {
            if let Some(each) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    prune_value(each, item, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a schema keeps fields that it does not list.
fn is_open(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
        || (schema.get("type").is_none() && schema.get("properties").is_none())
        || (schema.get("type") == Some(&Value::from("object"))
            && schema.get("properties").is_none()
            && schema.get("additionalProperties").is_none()
            && schema.get("x-kubernetes-embedded-resource").is_some())
}

/// Fills in the schema's defaults where a field is absent, and drops nulls that the schema does not allow (Kubernetes
/// reads such a null as "not set").
pub(crate) fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            default_properties(schema, fields);
            if let Some(each @ Value::Object(_)) = schema.get("additionalProperties") {
                fields.values_mut().for_each(|value| default(each, value));
            }
        }
        Value::Array(items) => {
            if let Some(each) = schema.get("items") {
                items.iter_mut().for_each(|item| default(each, item));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn default_properties(schema: &Value, fields: &mut Map<String, Value>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    for (name, property) in properties {
        let nullable = property.get("nullable") == Some(&Value::Bool(true));
        if fields.get(name) == Some(&Value::Null) && !nullable && property.get("type").is_some() {
            fields.remove(name);
        }
        if !fields.contains_key(name)
            && let Some(value) = property.get("default")
        {
            fields.insert(name.clone(), value.clone());
        }
        if let Some(value) = fields.get_mut(name) {
            default(property, value);
        }
    }
}

/// Everything in `object` that breaks the schema, `metadata` excepted.
pub(crate) fn validate(schema: &Value, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata")
            && let Some(value) = object.get(name)
        {
            validate_value(property, value, name, &mut errors);
        }
    }
    required(schema, object, "", &mut errors);
    errors
}

fn validate_value(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if errors.len() >= ERRORS_MAX || (value.is_null() && schema.get("nullable") == Some(&Value::Bool(true))) {
        return;
    }
    if let Some(wanted) = wrong_type(schema, value) {
        errors.push(FieldError::wrong_type(path, type_name(value), wanted));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let supported: Vec<String> = allowed.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        errors.push(FieldError::not_supported(path, value, &supported));
    }
    match value {
        Value::String(text) => validate_text(schema, text, path, errors),
        Value::Number(number) => validate_number(schema, number.as_f64(), value, path, errors),
        Value::Array(items) => validate_items(schema, items, path, errors),
        Value::Object(fields) => validate_fields(schema, value, fields, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
}

fn validate_text(schema: &Value, text: &str, path: &str, errors: &mut Vec<FieldError>) {
    let length = text.chars().count();
    if let Some(limit) = limit(schema, "maxLength").filter(|limit| length > *limit) {
        errors.push(FieldError::too_long(path, limit));
    }
    if let Some(least) = limit(schema, "minLength").filter(|least| length < *least) {
        let detail = format!("should be at least {least} chars long");
        errors.push(FieldError::invalid(path, &Value::from(text), detail));
    }
}

fn validate_number(schema: &Value, number: Option<f64>, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let (Some(number), bound) = (number, |name: &str| schema.get(name).and_then(Value::as_f64)) else {
        return;
    };
    if let Some(least) = bound("minimum").filter(|least| number < *least) {
        let detail = format!("should be greater than or equal to {least}");
        errors.push(FieldError::invalid(path, value, detail));
    }
    if let Some(most) = bound("maximum").filter(|most| number > *most) {
        let detail = format!("should be less than or equal to {most}");
        errors.push(FieldError::invalid(path, value, detail));
    }
}

fn validate_items(schema: &Value, items: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    if let Some(limit) = limit(schema, "maxItems").filter(|limit| items.len() > *limit) {
        errors.push(FieldError::too_many(path, items.len(), limit));
    }
    if let Some(least) = limit(schema, "minItems").filter(|least| items.len() < *least) {
        let detail = format!("should have at least {least} items");
        errors.push(FieldError::invalid(path, &Value::from(items.len()), detail));
    }
    if schema.get("x-kubernetes-list-type") == Some(&Value::from("set")) {
        for (index, item) in items.iter().enumerate() {
            if items[..index].contains(item) {
                errors.push(FieldError::duplicate(format!("{path}[{index}]"), item));
            }
        }
    }
    if let Some(each) = schema.get("items") {
        for (index, item) in items.iter().enumerate() {
            validate_value(each, item, &format!("{path}[{index}]"), errors);
        }
    }
}

fn validate_fields(
    schema: &Value,
    value: &Value,
    fields: &Map<String, Value>,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    if let Some(limit) = limit(schema, "maxProperties").filter(|limit| fields.len() > *limit) {
        errors.push(FieldError::too_many(path, fields.len(), limit));
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let additional = schema.get("additionalProperties").filter(|each| each.is_object());
    for (name, field) in fields {
        let each = properties.and_then(|properties| properties.get(name)).or(additional);
        if let Some(each) = each {
            validate_value(each, field, &format!("{path}.{name}"), errors);
        }
    }
    required(schema, value, path, errors);
}

fn required(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let names = schema.get("required").and_then(Value::as_array);
    for name in names.into_iter().flatten().filter_map(Value::as_str) {
        if name != "metadata" && value.get(name).is_none() {
            let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            errors.push(FieldError::required(field, ""));
        }
    }
}

fn limit(schema: &Value, name: &str) -> Option<usize> {
    schema.get(name).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok())
}

/// The type that the schema wants, if `value` is of another.
fn wrong_type<'a>(schema: &'a Value, value: &Value) -> Option<&'a str> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return (!value.is_string() && !value.is_i64() && !value.is_u64()).then_some("integer or string");
    }
    let wanted = schema.get("type").and_then(Value::as_str)?;
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    (!fits).then_some(wanted)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object", "required": ["spec"],
            "properties": {
                "spec": {
                    "type": "object", "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "minLength": 2, "maxLength": 5},
                        "ttl": {"type": "integer", "minimum": 0.0, "maximum": 10.0},
                        "enabled": {"type": "boolean", "default": true},
                        "context": {"type": "string", "enum": ["cluster", "project"]},
                        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                        "rules": {"type": "array", "maxItems": 2, "items": {
                            "type": "object", "properties": {"verbs": {"type": "array", "items": {"type": "string"}}}}},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        "maybe": {"type": "string", "nullable": true},
                        "port": {"x-kubernetes-int-or-string": true},
                    }
                }
            }
        })
    }

    #[test]
    fn unknown_fields_go_and_are_named() {
        let mut object = json!({
            "apiVersion": "x/v1", "kind": "X", "metadata": {"name": "a"}, "extra": 1,
            "spec": {"name": "abc", "other": 1, "labels": {"a": "b"}, "rules": [{"verbs": [], "x": 1}], "free": {"y": 1}},
        });
        let unknown = prune(&schema(), &mut object);
        assert_eq!(unknown, ["extra", "spec.other", "spec.rules[0].x"]);
        assert_eq!(
            object["spec"],
            json!({"name": "abc", "labels": {"a": "b"}, "rules": [{"verbs": []}], "free": {"y": 1}})
        );
        assert_eq!(object["metadata"]["name"], "a");
    }

    #[test]
    fn defaults_fill_absent_fields_and_plain_nulls() {
        let mut object = json!({"spec": {"enabled": null, "maybe": null}});
        default(&schema(), &mut object);
        assert_eq!(object, json!({"spec": {"enabled": true, "maybe": null}}));
        let mut object = json!({"spec": {"enabled": false}});
        default(&schema(), &mut object);
        assert_eq!(object["spec"]["enabled"], false);
    }

    #[test]
    fn every_broken_rule_is_a_cause() {
        for (spec, field, reason) in [
            (json!({}), "spec.name", "FieldValueRequired"),
            (json!({"name": 1}), "spec.name", "FieldValueTypeInvalid"),
            (json!({"name": "a"}), "spec.name", "FieldValueInvalid"),
            (json!({"name": "abcdef"}), "spec.name", "FieldValueTooLong"),
            (json!({"name": "abc", "ttl": -1}), "spec.ttl", "FieldValueInvalid"),
            (json!({"name": "abc", "ttl": 11}), "spec.ttl", "FieldValueInvalid"),
            (json!({"name": "abc", "ttl": 1.5}), "spec.ttl", "FieldValueTypeInvalid"),
            (json!({"name": "abc", "context": "x"}), "spec.context", "FieldValueNotSupported"),
            (json!({"name": "abc", "labels": {"a": 1}}), "spec.labels.a", "FieldValueTypeInvalid"),
            (json!({"name": "abc", "rules": [{}, {}, {}]}), "spec.rules", "FieldValueTooMany"),
            (json!({"name": "abc", "rules": [{"verbs": [1]}]}), "spec.rules[0].verbs[0]", "FieldValueTypeInvalid"),
            (json!({"name": "abc", "port": true}), "spec.port", "FieldValueTypeInvalid"),
        ] {
            let errors = validate(&schema(), &json!({"spec": spec}));
            assert_eq!(errors.len(), 1, "{spec} {errors:?}");
            assert_eq!((errors[0].field(), errors[0].cause().reason), (field, reason), "{spec}");
        }
        assert_eq!(validate(&schema(), &json!({}))[0].to_string(), "spec: Required value");
        assert!(validate(&schema(), &json!({"spec": {"name": "abc", "maybe": null, "port": "http"}})).is_empty());
    }
}
