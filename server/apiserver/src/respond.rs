//! Responses: encodings, shapes, warnings, compression.

use std::io::Write as _;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::accept::{Accepted, Encoding, Shape, choose};
use crate::server::Call;
use crate::status::StatusError;
use crate::table::{IncludeObject, partial_metadata, table};

/// Answers from this size on are compressed for clients that accept it; Kubernetes' threshold, in bytes.
const COMPRESS_MIN: usize = 128 * 1024;
/// Most warnings in one response, and most characters in one.
const WARNINGS_MAX: usize = 10;
const WARNING_LENGTH_MAX: usize = 256;

/// JSON with a status code.
pub(crate) fn json(code: u16, value: &Value) -> Response<Body> {
    bytes(code, Encoding::Json.media_type(), value.to_string().into_bytes())
}

/// A body that is ready.
pub(crate) fn bytes(code: u16, media_type: &str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = HeaderValue::from_str(media_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// A refusal.
pub(crate) fn failure(error: &StatusError) -> Response<Body> {
    let mut response = json(error.code(), &error.to_json());
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// One object, in the shape and encoding that the client prefers.
pub(crate) fn object(call: &Call, code: u16, object: Value) -> Result<Response<Body>, StatusError> {
    let accepted = choose(&call.accepted, &[Shape::Object, Shape::Table, Shape::Metadata])?;
    let shaped = match accepted.shape {
        Shape::Table => {
            let version = object.pointer("/metadata/resourceVersion").cloned().unwrap_or_else(|| json!(""));
            let metadata = json!({"resourceVersion": version});
            let include = include_object(call)?;
            table(&call.served.columns, std::slice::from_ref(&object), &metadata, include, true, call.now)
        }
        Shape::Metadata => partial_metadata(&object),
        Shape::Object | Shape::MetadataList | Shape::Discovery(_) | Shape::OpenApiV2Protobuf => object,
    };
    encode(code, accepted, &shaped, &call.headers)
}

/// A list, in the shape and encoding that the client prefers.
pub(crate) fn list(call: &Call, items: Vec<Value>, metadata: Value) -> Result<Response<Body>, StatusError> {
    let accepted = choose(&call.accepted, &[Shape::Object, Shape::Table, Shape::MetadataList])?;
    let shaped = match accepted.shape {
        Shape::Table => table(&call.served.columns, &items, &metadata, include_object(call)?, true, call.now),
        Shape::MetadataList => {
            let items: Vec<Value> = items.iter().map(partial_metadata).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
        }
        Shape::Object | Shape::Metadata | Shape::Discovery(_) | Shape::OpenApiV2Protobuf => json!({
            "kind": call.served.resource.list_kind(), "apiVersion": call.served.resource.api_version(),
            "metadata": metadata, "items": items,
        }),
    };
    encode(200, accepted, &shaped, &call.headers)
}

pub(crate) fn include_object(call: &Call) -> Result<IncludeObject, StatusError> {
    IncludeObject::parse(call.query.get("includeObject")).ok_or_else(|| {
        StatusError::bad_request("invalid value for query parameter includeObject: must be None, Metadata or Object")
    })
}

/// Writes `value` and compresses it when that pays and the client accepts it.
pub(crate) fn encode(
    code: u16,
    accepted: Accepted,
    value: &Value,
    headers: &HeaderMap,
) -> Result<Response<Body>, StatusError> {
    let body = match accepted.encoding {
        Encoding::Json => serde_json::to_vec(value).map_err(|error| StatusError::internal(&error))?,
        Encoding::Yaml => serde_saphyr::to_string(value).map_err(|error| StatusError::internal(&error))?.into_bytes(),
    };
    if body.len() < COMPRESS_MIN || !accepts_gzip(headers) {
        return Ok(bytes(code, accepted.encoding.media_type(), body));
    }
    let packed = gzip(&body).map_err(|error| StatusError::internal(&error))?;
    let mut response = bytes(code, accepted.encoding.media_type(), packed);
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}

/// Adds what the client should know although the request went well.
pub(crate) fn warn(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let text: String = warning
            .chars()
            .filter(|character| !character.is_control())
            .take(WARNING_LENGTH_MAX)
            .flat_map(|character| match character {
                '"' | '\\' => vec!['\\', character],
                other => vec![other],
            })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let header = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    header.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())])
    }

    #[test]
    fn only_large_answers_are_compressed_and_only_for_clients_that_ask() {
        let accepted = Accepted { encoding: Encoding::Json, shape: Shape::Object };
        let (small, large) = (json!({"a": 1}), json!({"a": "x".repeat(COMPRESS_MIN)}));
        for (value, header, wanted) in [
            (&large, "gzip", true),
            (&large, "deflate, gzip;q=1.0", true),
            (&large, "gzip;q=0", false),
            (&large, "identity", false),
            (&small, "gzip", false),
        ] {
            let response = encode(200, accepted, value, &headers(header)).unwrap();
            assert_eq!(response.headers().contains_key(CONTENT_ENCODING), wanted, "{header}");
        }
    }

    #[test]
    fn warnings_are_one_line_of_quoted_text() {
        let response = warn(json(200, &json!({})), &["unknown field \"spec.a\"\r\nSet-Cookie: x".to_owned()]);
        assert_eq!(response.headers()[WARNING], r#"299 - "unknown field \"spec.a\"Set-Cookie: x""#);
    }
}
