//! What the index keeps of an object. An object that cannot be read gives no fact, hence no right.

use cattle_api::management::{ClusterRoleTemplateBinding, GlobalRole, GlobalRoleBinding, RoleTemplate, User};
use cattle_api::{Resource, resource};
use kube::core::DynamicObject;
use unicode_normalization::UnicodeNormalization as _;

use super::rules::Rule;

/// The kinds that decide about access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Who exists and is enabled.
    User,
    /// Sets of rules for the server's own API.
    GlobalRole,
    /// Who has them.
    GlobalRoleBinding,
    /// Sets of rules for a cluster.
    RoleTemplate,
    /// Who has them in which cluster.
    ClusterRoleTemplateBinding,
    /// Which clusters exist.
    Cluster,
    /// Which tokens are good, until when.
    Token,
}

impl Kind {
    /// All of them, in the order in which they are listed first.
    pub(crate) const ALL: [Self; 7] = [
        Self::User,
        Self::GlobalRole,
        Self::GlobalRoleBinding,
        Self::RoleTemplate,
        Self::ClusterRoleTemplateBinding,
        Self::Cluster,
        Self::Token,
    ];

    /// Where the store keeps it.
    pub(crate) fn resource(self) -> &'static Resource {
        match self {
            Self::User => &resource::USER,
            Self::GlobalRole => &resource::GLOBAL_ROLE,
            Self::GlobalRoleBinding => &resource::GLOBAL_ROLE_BINDING,
            Self::RoleTemplate => &resource::ROLE_TEMPLATE,
            Self::ClusterRoleTemplateBinding => &resource::CLUSTER_ROLE_TEMPLATE_BINDING,
            Self::Cluster => &resource::CLUSTER,
            Self::Token => &resource::TOKEN,
        }
    }
}

/// Who a binding is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    User(String),
    Group(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserFact {
    pub(crate) login: Option<String>,
    /// Enabled, and not in need of another password: may do anything at all.
    pub(crate) active: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GlobalBinding {
    pub(crate) subject: Subject,
    pub(crate) role: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) rules: Vec<Rule>,
    pub(crate) inherits: Vec<String>,
    pub(crate) locked: bool,
    pub(crate) for_clusters: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterBinding {
    pub(crate) subject: Subject,
    pub(crate) template: String,
}

/// `true` for an object that is there to stay: one that is being deleted gives no rights any more.
pub(crate) fn is_live(object: &DynamicObject) -> bool {
    object.metadata.deletion_timestamp.is_none()
}

pub(crate) fn user(object: &DynamicObject) -> Option<UserFact> {
    let user = read::<User>(object)?.spec;
    let login = Some(fold_username(&user.username)).filter(|login| !login.is_empty());
    Some(UserFact { login, active: user.is_enabled() && !user.must_change_password })
}

pub(crate) fn global_role(object: &DynamicObject) -> Option<Vec<Rule>> {
    read::<GlobalRole>(object).map(|role| role.spec.rules.into_iter().map(Rule::from).collect())
}

pub(crate) fn global_binding(object: &DynamicObject) -> Option<GlobalBinding> {
    let binding = read::<GlobalRoleBinding>(object)?.spec;
    let subject = one_subject(filled(&binding.user_name), filled(&binding.group_principal_name))?;
    Some(GlobalBinding { subject, role: binding.global_role_name })
}

pub(crate) fn template(object: &DynamicObject) -> Option<Template> {
    let template = read::<RoleTemplate>(object)?.spec;
    Some(Template {
        rules: template.rules.into_iter().map(Rule::from).collect(),
        inherits: template.role_template_names,
        locked: template.locked,
        for_clusters: template.context.is_empty() || template.context == "cluster",
    })
}

/// A binding lives in its cluster's namespace; one that names another cluster than the one it lives in is void.
pub(crate) fn cluster_binding(object: &DynamicObject) -> Option<ClusterBinding> {
    let binding = read::<ClusterRoleTemplateBinding>(object)?.spec;
    if object.metadata.namespace.as_deref() != Some(&binding.cluster_name) {
        return None;
    }
    let principal = filled(&binding.user_principal_name);
    let by_principal = principal.map(|principal| principal.strip_prefix("local://").unwrap_or_default());
    let user = match (filled(&binding.user_name), by_principal) {
        (Some(name), Some(principal)) if name != principal => return None,
        (name, principal) => name.or(principal),
    };
    let subject = one_subject(user, binding.group())?;
    Some(ClusterBinding { subject, template: binding.role_template_name })
}

/// A sign-in name as it is compared: without case (a person who types `Ann` means `ann`) and in Unicode's normal form, so
/// that two names that look the same are the same.
#[must_use]
pub fn fold_username(login: &str) -> String {
    login.trim().to_lowercase().nfc().collect()
}

fn one_subject(user: Option<&str>, group: Option<&str>) -> Option<Subject> {
    match (user, group) {
        (Some(user), None) if !user.is_empty() => Some(Subject::User(user.to_owned())),
        (None, Some(group)) => Some(Subject::Group(group.to_owned())),
        _ => None,
    }
}

fn filled(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

fn read<K: cattle_api::Kind>(object: &DynamicObject) -> Option<K> {
    resource::decode(object)
        .inspect_err(|error| {
            tracing::warn!(
                kind = K::resource().kind,
                namespace = object.metadata.namespace.as_deref().unwrap_or_default(),
                name = object.metadata.name.as_deref().unwrap_or_default(),
                %error,
                "an object that decides about access cannot be read: it gives no rights"
            );
        })
        .ok()
}
