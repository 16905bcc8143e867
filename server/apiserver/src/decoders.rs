//! Everything here that reads bytes of strangers, against 10,000 mutations of what it accepts.

use cattle_matrix::{Decoder, Verdict};
use serde_json::{Value, json};

use crate::accept;
use crate::body::{self, BODY_MAX, MediaType};
use crate::patch;
use crate::path::Path;
use crate::query::Query;
use crate::review::protobuf;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::StatusError;

const OBJECT: &str = r#"{"apiVersion":"management.cattle.io/v3","kind":"Cluster","metadata":{"name":"c-aaaaa","labels":{"a":"b"}},"spec":{"displayName":"a","list":[1,-2.5e3,null,true,"\u00e9\n"]}}"#;
const YAML: &str = "apiVersion: management.cattle.io/v3\nkind: Cluster\nmetadata:\n  name: c-aaaaa\n  labels: {a: \"b\", 'c': d}\nspec:\n- 1\n- |\n  text\n- &a [x, 0x1f, ~]\n";

/// Whatever is wrong with a request is the client's mistake, and the answer says what.
fn mistake<T>(result: Result<T, StatusError>) -> Verdict {
    if let Err(error) = &result {
        let code = error.code();
        assert!((400..500).contains(&code) && !error.to_string().is_empty(), "{code} {error}");
    }
    result.into()
}

#[test]
fn json_bodies() {
    // A value of one byte is a `Value`; nothing else grows with the input.
    let decoder = Decoder::new("JSON body", [OBJECT, "[]", r#"{"a":1,"a":2}"#]).memory(64 * BODY_MAX);
    decoder.hammer(|bytes| mistake(body::parse(bytes, MediaType::Json)));
}

#[test]
fn yaml_bodies() {
    let decoder = Decoder::new("YAML body", [YAML, OBJECT, "a: 1\n"]).memory(64 * BODY_MAX);
    decoder.hammer(|bytes| mistake(body::parse(bytes, MediaType::Yaml)));
}

/// A few hundred bytes that mean megabytes.
#[test]
fn yaml_bodies_that_grow() {
    let level = |n: usize| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1);
    let grown = |levels| format!("a0: &a0 [x]\n{}", (1..levels).map(level).collect::<String>());
    let decoder = Decoder::new("YAML body that grows", [grown(30), grown(3)]).memory(8 << 20).one_of(20);
    decoder.hammer(|bytes| mistake(body::parse(bytes, MediaType::Yaml)));
}

#[test]
fn merge_patches() {
    let object: Value = serde_json::from_str(OBJECT).unwrap();
    let samples = [OBJECT, r#"{"spec":{"displayName":null,"more":{"a":[{}]}},"metadata":null}"#];
    Decoder::new("merge patch", samples).memory(64 * BODY_MAX).hammer(|bytes| {
        let mut object = object.clone();
        let patch = body::parse(bytes, MediaType::Json)?;
        patch::merge(&mut object, &patch.value)
    });
}

#[test]
fn json_patches() {
    let object: Value = serde_json::from_str(OBJECT).unwrap();
    let patch = json!([
        {"op": "test", "path": "/kind", "value": "Cluster"},
        {"op": "add", "path": "/spec/list/-", "value": {"a": [1]}},
        {"op": "copy", "from": "/spec", "path": "/spec/copy"},
        {"op": "move", "from": "/metadata/labels/a", "path": "/metadata/labels/a~1b"},
        {"op": "remove", "path": "/spec/list/0"},
        {"op": "replace", "path": "/spec/displayName", "value": null},
    ]);
    let samples = [patch.to_string(), r#"[{"op":"copy","from":"","path":"/x"}]"#.to_owned(), "[]".to_owned()];
    Decoder::new("JSON patch", samples).memory(64 * BODY_MAX).hammer(|bytes| {
        let mut patched = object.clone();
        let patch = body::parse(bytes, MediaType::Json).map_err(|_| ())?;
        let result = patch::json(&mut patched, patch.value);
        assert!(result.is_ok() || patched == object, "half a patch was applied");
        match mistake(result) {
            Verdict::Accepted => Ok(()),
            Verdict::Refused => Err(()),
        }
    });
}

#[test]
fn queries() {
    let samples = [
        "limit=5&continue=abc&resourceVersion=7&resourceVersionMatch=NotOlderThan&labelSelector=a%3Db",
        "watch=true&allowWatchBookmarks=1&timeoutSeconds=30&sendInitialEvents=true&fieldSelector=metadata.name%3Dx",
        "dryRun=All&fieldManager=me&fieldValidation=Strict&force=1&pretty",
    ];
    Decoder::new("query", samples).memory(8 << 20).hammer_text(|text| {
        mistake(Query::parse(Some(text)).and_then(|query| {
            query.version()?;
            query.dry_run()?;
            query.list_options(&["spec.displayName".to_owned()])
        }))
    });
}

#[test]
fn label_selectors() {
    let samples = ["a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<-2", "a.b/c==x", "x in (a)"];
    Decoder::new("label selector", samples).memory(8 << 20).hammer_text(|text| {
        let parsed = LabelSelector::parse(text);
        if let Ok(selector) = &parsed {
            let _ = selector.matches(None);
        }
        parsed
    });
}

#[test]
fn field_selectors() {
    let samples = ["metadata.name=a,metadata.namespace!=b", "spec.displayName==x"];
    let fields = ["spec.displayName".to_owned()];
    Decoder::new("field selector", samples).memory(8 << 20).hammer_text(|text| FieldSelector::parse(text, &fields));
}

#[test]
fn accept_headers() {
    let samples = [
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        "application/json;q=0.5, application/yaml;q=1, */*",
        "application/vnd.kubernetes.protobuf",
    ];
    Decoder::new("Accept header", samples).hammer_text(|text| mistake(accept::parse(Some(text))));
}

#[test]
fn paths() {
    let samples = [
        "/apis/management.cattle.io/v3/namespaces/c-abcde/clusterregistrationtokens/t/status",
        "/apis/management.cattle.io/v3/clusters",
        "/openapi/v3/apis/ext.cattle.io/v1",
        "/api/",
    ];
    Decoder::new("path", samples).memory(64 << 20).hammer_text(|text| {
        let parsed = Path::parse(text);
        if let Some(Path::Resource(path)) = &parsed {
            let names = [&path.namespace, &path.name, &path.subresource];
            let plain = |name: &String| !name.contains(['/', '%', '\\', '?', '#', '\0']) && name != ".." && name != ".";
            assert!(names.into_iter().flatten().all(plain) && plain(&path.resource), "{path:?}");
        }
        parsed
    });
}

#[test]
fn protobuf_reviews() {
    let field = |number: u8, value: &[u8]| [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat();
    let attributes = [field(2, b"create"), field(3, b"management.cattle.io"), field(5, b"clusters")].concat();
    let envelope = |kind: &[u8], raw: &[u8]| {
        let meta = [field(1, b"authorization.k8s.io/v1"), field(2, kind)].concat();
        [b"k8s\0".to_vec(), field(1, &meta), field(2, raw)].concat()
    };
    let samples = [
        envelope(b"SelfSubjectAccessReview", &field(2, &field(1, &attributes))),
        envelope(b"SelfSubjectRulesReview", &field(2, &field(1, b"default"))),
    ];
    Decoder::new("protobuf review", samples).memory(64 << 20).hammer(|bytes| mistake(protobuf::parse(bytes)));
}
