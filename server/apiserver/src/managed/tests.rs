use serde_json::{Value, json};

use super::*;

fn writer(manager: &str) -> Writer<'_> {
    Writer { manager, api_version: "g/v1", now: "2026-01-01T00:00:00Z" }
}

fn schema() -> Value {
    json!({"properties": {
        "spec": {"properties": {
            "a": {}, "b": {}, "labels": {}, "list": {"type": "array"},
            "keyed": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        }},
        "status": {},
    }})
}

fn config(spec: Value) -> Value {
    json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "x"}, "spec": spec})
}

fn owners(object: &Value) -> Vec<(String, Value)> {
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|entry| {
            (
                format!("{}/{}", entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap()),
                entry["fieldsV1"].clone(),
            )
        })
        .collect()
}

#[test]
fn an_applier_owns_what_it_names_and_releases_what_it_no_longer_names() {
    let first = apply(&schema(), None, &config(json!({"a": 1, "b": 2})), &writer("one"), false).unwrap();
    assert_eq!(owners(&first), [("one/Apply".into(), json!({"f:spec": {"f:a": {}, "f:b": {}}}))]);
    let second = apply(&schema(), Some(&first), &config(json!({"a": 1})), &writer("one"), false).unwrap();
    assert_eq!(second["spec"], json!({"a": 1}));
    let third = apply(&schema(), Some(&second), &config(json!({})), &writer("one"), false).unwrap();
    assert_eq!(third.pointer("/spec/a"), None, "{third}");
}

#[test]
fn a_field_of_somebody_else_conflicts_unless_the_value_is_the_same() {
    let live = apply(&schema(), None, &config(json!({"a": 1, "labels": {"x": "1"}})), &writer("one"), false).unwrap();
    let same = apply(&schema(), Some(&live), &config(json!({"a": 1})), &writer("two"), false).unwrap();
    assert_eq!(owners(&same).len(), 2);
    let error = apply(&schema(), Some(&live), &config(json!({"a": 2})), &writer("two"), false).unwrap_err();
    assert_eq!(error.code(), 409);
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"one\" using g/v1: .spec.a");
    assert_eq!(error.to_json()["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let forced = apply(&schema(), Some(&live), &config(json!({"a": 2})), &writer("two"), true).unwrap();
    assert_eq!(forced["spec"], json!({"a": 2, "labels": {"x": "1"}}));
    assert_eq!(
        owners(&forced),
        [
            ("one/Apply".into(), json!({"f:spec": {"f:labels": {"f:x": {}}}})),
            ("two/Apply".into(), json!({"f:spec": {"f:a": {}}})),
        ]
    );
    let both = apply(&schema(), Some(&live), &config(json!({"a": 2, "labels": {"x": "2"}})), &writer("two"), false);
    assert_eq!(both.unwrap_err().to_json()["details"]["causes"].as_array().unwrap().len(), 2);
}

#[test]
fn a_shared_field_stays_until_its_last_owner_releases_it() {
    let live = apply(&schema(), None, &config(json!({"a": 1})), &writer("one"), false).unwrap();
    let live = apply(&schema(), Some(&live), &config(json!({"a": 1})), &writer("two"), false).unwrap();
    let live = apply(&schema(), Some(&live), &config(json!({})), &writer("one"), false).unwrap();
    assert_eq!(live["spec"]["a"], 1);
    let live = apply(&schema(), Some(&live), &config(json!({"b": 1})), &writer("two"), false).unwrap();
    assert_eq!(live["spec"], json!({"b": 1}));
}

#[test]
fn keyed_lists_merge_by_key_and_plain_lists_whole() {
    let one = config(json!({"keyed": [{"name": "x", "v": 1}], "list": [1]}));
    let live = apply(&schema(), None, &one, &writer("one"), false).unwrap();
    let two = config(json!({"keyed": [{"name": "y", "v": 2}]}));
    let live = apply(&schema(), Some(&live), &two, &writer("two"), false).unwrap();
    assert_eq!(live["spec"]["keyed"], json!([{"name": "x", "v": 1}, {"name": "y", "v": 2}]));
    let live = apply(&schema(), Some(&live), &config(json!({"list": [1]})), &writer("one"), false).unwrap();
    assert_eq!(live["spec"]["keyed"], json!([{"name": "y", "v": 2}]));
    let error = apply(&schema(), Some(&live), &config(json!({"list": [1, 2]})), &writer("two"), false);
    assert_eq!(error.unwrap_err().code(), 409);
}

#[test]
fn an_ordinary_write_takes_what_it_changes() {
    let live = apply(&schema(), None, &config(json!({"a": 1, "b": 1})), &writer("one"), false).unwrap();
    let mut new = live.clone();
    new["spec"]["a"] = json!(2);
    track(&schema(), Some(&live), &mut new, &writer("editor"));
    assert_eq!(
        owners(&new),
        [
            ("one/Apply".into(), json!({"f:spec": {"f:b": {}}})),
            ("editor/Update".into(), json!({"f:spec": {"f:a": {}}})),
        ]
    );
    let mut removed = new.clone();
    removed["spec"].as_object_mut().unwrap().remove("a");
    track(&schema(), Some(&new), &mut removed, &writer("other"));
    assert_eq!(owners(&removed), [("one/Apply".into(), json!({"f:spec": {"f:b": {}}}))]);
    let mut same = removed.clone();
    track(&schema(), Some(&removed), &mut same, &writer("other"));
    assert_eq!(same, removed);
}

#[test]
fn nobody_applies_a_status() {
    let mut live = apply(&schema(), None, &config(json!({"a": 1})), &writer("one"), false).unwrap();
    live["status"] = json!({"s": 1});
    let mut forged = config(json!({"a": 1}));
    forged["status"] = json!({"s": 2});
    let new = apply(&schema(), Some(&live), &forged, &writer("one"), true).unwrap();
    assert_eq!(new["status"]["s"], 1);
    assert!(owners(&new).iter().all(|(_, fields)| fields.get("f:status").is_none()));
}

#[test]
fn many_writers_do_not_make_an_object_grow() {
    let mut live = config(json!({"labels": {}}));
    for at in 0..40 {
        let mut new = live.clone();
        new["spec"]["labels"][format!("l{at:02}")] = json!("x");
        let (manager, now) = (format!("m{at:02}"), format!("2026-01-01T00:00:{at:02}Z"));
        track(&schema(), Some(&live), &mut new, &Writer { now: &now, ..writer(&manager) });
        live = new;
    }
    assert_eq!(owners(&live).len(), UPDATE_MANAGERS_MAX);
}
