//! The first administrator, and the way back in when nobody has a password any more.

use cattle_api::management::{GlobalRoleBinding, GlobalRoleBindingFields, User, UserFields};
use cattle_api::{Secret, builtin, names, resource, sealed};
use cattle_store::{EventKind, Key, Page, Store, StoreError, Transaction, Write};
use futures_util::StreamExt;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;

use crate::access::fold_username;
use crate::password::{NewPassword, Passwords};

/// The sign-in name of the first administrator.
pub const ADMIN_LOGIN: &str = "admin";
/// Label of the first administrator's User, as Rancher has it.
const BOOTSTRAP_LABEL: (&str, &str) = ("authz.management.cattle.io/bootstrapping", "admin-user");

/// An administrator whose password was just made. It is good for one sign-in, which must set another.
pub struct BootstrapAdmin {
    /// The User's name, `u-xxxxx`.
    pub user: String,
    /// What to sign in as.
    pub username: String,
    /// The only copy of the password.
    pub password: Secret,
}

/// Why no administrator was made.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// An object does not fit its kind.
    #[error("an object cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// The machine could not compute a hash in time.
    #[error("the password could not be hashed")]
    Hash(#[source] crate::password::Busy),
}

/// Makes the first administrator, if there is no user at all; on every later start it does nothing, whatever became of
/// that user. Not cancel safe.
///
/// # Errors
/// See [`BootstrapError`].
pub async fn ensure_admin(store: &dyn Store, passwords: &Passwords) -> Result<Option<BootstrapAdmin>, BootstrapError> {
    let one = Page { limit: Some(1), from: None };
    if !store.list(&resource::USER, None, one).await?.items.is_empty() {
        return Ok(None);
    }
    make_admin(store, passwords).await.map(Some)
}

/// Gives the administrator a new random password, ends all of that user's tokens, and enables the user and its
/// administrator's rights again; makes one when there is none. For `cattle-server reset-admin`, which needs the data
/// directory. Not cancel safe.
///
/// # Errors
/// See [`BootstrapError`].
pub async fn reset_admin(store: &dyn Store, passwords: &Passwords) -> Result<BootstrapAdmin, BootstrapError> {
    let users: Vec<User> = decoded(&store.list(&resource::USER, None, Page::ALL).await?.items);
    let live = users.into_iter().filter(|user| user.metadata.deletion_timestamp.is_none());
    // By name before label: what the operator types at the prompt is `admin`.
    let admin = live.filter(|user| fold_username(&user.spec.username) == ADMIN_LOGIN || is_bootstrap(user));
    let Some(mut admin) = admin.max_by_key(|user| fold_username(&user.spec.username) == ADMIN_LOGIN) else {
        return make_admin(store, passwords).await;
    };
    let (password, hash) = new_password(passwords).await?;
    let name = admin.metadata.name.clone().unwrap_or_default();
    admin.spec.enabled = Some(true);
    admin.spec.must_change_password = true;
    let mut writes = vec![Write::Update { object: encode(&admin)?, sealed: vec![hash] }];
    let bindings: Vec<GlobalRoleBinding> =
        decoded(&store.list(&resource::GLOBAL_ROLE_BINDING, None, Page::ALL).await?.items);
    if !bindings.iter().any(|binding| is_admin_binding(binding, &name)) {
        writes.push(Write::Create { object: encode(&admin_binding(&name))?, sealed: Vec::new() });
    }
    for token in store.list(&resource::TOKEN, None, Page::ALL).await?.items {
        if token.data["spec"]["userID"] == name.as_str() {
            let key = Key::cluster(&resource::TOKEN, token.metadata.name.unwrap_or_default());
            writes.push(Write::Delete { key, uid: None, revision: None });
        }
    }
    store.commit(Transaction::new(writes)).await?;
    Ok(BootstrapAdmin { user: name, username: admin.spec.username, password })
}

/// Resolves when the user's password has been changed, or the user is gone: the file with the password can go then. Cancel
/// safe.
///
/// # Errors
/// The store's; a watch that ends early resolves, so call it until [`must_change_password`] says no.
pub async fn password_changed(store: &dyn Store, user: &str) -> Result<(), StoreError> {
    loop {
        let after = store.revision();
        if !must_change_password(store, user).await? {
            return Ok(());
        }
        let mut events = store.watch(&resource::USER, None, after).await?;
        while let Some(Ok(event)) = events.next().await {
            if event.object.metadata.name.as_deref() != Some(user) {
                continue;
            }
            if event.kind == EventKind::Deleted || event.object.data["mustChangePassword"] != true {
                return Ok(());
            }
        }
    }
}

/// Whether the user exists and must change the password.
///
/// # Errors
/// The store's.
pub async fn must_change_password(store: &dyn Store, user: &str) -> Result<bool, StoreError> {
    let object = store.get(&Key::cluster(&resource::USER, user)).await?;
    Ok(object.is_some_and(|object| object.data["mustChangePassword"] == true))
}

async fn make_admin(store: &dyn Store, passwords: &Passwords) -> Result<BootstrapAdmin, BootstrapError> {
    let (password, hash) = new_password(passwords).await?;
    let name = names::generate(names::USER_PREFIX);
    let mut user = User::new(
        &name,
        UserFields {
            username: ADMIN_LOGIN.to_owned(),
            display_name: "Default Admin".to_owned(),
            must_change_password: true,
            principal_ids: vec![format!("local://{name}")],
            enabled: Some(true),
            ..UserFields::default()
        },
    );
    user.metadata.labels = Some([BOOTSTRAP_LABEL].map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let writes = vec![
        Write::Create { object: encode(&user)?, sealed: vec![hash] },
        Write::Create { object: encode(&admin_binding(&name))?, sealed: Vec::new() },
    ];
    store.commit(Transaction::new(writes)).await?;
    Ok(BootstrapAdmin { user: name, username: ADMIN_LOGIN.to_owned(), password })
}

async fn new_password(passwords: &Passwords) -> Result<(Secret, (String, Secret)), BootstrapError> {
    let password = NewPassword::generate();
    let hash = passwords.hash(&password).await.map_err(BootstrapError::Hash)?;
    Ok((password.expose().clone(), (sealed::PASSWORD_HASH.to_owned(), hash)))
}

fn admin_binding(user: &str) -> GlobalRoleBinding {
    let fields = GlobalRoleBindingFields {
        global_role_name: builtin::ADMIN.to_owned(),
        user_name: user.to_owned(),
        ..GlobalRoleBindingFields::default()
    };
    GlobalRoleBinding::new(&names::generate("globalrolebinding-"), fields)
}

fn is_admin_binding(binding: &GlobalRoleBinding, user: &str) -> bool {
    let fields = &binding.spec;
    fields.user_name == user
        && fields.global_role_name == builtin::ADMIN
        && binding.metadata.deletion_timestamp.is_none()
}

fn is_bootstrap(user: &User) -> bool {
    let label = user.metadata.labels.as_ref().and_then(|labels| labels.get(BOOTSTRAP_LABEL.0));
    label.is_some_and(|value| value == BOOTSTRAP_LABEL.1)
}

fn decoded<K: DeserializeOwned + cattle_api::Kind>(objects: &[DynamicObject]) -> Vec<K> {
    objects.iter().filter_map(|object| resource::decode(object).ok()).collect()
}

fn encode<K: cattle_api::Kind>(object: &K) -> Result<DynamicObject, BootstrapError> {
    resource::encode(object).map_err(BootstrapError::Encode)
}
