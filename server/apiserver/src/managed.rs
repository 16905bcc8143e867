//! Who set which field: `metadata.managedFields`, kept on every write, and server-side apply on top of it.
//!
//! The rules are those of Kubernetes (KEP-555), on leaves: an ordinary write gives the writer what it changed and takes
//! it from everybody else; an apply owns exactly what it names, removes what its manager named before and nobody else
//! owns, and conflicts with fields that others own and that it would change.

mod paths;

use serde_json::{Map, Value, json};

use self::paths::{Merge, Path, Paths, Step, get, key_step, readable, remove, schema_of_field, schema_of_items};
use crate::status::{Cause, StatusError};

/// Most entries for ordinary writes that one object keeps; older ones are merged, as in Kubernetes.
const UPDATE_MANAGERS_MAX: usize = 10;

/// Who writes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    pub(crate) api_version: &'a str,
    /// RFC 3339, seconds.
    pub(crate) now: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    manager: String,
    operation: &'static str,
    api_version: String,
    time: String,
    paths: Paths,
}

const APPLY: &str = "Apply";
const UPDATE: &str = "Update";

/// Writes `managedFields` into `new` for a create (`old` is `None`), update or patch.
pub(crate) fn track(schema: &Value, old: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    let schema = with_metadata(schema);
    let mut entries = old.map(entries).unwrap_or_default();
    let (before, after) = (owned(&schema, old.unwrap_or(&Value::Null)), owned(&schema, new));
    let mut changed = Paths::default();
    for path in &after.0 {
        if old.and_then(|old| get(old, path)) != get(new, path) {
            changed.0.insert(path.clone());
        }
    }
    let mut gone = before;
    gone.subtract(&after);
    for entry in &mut entries {
        entry.paths.subtract(&gone);
        if !entry.is(writer, UPDATE) {
            entry.paths.subtract(&changed);
        }
    }
    if !changed.0.is_empty() {
        let at = entries.iter().position(|entry| entry.is(writer, UPDATE));
        let entry = match at {
            Some(at) => &mut entries[at],
            None => {
                entries.push(Entry::new(writer, UPDATE));
                let last = entries.len() - 1;
                &mut entries[last]
            }
        };
        entry.paths.0.extend(changed.0);
        writer.now.clone_into(&mut entry.time);
    }
    store(entries, new);
}

/// Merges an applied configuration into the live object (`None`: it does not exist) and returns the new object.
///
/// # Errors
/// 409 with one cause per field that somebody else owns and the configuration would change, unless `force`.
pub(crate) fn apply(
    schema: &Value,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, StatusError> {
    let schema = with_metadata(schema);
    let mut applied = owned(&schema, config);
    applied.0.retain(|path| path.first() != Some(&Step::Field("status".to_owned())));
    let empty = json!({});
    let base = live.unwrap_or(&empty);
    let mut entries = live.map(entries).unwrap_or_default();
    let taken = conflicts(&entries, &applied, base, config, writer);
    if !taken.is_empty() && !force {
        return Err(conflict(&entries, &taken));
    }
    for (at, path) in &taken {
        entries[*at].paths.0.remove(path);
    }
    let mut merged = base.clone();
    merge(Some(&schema), &mut merged, &without_status(config));
    let before = entries.iter().position(|entry| entry.is(writer, APPLY));
    let mut entry = match before {
        Some(at) => entries.remove(at),
        None => Entry::new(writer, APPLY),
    };
    release(&mut merged, &entry.paths, &applied, &entries);
    if entry.paths != applied {
        writer.now.clone_into(&mut entry.time);
    }
    entry.paths = applied;
    entries.insert(before.unwrap_or(entries.len()), entry);
    store(entries, &mut merged);
    Ok(merged)
}

/// Writes the `managedFields` of an object that was just made from an applied configuration: the applier owns what it
/// named, as far as the object still has it.
pub(crate) fn assign(schema: &Value, config: &Value, object: &mut Value, writer: &Writer<'_>) {
    let schema = with_metadata(schema);
    let mut entry = Entry::new(writer, APPLY);
    entry.paths = owned(&schema, config);
    entry.paths = entry.paths.intersection(&owned(&schema, object));
    store(vec![entry], object);
}

/// Drops from the newest state of `managedFields` what the object no longer has (a strategy may have removed it).
pub(crate) fn settle(schema: &Value, object: &mut Value) {
    let schema = with_metadata(schema);
    let present = owned(&schema, object);
    let mut entries = entries(object);
    for entry in &mut entries {
        entry.paths = entry.paths.intersection(&present);
    }
    store(entries, object);
}

/// The configuration that counts: a status is the server's.
fn without_status(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(fields) = config.as_object_mut() {
        fields.remove("status");
    }
    config
}

fn merge(schema: Option<&Value>, live: &mut Value, config: &Value) {
    match (Merge::of(schema, config), live, config) {
        (Merge::Each, Value::Object(live), Value::Object(config)) => {
            for (name, value) in config {
                match live.get_mut(name) {
                    Some(have) => merge(schema_of_field(schema, name), have, value),
                    None => drop(live.insert(name.clone(), value.clone())),
                }
            }
        }
        (Merge::Set, Value::Array(live), Value::Array(config)) => {
            for item in config {
                if !live.contains(item) {
                    live.push(item.clone());
                }
            }
        }
        (Merge::Keyed(keys), Value::Array(live), Value::Array(config)) => {
            for item in config {
                let step = key_step(item, &keys);
                match live.iter_mut().find(|have| key_step(have, &keys) == step) {
                    Some(have) => merge(schema_of_items(schema), have, item),
                    None => live.push(item.clone()),
                }
            }
        }
        (_, live, config) => config.clone_into(live),
    }
}

/// Removes what the manager named before, names no more, and nobody else owns.
fn release(merged: &mut Value, before: &Paths, applied: &Paths, others: &[Entry]) {
    let is_kept = |path: &Path| applied.covers(path) || others.iter().any(|entry| entry.paths.covers(path));
    for path in &before.0 {
        // An entry of a keyed list goes whole, and while it stays its keys do.
        let entry = path.iter().position(|step| matches!(step, Step::Key(_))).map(|at| path[..=at].to_vec());
        if let Some(entry) = entry {
            if !is_kept(&entry) {
                remove(merged, &entry);
                continue;
            }
            if is_list_key(path) {
                continue;
            }
        }
        let is_leaf = match get(merged, path) {
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(_) => true,
            None => false,
        };
        if is_leaf && !is_kept(path) {
            remove(merged, path);
        }
    }
}

/// Whether a path leads to a field that tells an entry of a keyed list apart.
fn is_list_key(path: &Path) -> bool {
    let [.., Step::Key(keys), Step::Field(name)] = path.as_slice() else {
        return false;
    };
    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
    keys.contains_key(name)
}

fn conflicts(
    entries: &[Entry],
    applied: &Paths,
    live: &Value,
    config: &Value,
    writer: &Writer<'_>,
) -> Vec<(usize, Path)> {
    let mut taken = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        if entry.is(writer, APPLY) {
            continue;
        }
        for path in entry.paths.intersection(applied).0 {
            if get(live, &path) != get(config, &path) {
                taken.push((at, path));
            }
        }
    }
    taken
}

fn conflict(entries: &[Entry], taken: &[(usize, Path)]) -> StatusError {
    let with = |entry: &Entry| format!("\"{}\" using {}", entry.manager, entry.api_version);
    let causes: Vec<Cause> = taken
        .iter()
        .map(|(at, path)| Cause {
            reason: "FieldManagerConflict",
            message: format!("conflict with {}", with(&entries[*at])),
            field: readable(path),
        })
        .collect();
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => {
            let lines: Vec<String> = many.iter().map(|cause| format!("{}: {}", cause.message, cause.field)).collect();
            format!("Apply failed with {} conflicts:\n- {}", many.len(), lines.join("\n- "))
        }
    };
    StatusError::apply_conflict(message, causes)
}

impl Entry {
    fn new(writer: &Writer<'_>, operation: &'static str) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            time: writer.now.to_owned(),
            paths: Paths::default(),
        }
    }

    fn is(&self, writer: &Writer<'_>, operation: &str) -> bool {
        self.operation == operation && self.manager == writer.manager && self.api_version == writer.api_version
    }

    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            manager: text("manager"),
            operation: if text("operation") == APPLY { APPLY } else { UPDATE },
            api_version: text("apiVersion"),
            time: text("time"),
            paths: Paths::from_fields_v1(value.get("fieldsV1")?)?,
        })
    }

    fn write(&self) -> Value {
        json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.paths.to_fields_v1(),
        })
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Entry::read).collect()
}

fn store(mut entries: Vec<Entry>, object: &mut Value) {
    entries.retain(|entry| !entry.paths.0.is_empty());
    cap(&mut entries);
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else {
        return;
    };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        let list = entries.iter().map(Entry::write).collect();
        metadata.insert("managedFields".to_owned(), Value::Array(list));
    }
}

/// Merges the oldest ordinary writers when there are too many, so that an object cannot grow by being written.
fn cap(entries: &mut Vec<Entry>) {
    loop {
        let mut updates: Vec<usize> = (0..entries.len()).filter(|at| entries[*at].operation == UPDATE).collect();
        if updates.len() <= UPDATE_MANAGERS_MAX {
            return;
        }
        updates.sort_by(|a, b| entries[*a].time.cmp(&entries[*b].time));
        let oldest = entries.remove(updates[0]);
        let heir = updates[1] - usize::from(updates[1] > updates[0]);
        let heir = &mut entries[heir];
        "ancient-changes".clone_into(&mut heir.manager);
        heir.paths.0.extend(oldest.paths.0);
    }
}

/// The leaves that have owners: all but what names the object and what the server sets.
fn owned(schema: &Value, object: &Value) -> Paths {
    let Value::Object(fields) = object else {
        return Paths::default();
    };
    let mut fields: Map<String, Value> = fields.clone();
    fields.remove("apiVersion");
    fields.remove("kind");
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        metadata.retain(|name, _| {
            matches!(name.as_str(), "labels" | "annotations" | "finalizers" | "ownerReferences" | "generateName")
        });
    }
    if fields.get("metadata").and_then(Value::as_object).is_some_and(Map::is_empty) {
        fields.remove("metadata");
    }
    if fields.is_empty() {
        return Paths::default();
    }
    Paths::of(Some(schema), &Value::Object(fields))
}

fn with_metadata(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["properties"]["metadata"] = json!({"properties": {
        "finalizers": {"x-kubernetes-list-type": "set"},
        "ownerReferences": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"]},
    }});
    schema
}

#[cfg(test)]
mod tests;
