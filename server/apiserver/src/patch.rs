//! JSON patch (RFC 6902) and JSON merge patch (RFC 7386) on one object, with bounds on what a small patch may cost.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::body::DEPTH_MAX;
use crate::status::{Reason, StatusError};

/// Most operations in one JSON patch.
const OPERATIONS_MAX: usize = 1000;
/// Operations between two looks at the depth of the result; each but `copy` deepens it by a body's depth at most.
const DEPTH_EVERY: usize = 16;
/// Most bytes that the `copy` operations of one JSON patch may add: copies of copies double each time.
const COPY_MAX: usize = 1024 * 1024;

/// Applies a merge patch.
pub(crate) fn merge(object: &mut Value, patch: &Value) -> Result<(), StatusError> {
    if !patch.is_object() {
        return Err(StatusError::bad_request("a merge patch of an object must be an object"));
    }
    json_patch::merge(object, patch);
    Ok(())
}

/// Applies a JSON patch, all of it or nothing.
///
/// # Errors
/// 400 when it is not a patch, 413 when it asks for too much, 422 when an operation does not fit the object.
pub(crate) fn json(object: &mut Value, patch: Value) -> Result<(), StatusError> {
    if patch.as_array().is_some_and(|operations| operations.len() > OPERATIONS_MAX) {
        return Err(StatusError::new(
            Reason::RequestEntityTooLarge,
            format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}"),
        ));
    }
    let operations: Vec<PatchOperation> = serde_json::from_value(patch)
        .map_err(|_| StatusError::bad_request("the body is not a JSON patch (RFC 6902)"))?;
    let (mut patched, mut copied) = (object.clone(), 0);
    for (at, operation) in operations.iter().enumerate() {
        let copies = matches!(operation, PatchOperation::Copy(_));
        if let PatchOperation::Copy(copy) = operation {
            copied += patched.pointer(copy.from.as_str()).map_or(0, size);
            if copied > COPY_MAX {
                return Err(StatusError::too_large(COPY_MAX));
            }
        }
        // The operation's own text stays out of the message: its value may be a secret.
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation)).map_err(|_| {
            StatusError::new(
                Reason::Invalid,
                format!(
                    "the server rejected our request due to an error in our request: the operation on {:?} does not fit the object",
                    operation.path().as_str()
                ),
            )
        })?;
        // Whatever walks the object later walks it by recursion.
        if (copies || at % DEPTH_EVERY == 0 || at + 1 == operations.len()) && is_deeper_than(&patched, DEPTH_MAX) {
            return Err(StatusError::bad_request(format!(
                "the patched object would have more than {DEPTH_MAX} levels"
            )));
        }
    }
    *object = patched;
    Ok(())
}

fn is_deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper_than(item, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|field| is_deeper_than(field, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Length of the JSON text, without making it.
fn size(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).map_or(usize::MAX, |()| count.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patches_follow_rfc_7386() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
        merge(&mut object, &json!({"a": {"b": null, "d": 3}, "l": [3]})).unwrap();
        assert_eq!(object, json!({"a": {"c": 2, "d": 3}, "l": [3]}));
        assert_eq!(merge(&mut object, &json!([])).unwrap_err().code(), 400);
    }

    #[test]
    fn json_patches_are_all_or_nothing() {
        let mut object = json!({"a": 1, "l": [1]});
        let patch = json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "add", "path": "/l/-", "value": 2}]);
        json(&mut object, patch).unwrap();
        assert_eq!(object, json!({"a": 2, "l": [1, 2]}));
        let before = object.clone();
        for (patch, code) in [
            (json!({}), 400),
            (json!([{"op": "fly", "path": "/a"}]), 400),
            (json!([{"op": "replace", "path": "/a", "value": 3}, {"op": "test", "path": "/a", "value": 9}]), 422),
            (json!([{"op": "remove", "path": "/missing"}]), 422),
            (Value::Array(vec![json!({"op": "test", "path": "/a", "value": 2}); OPERATIONS_MAX + 1]), 413),
        ] {
            assert_eq!(json(&mut object, patch).unwrap_err().code(), code);
            assert_eq!(object, before);
        }
    }

    #[test]
    fn copies_of_copies_are_bounded() {
        let mut object = json!({"a": "x".repeat(1000)});
        let bomb: Vec<Value> = (0..40).map(|at| json!({"op": "copy", "from": "", "path": format!("/k{at}")})).collect();
        assert_eq!(json(&mut object, Value::Array(bomb)).unwrap_err().code(), 413);
    }

    #[test]
    fn a_patch_cannot_dig_a_hole() {
        let nest = |from: &str, to: &str| json!({"op": "copy", "from": from, "path": to});
        let mut deep = vec![json!({"op": "add", "path": "/a", "value": {"b": {}}})];
        let mut path = String::from("/a");
        for _ in 0..100 {
            path.push_str("/b");
            deep.push(nest("/a", &format!("{path}/b")));
        }
        let mut sink = Vec::new();
        for _ in 0..300 {
            sink.push(json!({"op": "add", "path": "/y", "value": {}}));
            sink.push(json!({"op": "move", "from": "/x", "path": "/y/x"}));
            sink.push(json!({"op": "move", "from": "/y", "path": "/x"}));
        }
        for patch in [deep, sink] {
            let mut object = json!({"x": {}});
            assert_eq!(json(&mut object, Value::Array(patch)).unwrap_err().code(), 400);
            assert_eq!(object, json!({"x": {}}));
        }
    }

    #[test]
    fn errors_do_not_repeat_values() {
        let mut object = json!({});
        let error = json(&mut object, json!([{"op": "replace", "path": "/password", "value": "hunter2"}])).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
