//! The import manifest: what `kubectl apply` puts into a cluster to connect it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::document::{Manifest, Object};
use crate::image::{Image, Registry};
use crate::names;
use crate::parameters::{CaChecksum, EnvVar, Label, MAX_ENV, ParameterError, RegistrationToken, ServerUrl};
use crate::{access, agent, node_agent};

/// What differs from one cluster's manifest to another's.
pub struct ImportManifest {
    /// Where the agent dials to.
    pub server_url: ServerUrl,
    /// Pins the server's CA; `None` when the server's certificate chains to public roots.
    pub ca_checksum: Option<CaChecksum>,
    /// The cluster's id, also a part of the audience of the agent's tokens.
    pub cluster_id: Label,
    /// The server's install id, the other part of that audience.
    pub server_id: Label,
    /// Binds the cluster's record to the cluster, once.
    pub registration_token: RegistrationToken,
    /// The cluster agent's image.
    pub image: Image,
    /// The node agents' image.
    pub node_image: Image,
    /// The setting `system-default-registry`.
    pub registry: Option<Registry>,
    /// Further variables of the agent's container, such as proxies; at most [`MAX_ENV`].
    pub agent_env: Vec<EnvVar>,
}

impl ImportManifest {
    /// The objects.
    ///
    /// # Errors
    /// [`ParameterError::TooManyEnv`]; every other parameter was checked when it was made.
    pub fn build(&self) -> Result<Manifest, ParameterError> {
        if self.agent_env.len() > MAX_ENV {
            return Err(ParameterError::TooManyEnv);
        }
        let mut objects = vec![
            Object::new(&namespace(names::NAMESPACE, "privileged")),
            Object::new(&impersonation_namespace()),
            Object::new(&account(names::SERVER_ACCOUNT)),
            Object::new(&account(names::AGENT)),
            Object::new(&account(names::NODE_AGENT)),
        ];
        objects.extend(access::objects());
        objects.extend(agent::objects(self));
        objects.push(node_agent::object(self));
        Ok(Manifest::new(objects))
    }
}

/// Namespace of the impersonators. The server makes it again when it was deleted by hand.
#[must_use]
pub fn impersonation_namespace() -> Namespace {
    let mut object = namespace(names::IMPERSONATION_NAMESPACE, "restricted");
    let labels = object.metadata.labels.get_or_insert_default();
    labels.insert(names::IMPERSONATOR_LABEL.into(), "true".into());
    object
}

/// The labels of everything that we create downstream.
#[must_use]
pub fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([
        (names::MANAGED_BY_LABEL.to_owned(), names::MANAGER.to_owned()),
        (names::CREATOR_LABEL.to_owned(), names::CREATOR.to_owned()),
    ])
}

/// Pods of these namespaces are ours alone. Node agents are on their host's network, which is beyond every other level of pod
/// security; the namespace without them has the strictest.
fn namespace(name: &str, pod_security: &str) -> Namespace {
    let mut metadata = cluster_metadata(name);
    let labels = metadata.labels.get_or_insert_default();
    for mode in ["enforce", "audit", "warn"] {
        labels.insert(format!("pod-security.kubernetes.io/{mode}"), pod_security.into());
    }
    Namespace { metadata, ..Namespace::default() }
}

fn account(name: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(names::NAMESPACE, name),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

pub(crate) fn cluster_metadata(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), labels: Some(labels()), ..ObjectMeta::default() }
}

pub(crate) fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.into()), ..cluster_metadata(name) }
}
