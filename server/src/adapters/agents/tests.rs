use cattle_api::management::{ClusterIdentity, ClusterRegistrationToken, ClusterSpec, ClusterStatus, cluster::Rebind};
use cattle_api::sealed::REGISTRATION_TOKEN_HASH;
use cattle_store::SqliteStore;
use serde_json::json;

use super::*;

struct World {
    _directory: tempfile::TempDir,
    clusters: Typed<Cluster>,
    tokens: Typed<ClusterRegistrationToken>,
    rebinding: Arc<Rebinding>,
    agents: Agents,
}

impl World {
    /// An empty store, in which a token is sealed as it is.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&directory.path().join("data")).unwrap());
        let trust = Arc::new(AgentTrust { server_id: "server".to_owned() });
        let audit = Arc::new(cattle_audit::MemorySink::default());
        let matches = |_: &str, presented: &Secret, sealed: &Secret| presented.expose() == sealed.expose();
        let registrations = Registrations::new(Arc::clone(&store), trust, matches, audit);
        let rebinding = Rebinding::new(Arc::clone(&store));
        Self {
            _directory: directory,
            clusters: Typed::new(Arc::clone(&store)),
            tokens: Typed::new(Arc::clone(&store)),
            agents: Agents::new(store, Arc::new(registrations), Arc::clone(&rebinding), "server".to_owned()),
            rebinding,
        }
    }

    async fn cluster(&self, name: &str, bound: bool) {
        let rebind = bound.then(|| Rebind { ca_sha256: "a".repeat(64) });
        let mut cluster =
            Cluster::new(name, ClusterSpec { display_name: name.into(), rebind, ..ClusterSpec::default() });
        let identity = bound.then(|| ClusterIdentity {
            kube_system_uid: "uid".into(),
            ca_cert: "pem".into(),
            ca_generation: 1,
            api_server_name: "kubernetes".into(),
            issuer: "issuer".into(),
            jwks: "{}".into(),
        });
        cluster.status = Some(ClusterStatus { identity, ..ClusterStatus::default() });
        self.clusters.create(&cluster, Vec::new()).await.unwrap();
    }

    /// A registration token of `cluster`, which is also its secret.
    async fn token(&self, cluster: &str, secret: &str, expires_at: &str) {
        let token: ClusterRegistrationToken = serde_json::from_value(json!({
            "apiVersion": "management.cattle.io/v3", "kind": "ClusterRegistrationToken",
            "metadata": { "name": secret, "namespace": cluster }, "spec": { "clusterName": cluster }, "status": { "expiresAt": expires_at },
        }))
        .unwrap();
        let sealed = vec![(REGISTRATION_TOKEN_HASH.to_owned(), Secret::from(secret.to_owned()))];
        self.tokens.create(&token, sealed).await.unwrap();
    }

    async fn authenticate(&self, cluster: &str) -> RejectCode {
        let token = cattle_proto::secret::Secret::new("a.b.c".to_owned());
        self.agents.authenticate(&id(cluster), &token).await.unwrap_err()
    }

    async fn register(&self, cluster: &str, secret: &str) -> Result<(), RejectCode> {
        let token = cattle_proto::secret::Secret::new(secret.to_owned());
        self.agents.begin_registration(&id(cluster), &token).await.map(drop)
    }
}

fn id(name: &str) -> ClusterId {
    name.parse().unwrap()
}

#[tokio::test]
async fn an_agent_of_a_cluster_that_is_not_bound_is_told_what_to_do() {
    let world = World::new();
    assert_eq!(world.authenticate("c-gone0").await, RejectCode::ClusterDeleted);
    world.cluster("c-fresh", false).await;
    assert_eq!(world.authenticate("c-fresh").await, RejectCode::NotRegistered);
    world.cluster("c-bound", true).await;
    assert_eq!(world.authenticate("c-bound").await, RejectCode::UnknownSigningKey, "its keys are none");
    assert!(world.rebinding.mismatched(&id("c-bound")).await);
    assert_eq!(world.authenticate("c-bound").await, RejectCode::NotRegistered, "a new CA needs a registration");
}

#[tokio::test]
async fn a_registration_token_is_good_for_its_time_and_cluster() {
    let world = World::new();
    world.cluster("c-fresh", false).await;
    world.token("c-fresh", "live", "2999-01-01T00:00:00Z").await;
    world.token("c-fresh", "over", "2020-01-01T00:00:00Z").await;
    assert_eq!(world.register("c-fresh", "live").await, Ok(()));
    assert_eq!(world.register("c-fresh", "over").await, Err(RejectCode::RegistrationTokenExpired));
    assert_eq!(world.register("c-fresh", "guess").await, Err(RejectCode::RegistrationTokenUnknown));
    assert_eq!(world.register("c-other", "live").await, Err(RejectCode::RegistrationTokenUnknown));
}

#[tokio::test]
async fn a_cluster_that_never_was_and_one_that_was_deleted_have_one_answer() {
    let world = World::new();
    world.cluster("c-here0", false).await;
    world.cluster("c-gone0", false).await;
    world.clusters.delete(None, "c-gone0").await.unwrap();
    for (name, code) in [
        ("c-gone0", RejectCode::ClusterDeleted),
        ("c-never", RejectCode::ClusterDeleted),
        ("c-here0", RejectCode::NotRegistered),
    ] {
        assert_eq!(world.authenticate(name).await, code, "{name}");
        // With a registration token that nobody made, they are all the same.
        assert_eq!(world.register(name, "a.b.c").await, Err(RejectCode::RegistrationTokenUnknown), "{name}");
    }
    assert!(RejectCode::ClusterDeleted.to_string().contains("or the agent belongs to another server"));
}

#[test]
fn every_refusal_of_a_registration_has_its_code() {
    for (reason, wanted) in [
        (RefusalReason::IdentityMismatch, RejectCode::IdentityMismatch),
        (RefusalReason::CertificateAuthorityChanged, RejectCode::IdentityMismatch),
        (RefusalReason::RegistrationTokenSpent, RejectCode::RegistrationTokenSpent),
        (RefusalReason::ClaimMismatch, RejectCode::ClaimMismatch),
        (RefusalReason::ApiServerUnreachable, RejectCode::ApiServerUnreachable),
        (RefusalReason::CertificateInvalid, RejectCode::ApiServerUntrusted),
        (RefusalReason::CredentialRefused, RejectCode::CredentialRefused),
        (RefusalReason::IssuerUnusable, RejectCode::UnknownSigningKey),
        (RefusalReason::AgentTokenInvalid, RejectCode::Unauthenticated),
        (RefusalReason::Internal, RejectCode::Internal),
    ] {
        assert_eq!(code(reason), wanted, "{reason:?}");
    }
}
