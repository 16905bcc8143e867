//! The kinds as custom resource definitions: the golden files are the API's shape, and change only on purpose.
//! `UPDATE_GOLDEN=1` rewrites them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cattle_api::resource::{ALL, Resource, Verb, find};

fn golden(resource: &Resource) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{resource}.yaml"))
}

#[test]
fn definitions_are_the_golden_files() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for resource in ALL {
        let path = golden(resource);
        // Through JSON, so that keys are sorted.
        let definition = serde_json::to_value(resource.definition()).expect("it is JSON");
        let yaml = serde_saphyr::to_string(&definition).expect("it is YAML");
        if update {
            fs::write(&path, &yaml).expect("written");
        }
        let wanted = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(yaml == wanted, "{resource} differs from {}: look at it, then UPDATE_GOLDEN=1", path.display());
    }
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).expect("a directory").count();
    assert_eq!(files, ALL.len(), "one file for each kind");
}

#[test]
fn the_static_names_are_those_of_the_definitions() {
    for resource in ALL {
        let spec = resource.definition().spec;
        let version = &spec.versions[0];
        let names = spec.names;
        assert_eq!((resource.group, resource.version), (spec.group.as_str(), version.name.as_str()));
        assert_eq!((resource.kind, resource.plural), (names.kind.as_str(), names.plural.as_str()));
        assert_eq!(Some(resource.singular), names.singular.as_deref());
        assert_eq!(resource.short_names, names.short_names.unwrap_or_default());
        assert_eq!(resource.categories, names.categories.unwrap_or_default());
        assert_eq!(resource.namespaced, spec.scope == "Namespaced", "{resource}");
        assert_eq!(
            resource.has_status,
            version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()),
            "{resource}"
        );
        assert!(std::ptr::eq(find(resource.group, resource.plural).expect("it is found"), *resource));
    }
}

#[test]
fn names_are_unique() {
    let mut seen = BTreeSet::new();
    for resource in ALL {
        for name in [&[resource.plural, resource.singular], resource.short_names].concat() {
            assert!(seen.insert(name), "{name} names two kinds, or one twice");
        }
    }
}

/// Every field of a schema says what it is for, in `kubectl explain`.
#[test]
fn fields_are_explained() {
    fn check(path: &str, schema: &serde_json::Value) {
        let Some(properties) = schema.get("properties").and_then(|properties| properties.as_object()) else { return };
        for (name, field) in properties {
            let path = format!("{path}.{name}");
            let text = field.get("description").and_then(|text| text.as_str()).unwrap_or_default();
            assert!(!text.is_empty() || path.matches('.').count() == 1, "{path} is not explained");
            check(&path, field);
            check(&path, field.get("items").unwrap_or(&serde_json::Value::Null));
        }
    }
    for resource in ALL {
        let schema = resource.schema();
        assert_eq!(schema["type"], "object", "{resource}");
        check(resource.plural, &schema);
    }
}

#[test]
fn columns_and_verbs() {
    for resource in ALL {
        let columns = resource.columns();
        assert!(columns.iter().any(|column| column.priority == 0), "{resource}");
        let reads = resource.verbs.iter().all(|verb| matches!(verb, Verb::Get | Verb::List | Verb::Watch));
        assert!(resource.verbs == Verb::ALL || (reads && resource.verbs.len() == 3), "{resource}");
    }
}
