//! One kind as it is served: its static description, the schema and columns made once, and its strategy.

use std::sync::Arc;

use cattle_api::Resource;
use cattle_api::resource::Column;
use serde_json::Value;

use crate::status::Subject;
use crate::strategy::{self, Strategy};

/// A kind, ready to serve.
pub(crate) struct Served {
    pub(crate) resource: &'static Resource,
    pub(crate) schema: Value,
    pub(crate) columns: Vec<Column>,
    /// Fields beyond name and namespace that a field selector may name.
    pub(crate) selectable: Vec<String>,
    pub(crate) strategy: Arc<dyn Strategy>,
}

impl Served {
    pub(crate) fn new(resource: &'static Resource) -> Self {
        Self {
            resource,
            schema: resource.schema(),
            columns: resource.columns(),
            selectable: selectable(resource).iter().map(|field| (*field).to_owned()).collect(),
            strategy: strategy::of(resource),
        }
    }

    /// Whether fields of stored objects are computed and may change without a write.
    pub(crate) fn is_recomputed(&self) -> bool {
        self.resource.transient.contains(&"/status/conditions")
    }

    /// The resource, as errors name it.
    pub(crate) fn subject(&self) -> Subject<'static> {
        Subject { group: self.resource.group, kind: self.resource.plural }
    }

    /// The kind, as validation errors name it.
    pub(crate) fn kind_subject(&self) -> Subject<'static> {
        Subject { group: self.resource.group, kind: self.resource.kind }
    }
}

fn selectable(resource: &Resource) -> &'static [&'static str] {
    match resource.plural {
        "clusters" => &["spec.displayName"],
        "clusterroletemplatebindings" => &["clusterName", "roleTemplateName", "userName"],
        "clusterregistrationtokens" => &["spec.clusterName"],
        "globalrolebindings" => &["globalRoleName", "userName"],
        "users" => &["username"],
        "tokens" => &["spec.userID", "spec.kind", "spec.clusterName"],
        _ => &[],
    }
}
