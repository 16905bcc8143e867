//! `User`: a password that is hashed and sealed, a login name that is unique, the roles of every new user; and everything
//! of a user goes with them.

use cattle_api::management::{GlobalRoleBinding, GlobalRoleBindingFields};
use cattle_api::{Secret, names, resource, sealed};
use cattle_auth::{PasswordRules, fold_username};
use serde_json::{Value, json};

use super::lookup::{all, make, remove};
use super::{Admission, Along, Checked, Draft, Strategy, default_name, text};
use crate::field::FieldError;
use crate::status::StatusError;
use crate::verb::store_error;

const PASSWORD: &str = "/password";

pub(super) struct UserStrategy;

impl Strategy for UserStrategy {
    fn defaults(&self, _: &Admission<'_>, object: &mut Value) {
        default_name(object, names::USER_PREFIX);
    }

    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            let name = text(&draft.object, "/metadata/name").to_owned();
            unique_username(admission, &draft.object).await?;
            local_principal(&mut draft.object, &name);
            if let Some(password) = draft.intake.get(PASSWORD).cloned() {
                let hash = hash(admission, &draft.object, password).await?;
                draft.sealed.extend(hash.map(|hash| (sealed::PASSWORD_HASH.to_owned(), hash)));
            }
            for role in all(admission.store, &resource::GLOBAL_ROLE, None).await? {
                if role.data.get("newUserDefault").and_then(Value::as_bool).unwrap_or(false) {
                    let role = role.metadata.name.clone().unwrap_or_default();
                    draft.writes.push(make(&binding(&name, role))?);
                }
            }
            Ok(())
        })
    }

    fn update<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            if draft.intake.contains_key(PASSWORD) {
                let detail = "is set on create only; change it through the login API";
                return Err(admission.invalid(old, FieldError::forbidden("password", detail)));
            }
            let name = text(old, "/metadata/name");
            if name == admission.user.name() && draft.object.get("enabled") == Some(&Value::Bool(false)) {
                let detail = "nobody can disable themselves";
                return Err(admission.invalid(old, FieldError::forbidden("enabled", detail)));
            }
            local_principal(&mut draft.object, name);
            if text(old, "/username") == text(&draft.object, "/username") {
                return Ok(());
            }
            unique_username(admission, &draft.object).await
        })
    }

    fn delete<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value) -> Along<'a> {
        Box::pin(async move {
            let name = text(old, "/metadata/name");
            if name == admission.user.name() {
                return Err(admission.forbidden(old, "nobody can delete themselves"));
            }
            let mut writes = Vec::new();
            for (kind, field) in [
                (&resource::TOKEN, "/spec/userID"),
                (&resource::CLUSTER_ROLE_TEMPLATE_BINDING, "/userName"),
                (&resource::GLOBAL_ROLE_BINDING, "/userName"),
            ] {
                let found = all(admission.store, kind, None).await?;
                writes.extend(found.iter().filter(|object| text(&object.data, field) == name).map(|o| remove(kind, o)));
            }
            let kubeconfigs = all(admission.store, &resource::KUBECONFIG, None).await?;
            let theirs = kubeconfigs.iter().filter(|object| super::kubeconfig::owner(&object.metadata) == Some(name));
            writes.extend(theirs.map(|object| remove(&resource::KUBECONFIG, object)));
            Ok(writes)
        })
    }

    fn is_unique_beyond_name(&self) -> bool {
        true
    }
}

async fn hash(admission: &Admission<'_>, user: &Value, password: Secret) -> Result<Option<Secret>, StatusError> {
    let rules = PasswordRules::read(admission.store).await.map_err(store_error)?;
    let refused = |detail: String| admission.invalid(user, FieldError::forbidden("password", detail));
    let accepted = rules.accept(&password, text(user, "/username"), text(user, "/displayName"));
    let accepted = accepted.map_err(|rejected| refused(rejected.to_string()))?;
    if admission.dry_run {
        return Ok(None);
    }
    let hash = admission.passwords.hash(&accepted).await;
    hash.map(Some).map_err(|busy| StatusError::unavailable(busy.to_string()).retry_after(1))
}

/// Login names are compared as sign-ins compare them.
async fn unique_username(admission: &Admission<'_>, user: &Value) -> Result<(), StatusError> {
    let wanted = fold_username(text(user, "/username"));
    if wanted.is_empty() {
        return Ok(());
    }
    let users = all(admission.store, &resource::USER, None).await?;
    let taken = users.iter().any(|other| {
        fold_username(text(&other.data, "/username")) == wanted
            && other.metadata.name.as_deref() != Some(text(user, "/metadata/name"))
    });
    if taken {
        let value = Value::from(text(user, "/username"));
        return Err(admission.invalid(user, FieldError::duplicate("username", &value)));
    }
    Ok(())
}

/// `local://<name>` is always among a user's principals, and nobody else's local principal is.
fn local_principal(user: &mut Value, name: &str) {
    let own = format!("local://{name}");
    let given = user.get("principalIds").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut principals = vec![json!(own)];
    principals.extend(given.into_iter().filter(|one| !one.as_str().is_some_and(|one| one.starts_with("local://"))));
    user["principalIds"] = Value::Array(principals);
}

fn binding(user: &str, role: String) -> GlobalRoleBinding {
    let fields = GlobalRoleBindingFields {
        global_role_name: role,
        user_name: user.to_owned(),
        ..GlobalRoleBindingFields::default()
    };
    GlobalRoleBinding::new(&names::generate("grb-"), fields)
}
