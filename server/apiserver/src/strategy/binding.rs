//! `ClusterRoleTemplateBinding` and `GlobalRoleBinding`: nobody gives more than they have, and nobody gets a right that
//! does not exist.

use cattle_api::resource;
use cattle_auth::Denied;
use serde_json::Value;

use super::lookup::{cluster_of, get, require};
use super::{Admission, Checked, Draft, Strategy, default_name, set, set_default, text};
use crate::field::FieldError;
use crate::status::StatusError;

/// Principals of users that the server itself knows.
const LOCAL: &str = "local://";
/// Fields of a binding that say who it is for.
const SUBJECT: [&str; 4] = ["/userName", "/userPrincipalName", "/groupName", "/groupPrincipalName"];

pub(super) struct ClusterBindingStrategy;

impl Strategy for ClusterBindingStrategy {
    fn defaults(&self, _: &Admission<'_>, object: &mut Value) {
        default_name(object, "crtb-");
        let cluster = text(object, "/metadata/namespace").to_owned();
        set_default(object, "/clusterName", &cluster);
        // A user and their local principal say the same: each is filled in from the other.
        let (user, principal) = (text(object, "/userName").to_owned(), text(object, "/userPrincipalName").to_owned());
        match (user.is_empty(), principal.strip_prefix(LOCAL)) {
            (true, Some(user)) => set(object, "/userName", Value::from(user)),
            (false, None) if principal.is_empty() => {
                set(object, "/userPrincipalName", Value::from(format!("{LOCAL}{user}")))
            }
            _ => {}
        }
    }

    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            let (_, cluster) = cluster_of(admission, &draft.object).await?;
            may_grant(admission, &draft.object)?;
            draft.writes.push(cluster);
            subject(admission, draft).await
        })
    }

    fn update<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            if SUBJECT.iter().all(|field| text(old, field) == text(&draft.object, field)) {
                return Ok(());
            }
            may_grant(admission, &draft.object)?;
            subject(admission, draft).await
        })
    }
}

pub(super) struct GlobalBindingStrategy;

impl Strategy for GlobalBindingStrategy {
    fn defaults(&self, _: &Admission<'_>, object: &mut Value) {
        default_name(object, "grb-");
    }

    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            let refused = |denied: Denied| admission.forbidden(&draft.object, &denied.to_string());
            admission.authorizer.may_grant_global(admission.user).map_err(refused)?;
            let name = text(&draft.object, "/globalRoleName").to_owned();
            let Some(role) = get(admission.store, &resource::GLOBAL_ROLE, None, &name).await? else {
                return Err(missing(admission, &draft.object, "globalRoleName", &name));
            };
            draft.writes.push(require(&resource::GLOBAL_ROLE, None, &role));
            subject(admission, draft).await
        })
    }
}

fn may_grant(admission: &Admission<'_>, object: &Value) -> Result<(), StatusError> {
    let (cluster, template) = (text(object, "/metadata/namespace"), text(object, "/roleTemplateName"));
    match admission.authorizer.may_grant(admission.user, cluster, template) {
        Ok(()) => Ok(()),
        Err(Denied::NoSuchRole) => Err(missing(admission, object, "roleTemplateName", template)),
        Err(denied @ (Denied::RoleLocked | Denied::NotAClusterRole)) => {
            let error = FieldError::invalid("roleTemplateName", &Value::from(template), denied.to_string());
            Err(admission.invalid(object, error))
        }
        Err(denied) => Err(admission.forbidden(object, &denied.to_string())),
    }
}

/// A user who is named exists, and still exists when the binding is stored.
async fn subject(admission: &Admission<'_>, draft: &mut Draft) -> Result<(), StatusError> {
    let name = text(&draft.object, "/userName").to_owned();
    if name.is_empty() {
        return Ok(());
    }
    let principal = text(&draft.object, "/userPrincipalName");
    if principal.strip_prefix(LOCAL).is_some_and(|user| user != name) {
        let error =
            FieldError::invalid("userPrincipalName", &Value::from(principal), "names another user than userName");
        return Err(admission.invalid(&draft.object, error));
    }
    match get(admission.store, &resource::USER, None, &name).await? {
        Some(user) => {
            draft.writes.push(require(&resource::USER, None, &user));
            Ok(())
        }
        None => Err(missing(admission, &draft.object, "userName", &name)),
    }
}

fn missing(admission: &Admission<'_>, object: &Value, field: &str, name: &str) -> StatusError {
    admission.invalid(object, FieldError::invalid(field, &Value::from(name), "does not exist"))
}
