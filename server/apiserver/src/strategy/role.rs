//! `RoleTemplate` and `GlobalRole`: what roles mean is for administrators, and the server's own roles stay as they are.

use std::collections::BTreeSet;

use cattle_api::{Resource, names, resource};
use serde_json::{Map, Value};

use super::lookup::all;
use super::{Admission, Along, Checked, Draft, Strategy, default_name, text};
use crate::field::FieldError;
use crate::status::{StatusError, Subject};

/// Fields of a builtin role that may be changed: whether and to whom it is given, not what it means.
const CHANGEABLE: [&str; 4] = ["locked", "hidden", "clusterCreatorDefault", "newUserDefault"];

pub(super) struct RoleTemplateStrategy;

impl Strategy for RoleTemplateStrategy {
    fn defaults(&self, _: &Admission<'_>, object: &mut Value) {
        default_name(object, names::ROLE_TEMPLATE_PREFIX);
    }

    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            may_define(admission, &draft.object)?;
            inherits(admission, &draft.object).await
        })
    }

    fn update<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            may_change(admission, old, &draft.object)?;
            inherits(admission, &draft.object).await
        })
    }

    fn delete<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value) -> Along<'a> {
        Box::pin(async move {
            may_delete(admission, old)?;
            let name = text(old, "/metadata/name");
            let templates = all(admission.store, &resource::ROLE_TEMPLATE, None).await?;
            if let Some(heir) = templates.iter().find(|template| inherited(&template.data).contains(name)) {
                let heir = heir.metadata.name.as_deref().unwrap_or_default();
                return Err(in_use(admission, name, &format!("role template {heir} includes it")));
            }
            is_unused(admission, old, &resource::CLUSTER_ROLE_TEMPLATE_BINDING, "/roleTemplateName").await?;
            Ok(Vec::new())
        })
    }
}

pub(super) struct GlobalRoleStrategy;

impl Strategy for GlobalRoleStrategy {
    fn defaults(&self, _: &Admission<'_>, object: &mut Value) {
        default_name(object, "gr-");
    }

    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move { may_define(admission, &draft.object) })
    }

    fn update<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move { may_change(admission, old, &draft.object) })
    }

    fn delete<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value) -> Along<'a> {
        Box::pin(async move {
            may_delete(admission, old)?;
            is_unused(admission, old, &resource::GLOBAL_ROLE_BINDING, "/globalRoleName").await?;
            Ok(Vec::new())
        })
    }
}

/// A role may contain any right, so only who has all of them may say what a role means.
fn may_define(admission: &Admission<'_>, object: &Value) -> Result<(), StatusError> {
    let allowed = admission.authorizer.may_grant_global(admission.user);
    allowed.map_err(|denied| admission.forbidden(object, &denied.to_string()))?;
    if is_builtin(object) {
        let error = FieldError::forbidden("builtin", "builtin roles are made by the server");
        return Err(admission.invalid(object, error));
    }
    Ok(())
}

fn may_change(admission: &Admission<'_>, old: &Value, new: &Value) -> Result<(), StatusError> {
    let allowed = admission.authorizer.may_grant_global(admission.user);
    allowed.map_err(|denied| admission.forbidden(old, &denied.to_string()))?;
    if is_builtin(old) && meaning(old) != meaning(new) {
        return Err(admission.forbidden(old, "a builtin role keeps its meaning: make a role of your own"));
    }
    Ok(())
}

fn may_delete(admission: &Admission<'_>, old: &Value) -> Result<(), StatusError> {
    if is_builtin(old) { Err(admission.forbidden(old, "a builtin role cannot be deleted")) } else { Ok(()) }
}

/// No binding, which names its role in `field`, gives it to anybody.
async fn is_unused(
    admission: &Admission<'_>,
    role: &Value,
    bindings: &'static Resource,
    field: &str,
) -> Result<(), StatusError> {
    let name = text(role, "/metadata/name");
    let bindings = all(admission.store, bindings, None).await?;
    match bindings.iter().filter(|binding| text(&binding.data, field) == name).count() {
        0 => Ok(()),
        bound => Err(in_use(admission, name, &format!("{bound} bindings give it to somebody"))),
    }
}

fn in_use(admission: &Admission<'_>, name: &str, why: &str) -> StatusError {
    let subject = Subject { group: admission.resource.group, kind: admission.resource.plural };
    StatusError::conflict(subject, name, why)
}

fn is_builtin(object: &Value) -> bool {
    object.get("builtin").and_then(Value::as_bool).unwrap_or(false)
}

/// What a role says, without what may be changed, and without defaults that one side spells out.
fn meaning(role: &Value) -> Map<String, Value> {
    let fields = role.as_object().cloned().unwrap_or_default();
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => true,
    };
    fields
        .into_iter()
        .filter(|(name, value)| name != "metadata" && !CHANGEABLE.contains(&name.as_str()) && says(value))
        .collect()
}

fn inherited(template: &Value) -> BTreeSet<String> {
    let names = template.get("roleTemplateNames").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Everything that is included exists, and nothing includes itself by way of others.
async fn inherits(admission: &Admission<'_>, object: &Value) -> Result<(), StatusError> {
    let mut open: Vec<String> = inherited(object).into_iter().collect();
    if open.is_empty() {
        return Ok(());
    }
    let name = text(object, "/metadata/name");
    let templates = all(admission.store, &resource::ROLE_TEMPLATE, None).await?;
    let refuse = |value: &str, detail: &str| {
        Err(admission.invalid(object, FieldError::invalid("roleTemplateNames", &Value::from(value), detail)))
    };
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if next == name {
            return refuse(name, "the role would include itself");
        }
        let found = templates.iter().find(|template| template.metadata.name.as_deref() == Some(next.as_str()));
        let Some(found) = found else { return refuse(&next, "does not exist") };
        if seen.insert(next) {
            open.extend(inherited(&found.data));
        }
    }
    Ok(())
}
