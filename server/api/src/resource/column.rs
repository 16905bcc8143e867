//! Columns of `kubectl get`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::Value;

/// One column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// How to show the value.
    pub kind: ColumnType,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: i32,
    /// What the column says.
    pub description: String,
    path: String,
}

/// How to show a column's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A time, shown as an age.
    Date,
}

impl ColumnType {
    /// The word of Kubernetes' tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Date => "date",
        }
    }
}

impl Column {
    pub(super) fn from_definition(definition: CustomResourceColumnDefinition) -> Self {
        let kind = match definition.type_.as_str() {
            "integer" => ColumnType::Integer,
            "boolean" => ColumnType::Boolean,
            "date" => ColumnType::Date,
            _ => ColumnType::String,
        };
        Self {
            name: definition.name,
            kind,
            priority: definition.priority.unwrap_or_default(),
            description: definition.description.unwrap_or_default(),
            path: definition.json_path,
        }
    }

    /// The value of this column in an object's JSON, or null. A list becomes its items with commas between.
    #[must_use]
    pub fn value(&self, object: &Value) -> Value {
        match lookup(object, &self.path) {
            Some(Value::Array(items)) => {
                let text = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
                Value::String(items.iter().map(text).collect::<Vec<_>>().join(","))
            }
            Some(value) => value.clone(),
            None => Value::Null,
        }
    }
}

/// The part of JSONPath that columns use: `.a.b` and `.a[?(@.key=="value")].b`.
fn lookup<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    let mut current = root;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[?(@.") {
            let (filter, after) = after.split_once(")]")?;
            let (key, wanted) = filter.split_once("==")?;
            let wanted = wanted.trim_matches(['"', '\'']);
            current = current.as_array()?.iter().find(|item| item.get(key).and_then(Value::as_str) == Some(wanted))?;
            rest = after;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            current = current.get(&after[..end])?;
            rest = &after[end..];
        }
    }
    Some(current)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_columns() {
        let object = json!({
            "spec": {"displayName": "prod", "clusters": ["a", "b"]},
            "status": {"conditions": [{"type": "Connected", "status": "True"}, {"type": "Ready", "status": "False"}]},
        });
        let value = |path: &str| lookup(&object, path).cloned();
        assert_eq!(value(".spec.displayName"), Some(json!("prod")));
        assert_eq!(value(r#".status.conditions[?(@.type=="Ready")].status"#), Some(json!("False")));
        for missing in [".spec.nothing", ".status.conditions[?(@.type==\"Other\")].status", ".spec[?(@.a==\"b\")]", "x"]
        {
            assert_eq!(value(missing), None, "{missing}");
        }
    }

    #[test]
    fn a_list_is_shown_with_commas() {
        let column = Column {
            name: "Clusters".to_owned(),
            kind: ColumnType::String,
            priority: 0,
            description: String::new(),
            path: ".spec.clusters".to_owned(),
        };
        assert_eq!(column.value(&json!({"spec": {"clusters": ["a", "b"]}})), json!("a,b"));
        assert_eq!(column.value(&json!({})), Value::Null);
    }
}
