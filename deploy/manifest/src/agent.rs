//! The cluster agent: credentials, Deployment, disruption budget, priority.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, NodeAffinity, NodeSelector,
    NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity,
    PodSecurityContext, PodSpec, PodTemplateSpec, PreferredSchedulingTerm, Probe, ProjectedVolumeSource,
    ResourceRequirements, SeccompProfile, Secret, SecretVolumeSource, SecurityContext, ServiceAccountTokenProjection,
    Toleration, TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection, WeightedPodAffinityTerm,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::document::Object;
use crate::image::Image;
use crate::import::{ImportManifest, cluster_metadata, labels, metadata};
use crate::names;

/// Replicas of the agent. A second one keeps the cluster reachable while the first one's node is drained.
const REPLICAS: i32 = 2;
/// User and group of the agent's process, as in the image.
pub(crate) const USER: i64 = 65532;

pub(crate) fn objects(input: &ImportManifest) -> Vec<Object> {
    let credentials = credentials(input);
    let name = credentials.metadata.name.clone().unwrap_or_default();
    vec![Object::new(&credentials), priority_class(), disruption_budget(), deployment(input, &name)]
}

/// The Secret with the server's URL and the registration token. Its name depends on both, so that a new token makes a
/// new Secret and thereby rolls the Deployment.
fn credentials(input: &ImportManifest) -> Secret {
    let (url, token) = (input.server_url.as_str(), input.registration_token.expose());
    let joined = format!("{url}.{token}.{}", input.cluster_id.as_str());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, joined.as_bytes());
    let hash: String = digest.as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let field = |name: &str, value: &str| (name.to_owned(), ByteString(value.as_bytes().to_vec()));
    Secret {
        metadata: metadata(names::NAMESPACE, &format!("cattle-credentials-{hash}")),
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([field("url", url), field("token", token)])),
        ..Secret::default()
    }
}

fn priority_class() -> Object {
    Object::new(&PriorityClass {
        metadata: cluster_metadata(names::AGENT_PRIORITY_CLASS),
        description: Some("The agent that connects this cluster to its management server".into()),
        // Above ordinary workloads, far below Kubernetes' own classes (2,000,000,000).
        value: Some(1_000_000),
        ..PriorityClass::default()
    })
}

fn disruption_budget() -> Object {
    Object::new(&PodDisruptionBudget {
        metadata: metadata(names::NAMESPACE, names::AGENT),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selector()),
            // An agent that is not ready (server away) must not block a node drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

fn deployment(input: &ImportManifest, credentials: &str) -> Object {
    let mut pod_labels = labels();
    pod_labels.extend(app_label());
    Object::new(&Deployment {
        metadata: metadata(names::NAMESPACE, names::AGENT),
        spec: DeploymentSpec {
            replicas: Some(REPLICAS),
            revision_history_limit: Some(3),
            selector: selector(),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
                spec: Some(pod(input, credentials)),
            },
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    })
}

fn pod(input: &ImportManifest, credentials: &str) -> PodSpec {
    PodSpec {
        service_account_name: Some(names::AGENT.into()),
        // Its one Kubernetes right (a token for the server) is used through the account's ordinary token.
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        priority_class_name: Some(names::AGENT_PRIORITY_CLASS.into()),
        termination_grace_period_seconds: Some(30),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(runtime_default()),
            ..PodSecurityContext::default()
        }),
        affinity: Some(affinity()),
        topology_spread_constraints: Some(vec![
            spread("kubernetes.io/hostname"),
            spread("topology.kubernetes.io/zone"),
        ]),
        tolerations: Some(tolerations()),
        containers: vec![container(input, credentials)],
        volumes: Some(volumes(input, credentials)),
        ..PodSpec::default()
    }
}

fn container(input: &ImportManifest, credentials: &str) -> Container {
    Container {
        name: "cluster-register".into(),
        image: Some(image_of(input, &input.image)),
        image_pull_policy: Some("IfNotPresent".into()),
        env: Some(environment(input, credentials)),
        ports: Some(vec![ContainerPort {
            name: Some("admin".into()),
            container_port: names::ADMIN_PORT,
            ..ContainerPort::default()
        }]),
        resources: Some(requirements(&[("cpu", "50m"), ("memory", "32Mi")], "256Mi")),
        // Ten times 30 s: the agent says "stuck" after 5 minutes without an attempt; a refusing server never fails it.
        liveness_probe: Some(probe("/healthz", 30, 10)),
        readiness_probe: Some(probe("/readyz", 5, 3)),
        security_context: Some(SecurityContext { run_as_non_root: Some(true), ..no_rights() }),
        volume_mounts: Some(vec![mount("credentials", names::CREDENTIALS_DIR), mount("agent-token", names::TOKEN_DIR)]),
        ..Container::default()
    }
}

fn environment(input: &ImportManifest, credentials: &str) -> Vec<EnvVar> {
    let mut variables = server_environment(input);
    variables.extend([
        text("CATTLE_CREDENTIAL_NAME", credentials),
        text("CATTLE_CREDENTIALS_DIR", names::CREDENTIALS_DIR),
        text("CATTLE_ADMIN_LISTEN", &format!("0.0.0.0:{}", names::ADMIN_PORT)),
    ]);
    variables.extend(input.agent_env.iter().map(|variable| text(variable.name(), variable.value())));
    variables
}

/// What every agent is told of the server and of itself.
pub(crate) fn server_environment(input: &ImportManifest) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.into(), ..ObjectFieldSelector::default() }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let checksum = input.ca_checksum.as_ref().map_or("", |checksum| checksum.as_str());
    vec![
        text("CATTLE_SERVER", input.server_url.as_str()),
        text("CATTLE_CA_CHECKSUM", checksum),
        text("CATTLE_CLUSTER_ID", input.cluster_id.as_str()),
        text("CATTLE_SERVER_ID", input.server_id.as_str()),
        text("CATTLE_TOKEN_FILE", &format!("{}/{}", names::TOKEN_DIR, names::TOKEN_FILE)),
        field("CATTLE_NODE_NAME", "spec.nodeName"),
        field("CATTLE_POD_NAME", "metadata.name"),
    ]
}

pub(crate) fn text(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), ..EnvVar::default() }
}

/// As a registry behind the setting has it.
pub(crate) fn image_of(input: &ImportManifest, image: &Image) -> String {
    input.registry.as_ref().map_or_else(|| image.clone(), |registry| image.behind(registry)).to_string()
}

/// A container that can do nothing but what its user may.
pub(crate) fn no_rights() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

pub(crate) fn requirements(requests: &[(&str, &str)], memory: &str) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(quantities(requests)),
        limits: Some(quantities(&[("memory", memory)])),
        ..ResourceRequirements::default()
    }
}

fn volumes(input: &ImportManifest, credentials: &str) -> Vec<Volume> {
    vec![
        Volume {
            name: "credentials".into(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(credentials.into()),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        token_volume(input),
    ]
}

/// The pod's own token for the server.
pub(crate) fn token_volume(input: &ImportManifest) -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(names::agent_audience(input.cluster_id.as_str(), input.server_id.as_str())),
        expiration_seconds: Some(names::TOKEN_SECONDS),
        path: names::TOKEN_FILE.into(),
        ..ServiceAccountTokenProjection::default()
    };
    Volume {
        name: "agent-token".into(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some(vec![VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() }]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// One replica per node where possible; control-plane nodes where they take pods; never Windows.
fn affinity() -> Affinity {
    let requirement = |key: &str, operator: &str, values: Option<Vec<String>>| NodeSelectorRequirement {
        key: key.into(),
        operator: operator.into(),
        values,
    };
    let term =
        |requirement| NodeSelectorTerm { match_expressions: Some(vec![requirement]), ..NodeSelectorTerm::default() };
    let prefer =
        |key: &str| PreferredSchedulingTerm { weight: 100, preference: term(requirement(key, "Exists", None)) };
    Affinity {
        node_affinity: Some(NodeAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                prefer("node-role.kubernetes.io/control-plane"),
                prefer("node-role.kubernetes.io/controlplane"),
                prefer("node-role.kubernetes.io/master"),
            ]),
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term(requirement("kubernetes.io/os", "NotIn", Some(vec!["windows".into()])))],
            }),
        }),
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    label_selector: Some(selector()),
                    topology_key: "kubernetes.io/hostname".into(),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn spread(topology_key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology_key.into(),
        // A cluster of one node must still get both replicas.
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(selector()),
        ..TopologySpreadConstraint::default()
    }
}

/// The taints of control planes. Nothing else is tolerated: an agent on a failing node is no help.
fn tolerations() -> Vec<Toleration> {
    let taint = |key: &str, effect: &str| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some(effect.into()),
        ..Toleration::default()
    };
    vec![
        taint("node-role.kubernetes.io/control-plane", "NoSchedule"),
        taint("node-role.kubernetes.io/controlplane", "NoSchedule"),
        taint("node-role.kubernetes.io/master", "NoSchedule"),
        taint("node-role.kubernetes.io/control-plane", "NoExecute"),
        taint("node-role.kubernetes.io/etcd", "NoExecute"),
    ]
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("admin".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

pub(crate) fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path.into(), read_only: Some(true), ..VolumeMount::default() }
}

pub(crate) fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }
}

fn selector() -> LabelSelector {
    LabelSelector { match_labels: Some(app_label()), ..LabelSelector::default() }
}

fn app_label() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), names::AGENT.to_owned())])
}

pub(crate) fn quantities(values: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    values.iter().map(|&(name, value)| (name.to_owned(), Quantity(value.to_owned()))).collect()
}
