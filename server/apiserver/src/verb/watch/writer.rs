//! Events of a watch as lines, shaped as the client asked.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::accept::{Accepted, Shape};
use crate::served::Served;
use crate::status::StatusError;
use crate::table::{IncludeObject, partial_metadata, table};

/// Annotation of the bookmark after the initial events (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Shapes events as the client asked.
pub(super) struct Writer {
    accepted: Accepted,
    include: IncludeObject,
    headers_sent: bool,
}

impl Writer {
    pub(super) fn new(accepted: Accepted, include: IncludeObject) -> Self {
        Self { accepted, include, headers_sent: false }
    }

    /// An object that was added, modified or deleted.
    pub(super) fn event(&mut self, served: &Served, kind: &str, object: Value, now: Timestamp) -> Bytes {
        let shaped = match self.accepted.shape {
            Shape::Table => {
                let metadata = json!({"resourceVersion": object.pointer("/metadata/resourceVersion")});
                let headers = !std::mem::replace(&mut self.headers_sent, true);
                let rows = std::slice::from_ref(&object);
                table(&served.columns, rows, &metadata, self.include, headers, now)
            }
            Shape::Metadata => partial_metadata(&object),
            Shape::Object | Shape::MetadataList | Shape::Discovery(_) | Shape::OpenApiV2Protobuf => object,
        };
        line(kind, &shaped)
    }

    /// A version up to which everything was delivered.
    pub(super) fn bookmark(&mut self, served: &Served, version: &str, ends_initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": version, "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let object = match self.accepted.shape {
            Shape::Table => {
                let headers = !std::mem::replace(&mut self.headers_sent, true);
                let mut empty = table(&served.columns, &[], &metadata, self.include, headers, Timestamp::now());
                // Clients of tables look for a row to read the version from.
                let object =
                    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
                let cells = vec![Value::Null; served.columns.len() + 1];
                empty["rows"] = json!([{"cells": cells, "object": object}]);
                empty
            }
            Shape::Metadata => partial_metadata(&json!({"metadata": metadata})),
            Shape::Object | Shape::MetadataList | Shape::Discovery(_) | Shape::OpenApiV2Protobuf => json!({
                "kind": served.resource.kind, "apiVersion": served.resource.api_version(), "metadata": metadata,
            }),
        };
        line("BOOKMARK", &object)
    }

    /// Why the watch ends.
    pub(super) fn error(error: &StatusError) -> Bytes {
        line("ERROR", &error.to_json())
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": kind, "object": object}).to_string();
    text.push('\n');
    Bytes::from(text)
}
