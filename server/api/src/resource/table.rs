//! The statics of all kinds.

use kube::CustomResourceExt;

use super::{Resource, Verb, canonical, check};

/// Defines the static of a kind. Verbs, scope and names are compared with the derived definition by a test.
macro_rules! resource {
    ($(#[$doc:meta])* $name:ident = $kind:path, $group:expr, $version:expr, $plural:expr, $singular:expr,
     short $short:expr, namespaced $namespaced:expr, status $status:expr, transient $transient:expr) => {
        resource!($(#[$doc])* $name = $kind, $group, $version, $plural, $singular, short $short,
            namespaced $namespaced, status $status, transient $transient, verbs Verb::ALL);
    };
    ($(#[$doc:meta])* $name:ident = $kind:path, $group:expr, $version:expr, $plural:expr, $singular:expr,
     short $short:expr, namespaced $namespaced:expr, status $status:expr, transient $transient:expr, verbs $verbs:expr) => {
        $(#[$doc])*
        pub static $name: Resource = Resource {
            group: $group,
            version: $version,
            kind: last_segment(stringify!($kind)),
            plural: $plural,
            singular: $singular,
            short_names: $short,
            categories: &["cattle"],
            namespaced: $namespaced,
            has_status: $status,
            verbs: $verbs,
            transient: $transient,
            definition: <$kind as CustomResourceExt>::crd,
            check: check::<$kind>,
            canonical: canonical::<$kind>,
        };
    };
}

const MANAGEMENT: &str = "management.cattle.io";
const EXT: &str = "ext.cattle.io";

resource!(
    /// [`Cluster`](crate::management::Cluster)
    CLUSTER = crate::management::Cluster, MANAGEMENT, "v3", "clusters", "cluster",
    short &[], namespaced false, status true, transient &["/status/agents", "/status/conditions"]);
resource!(
    /// [`ClusterRegistrationToken`](crate::management::ClusterRegistrationToken)
    CLUSTER_REGISTRATION_TOKEN = crate::management::ClusterRegistrationToken, MANAGEMENT, "v3",
    "clusterregistrationtokens", "clusterregistrationtoken",
    short &["crt"], namespaced true, status true,
    transient &["/status/token", "/status/manifestUrl", "/status/command"]);
resource!(
    /// [`ClusterRoleTemplateBinding`](crate::management::ClusterRoleTemplateBinding)
    CLUSTER_ROLE_TEMPLATE_BINDING = crate::management::ClusterRoleTemplateBinding, MANAGEMENT, "v3",
    "clusterroletemplatebindings", "clusterroletemplatebinding",
    short &["crtb"], namespaced true, status false, transient &[]);
resource!(
    /// [`Node`](crate::management::Node)
    NODE = crate::management::Node, MANAGEMENT, "v3", "nodes", "node",
    short &[], namespaced true, status true, transient &["/status/agent", "/status/conditions"],
    verbs &[Verb::Get, Verb::List, Verb::Watch]);
resource!(
    /// [`RoleTemplate`](crate::management::RoleTemplate)
    ROLE_TEMPLATE = crate::management::RoleTemplate, MANAGEMENT, "v3", "roletemplates", "roletemplate",
    short &["rt"], namespaced false, status false, transient &[]);
resource!(
    /// [`GlobalRole`](crate::management::GlobalRole)
    GLOBAL_ROLE = crate::management::GlobalRole, MANAGEMENT, "v3", "globalroles", "globalrole",
    short &[], namespaced false, status false, transient &[]);
resource!(
    /// [`GlobalRoleBinding`](crate::management::GlobalRoleBinding)
    GLOBAL_ROLE_BINDING = crate::management::GlobalRoleBinding, MANAGEMENT, "v3",
    "globalrolebindings", "globalrolebinding",
    short &["grb"], namespaced false, status false, transient &[]);
resource!(
    /// [`User`](crate::management::User)
    USER = crate::management::User, MANAGEMENT, "v3", "users", "user",
    short &[], namespaced false, status false, transient &["/password"]);
resource!(
    /// [`Setting`](crate::management::Setting)
    SETTING = crate::management::Setting, MANAGEMENT, "v3", "settings", "setting",
    short &[], namespaced false, status false, transient &[]);
resource!(
    /// [`Token`](crate::ext::Token)
    TOKEN = crate::ext::Token, EXT, "v1", "tokens", "token",
    short &[], namespaced false, status true, transient &["/status/value"]);
resource!(
    /// [`Kubeconfig`](crate::ext::Kubeconfig)
    KUBECONFIG = crate::ext::Kubeconfig, EXT, "v1", "kubeconfigs", "kubeconfig",
    short &[], namespaced false, status true, transient &["/status/value"]);

/// Every resource, in the order in which discovery shows them.
pub static ALL: &[&Resource] = &[
    &CLUSTER,
    &CLUSTER_REGISTRATION_TOKEN,
    &CLUSTER_ROLE_TEMPLATE_BINDING,
    &GLOBAL_ROLE,
    &GLOBAL_ROLE_BINDING,
    &NODE,
    &ROLE_TEMPLATE,
    &SETTING,
    &USER,
    &KUBECONFIG,
    &TOKEN,
];

const fn last_segment(path: &'static str) -> &'static str {
    let bytes = path.as_bytes();
    let mut start = bytes.len();
    while start > 0 && bytes[start - 1] != b':' && bytes[start - 1] != b' ' {
        start -= 1;
    }
    path.split_at(start).1
}
