//! Group `management.cattle.io/v3`: clusters, who may do what, and settings.

pub mod agent_session;
pub mod cluster;
pub mod cluster_registration_token;
pub mod cluster_role_template_binding;
pub mod global_role;
pub mod global_role_binding;
pub mod node;
pub mod role_template;
pub mod setting;
pub mod user;

pub use agent_session::{AgentSession, LastProbe, SessionState};
pub use cluster::{Cluster, ClusterIdentity, ClusterSpec, ClusterStatus};
pub use cluster_registration_token::{ClusterRegistrationToken, ClusterRegistrationTokenSpec};
pub use cluster_role_template_binding::{ClusterRoleTemplateBinding, ClusterRoleTemplateBindingFields};
pub use global_role::{GlobalRole, GlobalRoleFields};
pub use global_role_binding::{GlobalRoleBinding, GlobalRoleBindingFields};
pub use node::{Node, NodeSpec, NodeStatus};
pub use role_template::{RoleTemplate, RoleTemplateFields};
pub use setting::{Setting, SettingFields};
pub use user::{User, UserFields};
