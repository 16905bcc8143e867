//! Schemas of what every object has (`meta.k8s.io`).

use serde_json::{Map, Value, json};

pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const OWNER_REFERENCE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference";
const MANAGED_FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry";
const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const PRECONDITIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Preconditions";

pub(super) const API_VERSION: &str = "Group and version of the schema that this object follows.";
pub(super) const KIND: &str = "Kind of this object.";
pub(super) const METADATA: &str = "Name, labels and what the server keeps about the object.";

/// All of them; `prefix` is what references start with.
pub(super) fn schemas(prefix: &str) -> Map<String, Value> {
    let schemas = [
        (OBJECT_META, object_meta(prefix)),
        (LIST_META, list_meta()),
        (OWNER_REFERENCE, owner_reference()),
        (MANAGED_FIELDS, managed_fields(prefix)),
        (FIELDS_V1, json!({"type": "object", "description": "A set of fields, as `f:`, `k:` and `v:` steps."})),
        (DELETE_OPTIONS, delete_options(prefix)),
        (PRECONDITIONS, preconditions()),
    ];
    schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn time(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

fn number(description: &str) -> Value {
    json!({"type": "integer", "format": "int64", "description": description})
}

fn texts(description: &str) -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}, "description": description})
}

fn object_meta(prefix: &str) -> Value {
    let list = |name: &str, description: &str| json!({"type": "array", "items": {"$ref": format!("{prefix}{name}")}, "description": description});
    json!({
        "type": "object", "description": METADATA,
        "properties": {
            "name": text("Unique among objects of this kind (in a namespace, where the kind has them). Cannot be changed."),
            "generateName": text("Prefix of a name that the server makes up when there is no name."),
            "namespace": text("The cluster that the object belongs to, for kinds that belong to one."),
            "labels": texts("Keys and values that selectors select by."),
            "annotations": texts("Keys and values that nothing is selected by."),
            "uid": text("Tells this object from every other there ever was. Set by the server."),
            "resourceVersion": text("Opaque; another one after every change. Sent back with an update, it must still be the newest."),
            "generation": number("Counts changes of what is wanted. Set by the server."),
            "creationTimestamp": time("When the object was made. Set by the server."),
            "deletionTimestamp": time("When the deletion was asked for; the object goes when its finalizers are gone."),
            "deletionGracePeriodSeconds": number("Not used by these kinds."),
            "finalizers": {
                "type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set",
                "description": "Who has to clean up before the object goes.",
            },
            "ownerReferences": list(OWNER_REFERENCE, "Objects that this one goes with."),
            "managedFields": list(MANAGED_FIELDS, "Who set which fields, for server-side apply."),
            "selfLink": text("Not used."),
        },
    })
}

fn list_meta() -> Value {
    json!({
        "type": "object", "description": "What the server says about a list.",
        "properties": {
            "resourceVersion": text("The state that the list shows; a watch can go on from it."),
            "continue": text("Asks for the rest of a list that was cut by `limit`."),
            "remainingItemCount": number("How many objects the rest has, if that is known."),
            "selfLink": text("Not used."),
        },
    })
}

fn owner_reference() -> Value {
    json!({
        "type": "object", "description": "An object that another one goes with.",
        "required": ["apiVersion", "kind", "name", "uid"],
        "properties": {
            "apiVersion": text(API_VERSION), "kind": text(KIND), "name": text("Its name."), "uid": text("Its uid."),
            "controller": {"type": "boolean", "description": "Whether it is the one that manages this object."},
            "blockOwnerDeletion": {"type": "boolean", "description": "Whether its deletion waits for this object."},
        },
    })
}

fn managed_fields(prefix: &str) -> Value {
    json!({
        "type": "object", "description": "The fields that one writer set.",
        "properties": {
            "manager": text("The writer."), "operation": text("`Apply` or `Update`."), "apiVersion": text(API_VERSION),
            "time": time("When the entry was last changed."), "fieldsType": text("`FieldsV1`."),
            "fieldsV1": {"$ref": format!("{prefix}{FIELDS_V1}")}, "subresource": text("Through which subresource."),
        },
    })
}

fn delete_options(prefix: &str) -> Value {
    json!({
        "type": "object", "description": "How to delete.",
        "properties": {
            "apiVersion": text(API_VERSION), "kind": text(KIND),
            "dryRun": {"type": "array", "items": {"type": "string"}, "description": "`All`: do as if."},
            "gracePeriodSeconds": number("Accepted and not used by these kinds."),
            "orphanDependents": {"type": "boolean", "description": "Accepted; see propagationPolicy."},
            "preconditions": {"$ref": format!("{prefix}{PRECONDITIONS}")},
            "propagationPolicy": text("Accepted: what depends on an object is deleted by the server."),
        },
    })
}

fn preconditions() -> Value {
    json!({
        "type": "object", "description": "What must hold for the deletion to happen.",
        "properties": {"uid": text("The object's uid."), "resourceVersion": text("The object's version.")},
    })
}
