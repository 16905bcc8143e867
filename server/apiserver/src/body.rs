//! Request bodies: bounded in bytes before they are read whole, in depth while they are parsed.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::status::StatusError;

/// Largest request body, in bytes.
pub const BODY_MAX: usize = 1024 * 1024;
/// Deepest nesting of a request body.
pub const DEPTH_MAX: usize = 64;
/// Most parts of a YAML body that anchors and aliases may repeat: some hundred bytes could mean many megabytes else.
const YAML_REPEATED: usize = 10_000;
/// Longest time from the first byte of a body to its last.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// Most duplicate fields that are reported.
const DUPLICATES_MAX: usize = 10;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    Yaml,
}

/// What a PATCH body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchType {
    /// RFC 6902
    Json,
    /// RFC 7386
    Merge,
    /// Kubernetes server-side apply
    Apply,
}

/// A parsed body and the paths of fields that occurred twice in it (the last one counts).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
}

/// Reads a body whole, up to [`BODY_MAX`]. Cancel safe in that a dropped read loses the request.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, StatusError> {
    if headers.contains_key(CONTENT_ENCODING) {
        // Nothing here inflates what a client sends: a small body must not become a large one.
        return Err(StatusError::unsupported_media_type(&["an identity Content-Encoding"]));
    }
    let declared =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|value| value.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BODY_MAX as u64) {
        return Err(StatusError::too_large(BODY_MAX));
    }
    tokio::time::timeout(BODY_DEADLINE, collect(body))
        .await
        .unwrap_or_else(|_| Err(StatusError::bad_request("the body did not arrive in time")))
}

async fn collect(mut body: Body) -> Result<Bytes, StatusError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusError::bad_request("the body ended early"))?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > BODY_MAX {
                return Err(StatusError::too_large(BODY_MAX));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// The media type of a create, update or delete body; JSON when none is named.
pub(crate) fn media_type(headers: &HeaderMap) -> Result<MediaType, StatusError> {
    match content_type(headers).as_deref() {
        None | Some(JSON | "*/*") => Ok(MediaType::Json),
        Some(YAML) => Ok(MediaType::Yaml),
        Some(_) => Err(StatusError::unsupported_media_type(&[JSON, YAML])),
    }
}

/// The type of a PATCH body. Strategic merge needs types that custom kinds do not have: 415, and clients fall back.
pub(crate) fn patch_type(headers: &HeaderMap) -> Result<PatchType, StatusError> {
    match content_type(headers).as_deref() {
        Some(JSON_PATCH) => Ok(PatchType::Json),
        Some(MERGE_PATCH) => Ok(PatchType::Merge),
        Some(APPLY_PATCH) => Ok(PatchType::Apply),
        Some(STRATEGIC_PATCH) | Some(_) | None => {
            Err(StatusError::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH, APPLY_PATCH]))
        }
    }
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().unwrap_or("unreadable");
    let essence = text.split(';').next().unwrap_or_default().trim();
    (!essence.is_empty()).then(|| essence.to_ascii_lowercase())
}

/// Parses one JSON or YAML document.
///
/// # Errors
/// 400 with the parser's position. The text of the body is never repeated: it may hold a secret.
pub(crate) fn parse(bytes: &[u8], media: MediaType) -> Result<Document, StatusError> {
    let mut duplicates = Vec::new();
    let seed = Node { path: &Trail::Root, depth: 0, duplicates: &mut duplicates };
    let value = match media {
        MediaType::Json => {
            let mut deserializer = serde_json::Deserializer::from_slice(bytes);
            let parsed = seed.deserialize(&mut deserializer);
            parsed
                .and_then(|value| deserializer.end().map(|()| value))
                .map_err(|error| malformed("JSON", error.line(), error.column()))?
        }
        MediaType::Yaml => parse_yaml(bytes)?,
    };
    Ok(Document { value, duplicates })
}

fn parse_yaml(bytes: &[u8]) -> Result<Value, StatusError> {
    // Most YAML that clients send to PATCH is JSON, which YAML readers take more slowly and with other number rules.
    if let Ok(document) = parse(bytes, MediaType::Json) {
        return Ok(document.value);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| StatusError::bad_request("the body is not UTF-8"))?;
    let Whole(value) = serde_saphyr::from_str_with_options(text, yaml_options()).map_err(|error| {
        let place = error.location();
        malformed(
            "YAML",
            place.map_or(0, |place| usize::try_from(place.line()).unwrap_or(0)),
            place.map_or(0, |place| usize::try_from(place.column()).unwrap_or(0)),
        )
    })?;
    Ok(value)
}

/// Anchors and aliases make much of a few bytes. What people write with them is small.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: YAML_REPEATED,
        },
        budget: serde_saphyr::budget! {
            max_anchors: YAML_REPEATED,
            max_aliases: YAML_REPEATED,
            max_recorded_anchor_events: YAML_REPEATED,
            max_recorded_anchor_bytes: BODY_MAX,
            // Those of aliases are counted each time.
            max_total_scalar_bytes: 2 * BODY_MAX,
        },
    }
}

fn malformed(format: &str, line: usize, column: usize) -> StatusError {
    StatusError::bad_request(format!(
        "the body could not be read: it is not one {format} document of at most {DEPTH_MAX} levels (line {line}, column {column})"
    ))
}

/// A YAML document; duplicate keys are errors of the reader already.
struct Whole(Value);

impl<'de> serde::Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seed = Node { path: &Trail::Root, depth: 0, duplicates: &mut Vec::new() };
        seed.deserialize(deserializer).map(Self)
    }
}

/// Where in the document the reader is; a list on the stack, so that a path is only built when it is reported.
enum Trail<'a> {
    Root,
    Field(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Node<'a> {
    path: &'a Trail<'a>,
    depth: usize,
    duplicates: &'a mut Vec<String>,
}

impl Node<'_> {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom("nested too deeply"));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut items = Vec::new();
        loop {
            let path = Trail::Index(self.path, items.len());
            let duplicates = &mut *self.duplicates;
            match access.next_element_seed(Node { path: &path, depth, duplicates })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut fields = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let path = Trail::Field(self.path, &name);
            let duplicates = &mut *self.duplicates;
            let value = access.next_value_seed(Node { path: &path, depth, duplicates })?;
            if fields.contains_key(&name) && self.duplicates.len() < DUPLICATES_MAX {
                self.duplicates.push(path.to_string());
            }
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())])
    }

    #[test]
    fn json_and_yaml_give_the_same_object() {
        let wanted = json!({"a": {"b": [1, true, null, "x"]}, "c": -1.5});
        let json = br#"{"a":{"b":[1,true,null,"x"]},"c":-1.5}"#;
        let yaml = b"a:\n  b: [1, true, null, x]\nc: -1.5\n";
        assert_eq!(parse(json, MediaType::Json).unwrap().value, wanted);
        assert_eq!(parse(yaml, MediaType::Yaml).unwrap().value, wanted);
        assert_eq!(parse(json, MediaType::Yaml).unwrap().value, wanted);
    }

    #[test]
    fn duplicates_are_reported_with_their_path() {
        let document = parse(br#"{"spec":{"a":1,"a":2,"l":[{"x":1,"x":1}]}}"#, MediaType::Json).unwrap();
        assert_eq!(document.duplicates, ["spec.a", "spec.l[0].x"]);
        assert_eq!(document.value["spec"]["a"], 2);
    }

    #[test]
    fn hostile_bodies_are_bad_requests() {
        let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
        let deep_yaml = format!("a: {}1{}", "[".repeat(70), "]".repeat(70));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: [*f,*f,*f,*f,*f,*f,*f,*f]\n";
        let text_bomb = format!("a: &a {}\nb: [{}]\n", "x".repeat(BODY_MAX / 2), "*a, ".repeat(9000));
        for (body, media) in [
            ("", MediaType::Json),
            ("{", MediaType::Json),
            ("{} {}", MediaType::Json),
            (deep.as_str(), MediaType::Json),
            (deep_yaml.as_str(), MediaType::Yaml),
            (bomb, MediaType::Yaml),
            (text_bomb.as_str(), MediaType::Yaml),
            ("a: 1\na: 2\n", MediaType::Yaml),
            ("a: 1\n---\nb: 2\n", MediaType::Yaml),
            ("\u{1}", MediaType::Yaml),
        ] {
            assert_eq!(parse(body.as_bytes(), media).unwrap_err().code(), 400, "{}", &body[..body.len().min(40)]);
        }
        let secret = parse(br#"{"password": "hunter2hunter2" x"#, MediaType::Json).unwrap_err();
        assert!(!secret.to_string().contains("hunter2"));
    }

    #[test]
    fn media_types_are_closed_lists() {
        assert_eq!(media_type(&HeaderMap::new()).unwrap(), MediaType::Json);
        assert_eq!(media_type(&headers("application/json; charset=utf-8")).unwrap(), MediaType::Json);
        assert_eq!(media_type(&headers("application/yaml")).unwrap(), MediaType::Yaml);
        assert_eq!(media_type(&headers("application/vnd.kubernetes.protobuf")).unwrap_err().code(), 415);
        assert_eq!(patch_type(&headers(MERGE_PATCH)).unwrap(), PatchType::Merge);
        assert_eq!(patch_type(&headers(STRATEGIC_PATCH)).unwrap_err().code(), 415);
        assert_eq!(patch_type(&HeaderMap::new()).unwrap_err().code(), 415);
    }

    #[tokio::test]
    async fn bodies_over_the_limit_are_not_kept() {
        let big = vec![b' '; BODY_MAX + 1];
        assert_eq!(read(&HeaderMap::new(), Body::from(big)).await.unwrap_err().code(), 413);
        let declared = HeaderMap::from_iter([(CONTENT_LENGTH, "2000000".parse().unwrap())]);
        assert_eq!(read(&declared, Body::empty()).await.unwrap_err().code(), 413);
        let zipped = HeaderMap::from_iter([(CONTENT_ENCODING, "gzip".parse().unwrap())]);
        assert_eq!(read(&zipped, Body::empty()).await.unwrap_err().code(), 415);
        let all = vec![b' '; BODY_MAX];
        assert_eq!(read(&HeaderMap::new(), Body::from(all)).await.unwrap().len(), BODY_MAX);
    }
}
