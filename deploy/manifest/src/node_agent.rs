//! The node agents: one pod on every node, on the host's network.
//!
//! What they may do in Kubernetes: nothing. What they may see of their host: in the init container, read-only, the folders of
//! the distributions and `os-release`, of which it writes down the API server's address, the distribution, the roles and the
//! operating system's name; in the agent's own container no file yet.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction, HostPathVolumeSource, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

use crate::agent::{
    USER, image_of, mount, no_rights, requirements, runtime_default, server_environment, text, token_volume,
};
use crate::document::Object;
use crate::import::{ImportManifest, labels, metadata};
use crate::names;

/// Where the init container leaves what it has found.
const RUN_DIR: &str = "/run/cattle";
const NODE_FILE: &str = "/run/cattle/node.json";
/// Where the init container sees the host's files.
const ROOT: &str = "/host";
/// What it sees: kubeadm's folder, that of K3s and RKE2, and the name of the operating system. The type is what the kubelet makes
/// when it is not there, since a pod that waits for a folder of another distribution would wait for ever.
const HOST_PATHS: [(&str, &str, &str); 3] = [
    ("etc-kubernetes", "/etc/kubernetes", "DirectoryOrCreate"),
    ("rancher", "/var/lib/rancher", "DirectoryOrCreate"),
    ("os-release", "/etc/os-release", "FileOrCreate"),
];

pub(crate) fn object(input: &ImportManifest) -> Object {
    let mut pod_labels = labels();
    pod_labels.extend(app_label());
    Object::new(&DaemonSet {
        metadata: metadata(names::NAMESPACE, names::NODE_AGENT),
        spec: DaemonSetSpec {
            revision_history_limit: Some(3),
            selector: LabelSelector { match_labels: Some(app_label()), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
                spec: Some(pod(input)),
            },
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(IntOrString::String("10%".into())),
                    ..RollingUpdateDaemonSet::default()
                }),
            }),
            ..DaemonSetSpec::default()
        },
        ..DaemonSet::default()
    })
}

fn pod(input: &ImportManifest) -> PodSpec {
    let mut volumes = vec![
        token_volume(input),
        Volume {
            name: "run".into(),
            empty_dir: Some(EmptyDirVolumeSource { medium: Some("Memory".into()), ..EmptyDirVolumeSource::default() }),
            ..Volume::default()
        },
    ];
    volumes.extend(HOST_PATHS.map(|(name, path, kind)| Volume {
        name: name.into(),
        host_path: Some(HostPathVolumeSource { path: path.into(), type_: Some(kind.into()) }),
        ..Volume::default()
    }));
    PodSpec {
        service_account_name: Some(names::NODE_AGENT.into()),
        // It has no right, so it gets no token for the API server.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        priority_class_name: Some(names::AGENT_PRIORITY_CLASS.into()),
        termination_grace_period_seconds: Some(30),
        // Works while the cluster's own network and DNS do not.
        host_network: Some(true),
        dns_policy: Some("Default".into()),
        security_context: Some(PodSecurityContext {
            fs_group: Some(USER),
            seccomp_profile: Some(runtime_default()),
            ..PodSecurityContext::default()
        }),
        node_selector: Some(BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())])),
        // Every node, whatever is wrong with it: that is when somebody wants to look at it.
        tolerations: Some(vec![Toleration { operator: Some("Exists".into()), ..Toleration::default() }]),
        init_containers: Some(vec![inspect(input)]),
        containers: vec![agent(input)],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// Looks at the node's files, which root alone may read, and writes down the little that the agent is to know.
fn inspect(input: &ImportManifest) -> Container {
    let mut mounts: Vec<VolumeMount> =
        HOST_PATHS.iter().map(|(name, path, _)| mount(name, &format!("{ROOT}{path}"))).collect();
    mounts.push(VolumeMount { name: "run".into(), mount_path: RUN_DIR.into(), ..VolumeMount::default() });
    Container {
        name: "inspect".into(),
        image: Some(image_of(input, &input.node_image)),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec!["inspect".into()]),
        env: Some(vec![text("CATTLE_NODE_ROOT", ROOT), text("CATTLE_NODE_FILE", NODE_FILE)]),
        resources: Some(requirements(&[("cpu", "10m"), ("memory", "16Mi")], "64Mi")),
        security_context: Some(SecurityContext {
            run_as_user: Some(0),
            run_as_group: Some(0),
            run_as_non_root: Some(false),
            ..no_rights()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn agent(input: &ImportManifest) -> Container {
    let mut environment = server_environment(input);
    environment.push(text("CATTLE_NODE_FILE", NODE_FILE));
    environment.push(text("CATTLE_ADMIN_LISTEN", &format!("127.0.0.1:{}", names::NODE_ADMIN_PORT)));
    environment.extend(input.agent_env.iter().map(|variable| text(variable.name(), variable.value())));
    Container {
        name: "node-agent".into(),
        image: Some(image_of(input, &input.node_image)),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec!["run".into()]),
        env: Some(environment),
        ports: Some(vec![ContainerPort {
            name: Some("admin".into()),
            container_port: names::NODE_ADMIN_PORT,
            host_ip: Some("127.0.0.1".into()),
            host_port: Some(names::NODE_ADMIN_PORT),
            ..ContainerPort::default()
        }]),
        resources: Some(requirements(&[("cpu", "10m"), ("memory", "16Mi")], "128Mi")),
        liveness_probe: Some(probe("/healthz", 30, 10)),
        readiness_probe: Some(probe("/readyz", 5, 3)),
        security_context: Some(SecurityContext {
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            run_as_non_root: Some(true),
            ..no_rights()
        }),
        volume_mounts: Some(vec![mount("agent-token", names::TOKEN_DIR), mount("run", RUN_DIR)]),
        ..Container::default()
    }
}

/// The kubelet asks on its own loopback: nobody else reaches the listener.
fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            host: Some("127.0.0.1".into()),
            path: Some(path.into()),
            port: IntOrString::Int(names::NODE_ADMIN_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn app_label() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), names::NODE_AGENT.to_owned())])
}
