//! Tables (`meta.k8s.io/v1 Table`): what `kubectl get` shows, made from a kind's columns.

use cattle_api::resource::{Column, ColumnType};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What each row carries beside its cells; query parameter `includeObject`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    pub(crate) fn parse(value: Option<&str>) -> Option<Self> {
        match value {
            None | Some("Metadata") => Some(Self::Metadata),
            Some("None") => Some(Self::None),
            Some("Object") => Some(Self::Object),
            Some(_) => None,
        }
    }
}

/// A table of `objects`. `list_metadata` is the list's (or, for one object, made of its resourceVersion). Without
/// `headers` the columns are left out, as in all events of a watch but the first.
pub(crate) fn table(
    columns: &[Column],
    objects: &[Value],
    list_metadata: &Value,
    include: IncludeObject,
    headers: bool,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects.iter().map(|object| row(columns, object, include, now)).collect();
    let definitions = if headers { definitions(columns) } else { Vec::new() };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

fn definitions(columns: &[Column]) -> Vec<Value> {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "priority": 0,
        "description": "Name of the object, unique in its namespace or among all of its kind.",
    });
    let rest = columns.iter().map(|column| {
        json!({
            "name": column.name, "type": column.kind.as_str(), "format": "", "priority": column.priority,
            "description": column.description,
        })
    });
    std::iter::once(name).chain(rest).collect()
}

fn row(columns: &[Column], object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let name = object.pointer("/metadata/name").cloned().unwrap_or(Value::Null);
    let cells: Vec<Value> =
        std::iter::once(name).chain(columns.iter().map(|column| cell(column, object, now))).collect();
    match include {
        IncludeObject::None => json!({"cells": cells}),
        IncludeObject::Metadata => json!({"cells": cells, "object": partial_metadata(object)}),
        IncludeObject::Object => json!({"cells": cells, "object": object}),
    }
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let value = column.value(object);
    match (column.kind, &value) {
        (ColumnType::Date, Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(then) => Value::String(age(now.as_second() - then.as_second())),
            Err(_) => Value::String("<invalid>".to_owned()),
        },
        (ColumnType::Date, _) => Value::String("<unknown>".to_owned()),
        _ => value,
    }
}

/// A span in seconds as kubectl shows ages: two units at most, fewer the longer it is.
fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let with = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..=119 => format!("{seconds}s"),
        120..=599 => with(minutes, 'm', seconds % 60, 's'),
        600..=10_799 => format!("{minutes}m"),
        10_800..=28_799 => with(hours, 'h', minutes % 60, 'm'),
        28_800..=172_799 => format!("{hours}h"),
        172_800..=691_199 => with(days, 'd', hours % 24, 'h'),
        691_200..=63_071_999 => format!("{days}d"),
        63_072_000..=252_287_999 => with(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_like_kubectl() {
        for (seconds, wanted) in [
            (0, "0s"),
            (-1, "0s"),
            (-5, "<invalid>"),
            (90, "90s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (7260, "121m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (30_000, "8h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (864_000, "10d"),
            (63_072_000, "2y"),
            (70_000_000, "2y80d"),
            (300_000_000, "9y"),
        ] {
            assert_eq!(age(seconds), wanted, "{seconds}");
        }
    }

    #[test]
    fn a_table_has_a_cell_per_column_and_what_was_asked_for_beside_them() {
        let columns = cattle_api::resource::CLUSTER.columns();
        let object = json!({
            "metadata": {"name": "c-abcde", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"displayName": "prod"},
            "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Ok"}]},
        });
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        let table = table(&columns, std::slice::from_ref(&object), &json!({}), IncludeObject::Metadata, true, now);
        assert_eq!(table["columnDefinitions"].as_array().unwrap().len(), columns.len() + 1);
        let cells = &table["rows"][0]["cells"];
        assert_eq!(cells, &json!(["c-abcde", "prod", "True", null, null, "Ok", "5m"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert!(table["rows"][0]["object"].get("spec").is_none());
    }
}
