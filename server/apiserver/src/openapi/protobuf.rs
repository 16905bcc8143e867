//! The protobuf form of an OpenAPI version 2 document, which kubectl before 1.27 reads in no other form.
//!
//! Messages and field numbers are those of gnostic's `openapi.v2` package. Only what this server's own document has is
//! written; protobuf readers take absent fields for defaults.

use serde_json::{Map, Value};

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

/// Encodes the document of [`super::v2`].
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, document.get("swagger"));
    if let Some(info) = document.get("info") {
        let mut inner = Message::default();
        inner.text(1, info.get("title"));
        inner.text(2, info.get("version"));
        message.message(2, inner);
    }
    let mut paths = Message::default();
    for (name, item) in fields(document.get("paths")) {
        let mut inner = Message::default();
        if let Some(patch) = item.get("patch") {
            inner.message(8, operation(patch));
        }
        paths.message(2, named(name, inner));
    }
    message.message(8, paths);
    message.message(9, named_schemas(document.get("definitions"), 1));
    message.0
}

fn operation(value: &Value) -> Message {
    let mut message = Message::default();
    message.text(5, value.get("operationId"));
    for parameter in value.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let mut query = Message::default();
        query.text(2, parameter.get("in"));
        query.text(4, parameter.get("name"));
        query.text(6, parameter.get("type"));
        // ParametersItem.parameter = Parameter.non_body_parameter = NonBodyParameter.query_parameter_sub_schema
        message.message(8, wrapped(1, wrapped(2, wrapped(3, query))));
    }
    message.message(9, Message::default());
    message.extensions(13, value);
    message
}

fn schema(value: &Value) -> Message {
    let mut message = Message::default();
    message.text(1, value.get("$ref"));
    message.text(2, value.get("format"));
    message.text(4, value.get("description"));
    for name in value.get("required").and_then(Value::as_array).into_iter().flatten() {
        message.text(19, Some(name));
    }
    match value.get("additionalProperties") {
        Some(Value::Bool(any)) => {
            let mut inner = Message::default();
            inner.number(2, u64::from(*any));
            message.message(21, inner);
        }
        Some(each) => message.message(21, wrapped(1, schema(each))),
        None => {}
    }
    if let Some(kind) = value.get("type") {
        let mut inner = Message::default();
        inner.text(1, Some(kind));
        message.message(22, inner);
    }
    if let Some(items) = value.get("items") {
        message.message(23, wrapped(1, schema(items)));
    }
    if value.get("properties").is_some() {
        message.message(25, named_schemas(value.get("properties"), 1));
    }
    message.extensions(31, value);
    message
}

/// A message of repeated `NamedSchema`s.
fn named_schemas(value: Option<&Value>, field: u64) -> Message {
    let mut message = Message::default();
    for (name, value) in fields(value) {
        message.message(field, named(name, schema(value)));
    }
    message
}

fn named(name: &str, value: Message) -> Message {
    let mut message = Message::default();
    message.bytes(1, name.as_bytes());
    message.message(2, value);
    message
}

fn wrapped(field: u64, inner: Message) -> Message {
    let mut message = Message::default();
    message.message(field, inner);
    message
}

fn fields(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

impl Message {
    fn text(&mut self, field: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u64, inner: Self) {
        self.bytes(field, &inner.0);
    }

    /// `x-…` fields as `NamedAny`; JSON is YAML.
    fn extensions(&mut self, field: u64, value: &Value) {
        for (name, value) in fields(Some(value)).filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Self::default();
            any.bytes(2, value.to_string().as_bytes());
            self.message(field, named(name, any));
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_written_as_gnostic_reads_it() {
        let bytes = schema(&json!({"type": "string", "x-a": true})).0;
        // 22: TypeItem{1: "string"}; 31: NamedAny{1: "x-a", 2: Any{2: "true"}}
        let mut wanted = vec![0xb2, 0x01, 8, 0x0a, 6];
        wanted.extend_from_slice(b"string");
        wanted.extend_from_slice(&[0xfa, 0x01, 13, 0x0a, 3]);
        wanted.extend_from_slice(b"x-a");
        wanted.extend_from_slice(&[0x12, 6, 0x12, 4]);
        wanted.extend_from_slice(b"true");
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn long_values_have_long_lengths() {
        let mut message = Message::default();
        message.bytes(1, &[0; 300]);
        assert_eq!(&message.0[..3], &[0x0a, 0xac, 0x02]);
    }
}
