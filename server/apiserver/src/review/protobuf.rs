//! Reviews as protobuf: newer kubectl sends them in no other form, and reads the answer as JSON.
//!
//! The envelope is Kubernetes' `runtime.Unknown` behind the magic `k8s\0`. Field numbers are those of
//! `k8s.io/api/{authorization,authentication}/v1`. Unknown fields are skipped.

use serde_json::{Map, Value, json};

use crate::status::StatusError;

/// Content type of Kubernetes' protobuf.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

/// What a length-delimited field is.
enum Field {
    Text(&'static str),
    Message(&'static str, &'static [(u64, Self)]),
}

const TYPE_META: &[(u64, Field)] = &[(1, Field::Text("apiVersion")), (2, Field::Text("kind"))];
const RESOURCE_ATTRIBUTES: &[(u64, Field)] = &[
    (1, Field::Text("namespace")),
    (2, Field::Text("verb")),
    (3, Field::Text("group")),
    (4, Field::Text("version")),
    (5, Field::Text("resource")),
    (6, Field::Text("subresource")),
    (7, Field::Text("name")),
];
const NON_RESOURCE_ATTRIBUTES: &[(u64, Field)] = &[(1, Field::Text("path")), (2, Field::Text("verb"))];
const ACCESS_SPEC: &[(u64, Field)] = &[
    (1, Field::Message("resourceAttributes", RESOURCE_ATTRIBUTES)),
    (2, Field::Message("nonResourceAttributes", NON_RESOURCE_ATTRIBUTES)),
];
const ACCESS_REVIEW: &[(u64, Field)] = &[(2, Field::Message("spec", ACCESS_SPEC))];
const RULES_REVIEW: &[(u64, Field)] = &[(2, Field::Message("spec", &[(1, Field::Text("namespace"))]))];

/// Reads a review.
///
/// # Errors
/// 400 when it is not one.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, StatusError> {
    let broken = || StatusError::bad_request("the body could not be read as a protobuf review");
    let envelope = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (mut review, mut raw) = (json!({}), &[][..]);
    for (number, value) in fields(envelope).ok_or_else(broken)? {
        match number {
            1 => review = message(value, TYPE_META).ok_or_else(broken)?,
            2 => raw = value,
            _ => {}
        }
    }
    let shape = match review.get("kind").and_then(Value::as_str) {
        Some("SelfSubjectAccessReview") => ACCESS_REVIEW,
        Some("SelfSubjectRulesReview") => RULES_REVIEW,
        _ => &[],
    };
    let content = message(raw, shape).ok_or_else(broken)?;
    if let (Value::Object(review), Value::Object(content)) = (&mut review, content) {
        review.extend(content);
    }
    Ok(review)
}

fn message(bytes: &[u8], shape: &[(u64, Field)]) -> Option<Value> {
    let mut object = Map::new();
    for (number, value) in fields(bytes)? {
        match shape.iter().find(|(known, _)| *known == number).map(|(_, field)| field) {
            Some(Field::Text(name)) => {
                let text = std::str::from_utf8(value).ok()?;
                object.insert((*name).to_owned(), Value::from(text));
            }
            Some(Field::Message(name, shape)) => {
                object.insert((*name).to_owned(), message(value, shape)?);
            }
            None => {}
        }
    }
    Some(Value::Object(object))
}

/// The length-delimited fields of a message; others are skipped. `None` when it is not a message.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let skip = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = bytes.split_at_checked(skip)?;
        if tag & 7 == 2 {
            found.push((tag >> 3, value));
        }
        bytes = rest;
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(value.len()).unwrap()];
        bytes.extend_from_slice(value);
        bytes
    }

    fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, b"authorization.k8s.io/v1"), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw), field(3, b""), field(4, b"")].concat()
    }

    #[test]
    fn reviews_are_read() {
        let attributes = [field(2, b"create"), field(3, b"management.cattle.io"), field(5, b"clusters")].concat();
        let raw = [field(1, b""), field(2, &field(1, &attributes)), field(3, &[8, 0])].concat();
        assert_eq!(
            parse(&envelope("SelfSubjectAccessReview", &raw)).unwrap(),
            json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {"verb": "create", "group": "management.cattle.io", "resource": "clusters"}},
            })
        );
        let raw = field(2, &field(1, b"default"));
        assert_eq!(parse(&envelope("SelfSubjectRulesReview", &raw)).unwrap()["spec"]["namespace"], "default");
    }

    #[test]
    fn what_is_no_review_is_a_bad_request() {
        let whole = envelope("SelfSubjectAccessReview", &field(2, &field(1, &field(2, b"get"))));
        let overlong = [MAGIC, &[0xff; 12]].concat();
        for bad in
            [&b""[..], b"k8s", b"{}", &whole[..whole.len() - 7], &overlong, b"k8s\0\x0b", b"k8s\0\x0a\xff\xff\x03"]
        {
            assert_eq!(parse(bad).unwrap_err().code(), 400, "{bad:?}");
        }
    }
}
