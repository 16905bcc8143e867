//! Sets of field paths, and their `FieldsV1` form (KEP-555: `f:` names, `k:` list keys, `v:` set values).
//!
//! A set holds leaves only: scalars, atomic lists and maps, and empty containers. What contains them is owned through
//! them.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

/// One step from an object to a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A field or map entry.
    Field(String),
    /// The entry of a keyed list whose keys have these values (JSON with sorted names).
    Key(String),
    /// The entry of a set with this value (JSON).
    Item(String),
}

/// From the object's root to a leaf.
pub(crate) type Path = Vec<Step>;

/// A set of leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paths(pub(crate) BTreeSet<Path>);

/// How a list or map is merged.
pub(crate) enum Merge {
    /// Entry by entry.
    Each,
    /// Replaced whole.
    Atomic,
    /// A list of unique scalars.
    Set,
    /// A list of objects told apart by these fields.
    Keyed(Vec<String>),
}

impl Merge {
    /// What the schema says; lists are atomic and maps are not unless it says otherwise, as in Kubernetes.
    pub(crate) fn of(schema: Option<&Value>, value: &Value) -> Self {
        let text = |name: &str| schema.and_then(|schema| schema.get(name)).and_then(Value::as_str);
        match value {
            Value::Array(_) => match text("x-kubernetes-list-type") {
                Some("set") => Self::Set,
                Some("map") => {
                    let keys = schema.and_then(|schema| schema.get("x-kubernetes-list-map-keys"));
                    let keys = keys.and_then(Value::as_array).into_iter().flatten();
                    Self::Keyed(keys.filter_map(Value::as_str).map(str::to_owned).collect())
                }
                _ => Self::Atomic,
            },
            Value::Object(_) if text("x-kubernetes-map-type") == Some("atomic") => Self::Atomic,
            Value::Object(_) => Self::Each,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Self::Atomic,
        }
    }
}

/// The schema of a map's entry.
pub(crate) fn schema_of_field<'a>(schema: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    let schema = schema?;
    schema
        .get("properties")
        .and_then(|properties| properties.get(name))
        .or_else(|| schema.get("additionalProperties").filter(|each| each.is_object()))
}

/// The schema of a list's entries.
pub(crate) fn schema_of_items(schema: Option<&Value>) -> Option<&Value> {
    schema?.get("items")
}

/// The step to an entry of a keyed list.
pub(crate) fn key_step(item: &Value, keys: &[String]) -> Step {
    let mut wanted: Vec<&String> = keys.iter().collect();
    wanted.sort();
    let fields: Map<String, Value> =
        wanted.into_iter().map(|key| (key.clone(), item.get(key).cloned().unwrap_or(Value::Null))).collect();
    Step::Key(Value::Object(fields).to_string())
}

impl Paths {
    /// Every leaf of `value`.
    pub(crate) fn of(schema: Option<&Value>, value: &Value) -> Self {
        let mut paths = Self::default();
        let mut at = Vec::new();
        paths.collect(schema, value, &mut at);
        paths
    }

    fn collect(&mut self, schema: Option<&Value>, value: &Value, at: &mut Path) {
        match (Merge::of(schema, value), value) {
            (Merge::Each, Value::Object(fields)) if !fields.is_empty() => {
                for (name, field) in fields {
                    at.push(Step::Field(name.clone()));
                    self.collect(schema_of_field(schema, name), field, at);
                    at.pop();
                }
            }
            (Merge::Set, Value::Array(items)) if !items.is_empty() => {
                for item in items {
                    at.push(Step::Item(item.to_string()));
                    self.0.insert(at.clone());
                    at.pop();
                }
            }
            (Merge::Keyed(keys), Value::Array(items)) if !items.is_empty() => {
                for item in items {
                    at.push(key_step(item, &keys));
                    self.collect(schema_of_items(schema), item, at);
                    at.pop();
                }
            }
            _ => {
                self.0.insert(at.clone());
            }
        }
    }

    /// Reads `fieldsV1`; `None` when it is not what this module writes or Kubernetes would.
    pub(crate) fn from_fields_v1(fields: &Value) -> Option<Self> {
        let mut paths = Self::default();
        paths.read(fields.as_object()?, &mut Vec::new())?;
        Some(paths)
    }

    fn read(&mut self, fields: &Map<String, Value>, at: &mut Path) -> Option<()> {
        for (name, children) in fields {
            if name == "." {
                continue;
            }
            let (prefix, rest) = name.split_once(':')?;
            at.push(match prefix {
                "f" => Step::Field(rest.to_owned()),
                "k" => Step::Key(rest.to_owned()),
                "v" => Step::Item(rest.to_owned()),
                _ => return None,
            });
            let children = children.as_object()?;
            if children.keys().all(|name| name == ".") {
                self.0.insert(at.clone());
            } else {
                self.read(children, at)?;
            }
            at.pop();
        }
        Some(())
    }

    /// The `fieldsV1` form.
    pub(crate) fn to_fields_v1(&self) -> Value {
        let mut root = Map::new();
        for path in &self.0 {
            let mut at = &mut root;
            for step in path {
                let next = at.entry(step.to_string()).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(fields) = next else { break };
                at = fields;
            }
        }
        Value::Object(root)
    }

    /// The leaves that are also in `other`.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// Takes the leaves of `other` out.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.0.retain(|path| !other.0.contains(path));
    }

    /// Whether a leaf at or below `path` is in the set.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        self.0.range(path.clone()..).next().is_some_and(|found| found.starts_with(path))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "f:{name}"),
            Self::Key(keys) => write!(f, "k:{keys}"),
            Self::Item(value) => write!(f, "v:{value}"),
        }
    }
}

/// A path as error messages write it: `.spec.displayName`, `.status.conditions[type="Ready"].status`.
pub(crate) fn readable(path: &Path) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) => {
                text.push('.');
                text.push_str(name);
            }
            Step::Item(value) => {
                text.push_str(&format!("[={value}]"));
            }
            Step::Key(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                text.push_str(&format!("[{}]", keys.join(",")));
            }
        }
    }
    text
}

/// The value at a path.
pub(crate) fn get<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    let Some((step, rest)) = path.split_first() else {
        return Some(value);
    };
    let next = match (step, value) {
        (Step::Field(name), Value::Object(fields)) => fields.get(name),
        (Step::Item(item), Value::Array(items)) => items.iter().find(|have| is_item(have, item)),
        (Step::Key(keys), Value::Array(items)) => items.iter().find(|have| has_keys(have, keys)),
        _ => None,
    };
    get(next?, rest)
}

/// Removes the value at a path, and what becomes empty by that.
pub(crate) fn remove(value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    match (step, value) {
        (Step::Field(name), Value::Object(fields)) => {
            let empty = fields.get_mut(name).is_some_and(|next| remove_below(next, rest));
            if empty {
                fields.remove(name);
            }
        }
        (step, Value::Array(items)) => {
            let at = items.iter().position(|have| match step {
                Step::Item(item) => is_item(have, item),
                Step::Key(keys) => has_keys(have, keys),
                Step::Field(_) => false,
            });
            if let Some(at) = at
                && items.get_mut(at).is_some_and(|next| remove_below(next, rest))
            {
                items.remove(at);
            }
        }
        _ => {}
    }
}

/// Whether `value` itself has to go.
fn remove_below(value: &mut Value, rest: &[Step]) -> bool {
    if rest.is_empty() {
        return true;
    }
    remove(value, rest);
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether a set's entry is the one that a step names.
fn is_item(have: &Value, item: &str) -> bool {
    serde_json::from_str::<Value>(item).is_ok_and(|item| item == *have)
}

fn has_keys(item: &Value, keys: &str) -> bool {
    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
    !keys.is_empty() && keys.iter().all(|(key, value)| item.get(key).unwrap_or(&Value::Null) == value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"properties": {
            "set": {"x-kubernetes-list-type": "set"},
            "keyed": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            "whole": {"x-kubernetes-map-type": "atomic"},
        }})
    }

    #[test]
    fn leaves_follow_the_schema_and_survive_the_wire() {
        let value = json!({
            "a": {"b": 1, "c": {}}, "list": [1, 2], "set": ["x", "y"], "keyed": [{"type": "T", "v": 1}], "whole": {"x": 1},
        });
        let paths = Paths::of(Some(&schema()), &value);
        let fields = paths.to_fields_v1();
        assert_eq!(
            fields,
            json!({
                "f:a": {"f:b": {}, "f:c": {}}, "f:list": {}, "f:set": {"v:\"x\"": {}, "v:\"y\"": {}},
                "f:keyed": {"k:{\"type\":\"T\"}": {"f:type": {}, "f:v": {}}}, "f:whole": {},
            })
        );
        assert_eq!(Paths::from_fields_v1(&fields), Some(paths));
    }

    #[test]
    fn values_are_found_and_removed_with_what_becomes_empty() {
        let mut value = json!({"a": {"b": {"c": 1}}, "keyed": [{"type": "T", "v": 1}, {"type": "U"}], "set": ["x"]});
        for path in Paths::of(Some(&schema()), &value.clone()).0 {
            assert!(get(&value, &path).is_some(), "{path:?}");
        }
        remove(&mut value, &[Step::Field("a".into()), Step::Field("b".into()), Step::Field("c".into())]);
        remove(&mut value, &[Step::Field("keyed".into()), Step::Key(r#"{"type":"T"}"#.into())]);
        remove(&mut value, &[Step::Field("set".into()), Step::Item("\"x\"".into())]);
        assert_eq!(value, json!({"keyed": [{"type": "U"}]}));
    }

    #[test]
    fn what_is_not_fields_v1_is_refused_or_ignored() {
        for bad in [json!([]), json!({"x": {}}), json!({"f:a": 1}), json!({"q:a": {}})] {
            assert_eq!(Paths::from_fields_v1(&bad), None, "{bad}");
        }
        let dotted = Paths::from_fields_v1(&json!({"f:a": {".": {}, "f:b": {".": {}}}})).unwrap();
        assert_eq!(dotted.to_fields_v1(), json!({"f:a": {"f:b": {}}}));
    }
}
