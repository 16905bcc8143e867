//! `Cluster`: a unique display name, and its maker as its first owner.

use cattle_api::management::{ClusterRoleTemplateBinding, ClusterRoleTemplateBindingFields};
use cattle_api::{names, resource};
use serde_json::Value;

use super::lookup::{all, make, remove};
use super::{Admission, Along, Checked, Draft, Strategy, default_name, set, text};
use crate::field::FieldError;
use crate::status::StatusError;

/// Who made the cluster; Rancher's annotation.
const CREATOR_ANNOTATION: &str = "field.cattle.io/creatorId";
/// How a cluster that was not made by the server came here.
const DRIVER_IMPORTED: &str = "imported";

pub(super) struct ClusterStrategy;

impl Strategy for ClusterStrategy {
    fn defaults(&self, admission: &Admission<'_>, object: &mut Value) {
        default_name(object, names::CLUSTER_PREFIX);
        if !object["metadata"]["annotations"].is_object() {
            object["metadata"]["annotations"] = Value::Object(serde_json::Map::new());
        }
        object["metadata"]["annotations"][CREATOR_ANNOTATION] = Value::from(admission.user.name());
    }

    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            unique_display_name(admission, &draft.object).await?;
            set(&mut draft.object, "/status/driver", Value::from(DRIVER_IMPORTED));
            let cluster = text(&draft.object, "/metadata/name").to_owned();
            for template in all(admission.store, &resource::ROLE_TEMPLATE, None).await? {
                let flag = |name: &str| template.data.get(name).and_then(Value::as_bool).unwrap_or(false);
                if flag("clusterCreatorDefault") && !flag("locked") {
                    let template = template.metadata.name.clone().unwrap_or_default();
                    draft.writes.push(make(&creator_binding(&cluster, admission.user.name(), template))?);
                }
            }
            Ok(())
        })
    }

    fn update<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            if text(old, "/spec/displayName") == text(&draft.object, "/spec/displayName") {
                return Ok(());
            }
            unique_display_name(admission, &draft.object).await
        })
    }

    /// What stands in the cluster's namespace goes with the cluster. While finalizers hold the cluster, the controller
    /// that owns them still needs the bindings.
    fn delete<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value) -> Along<'a> {
        Box::pin(async move {
            let mut writes = Vec::new();
            if old.pointer("/metadata/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
                return Ok(writes);
            }
            let namespace = Some(text(old, "/metadata/name"));
            for kind in
                [&resource::CLUSTER_REGISTRATION_TOKEN, &resource::CLUSTER_ROLE_TEMPLATE_BINDING, &resource::NODE]
            {
                let found = all(admission.store, kind, namespace).await?;
                writes.extend(found.iter().map(|object| remove(kind, object)));
            }
            Ok(writes)
        })
    }

    fn is_settled(&self, admission: &Admission<'_>, object: &Value) -> bool {
        admission.authorizer.may_enter(admission.user, text(object, "/metadata/name"))
    }

    fn is_unique_beyond_name(&self) -> bool {
        true
    }
}

fn creator_binding(cluster: &str, user: &str, template: String) -> ClusterRoleTemplateBinding {
    let mut binding = ClusterRoleTemplateBinding::new(
        &format!("creator-{template}"),
        ClusterRoleTemplateBindingFields {
            cluster_name: cluster.to_owned(),
            role_template_name: template,
            user_name: user.to_owned(),
            user_principal_name: format!("local://{user}"),
            ..ClusterRoleTemplateBindingFields::default()
        },
    );
    binding.metadata.namespace = Some(cluster.to_owned());
    binding
}

async fn unique_display_name(admission: &Admission<'_>, object: &Value) -> Result<(), StatusError> {
    let wanted = text(object, "/spec/displayName");
    let clusters = all(admission.store, &resource::CLUSTER, None).await?;
    let taken = clusters.iter().any(|cluster| {
        cluster.data.pointer("/spec/displayName").and_then(Value::as_str) == Some(wanted)
            && cluster.metadata.name.as_deref() != Some(text(object, "/metadata/name"))
    });
    if taken {
        return Err(admission.invalid(object, FieldError::duplicate("spec.displayName", &Value::from(wanted))));
    }
    Ok(())
}
