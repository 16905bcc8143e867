//! What every test needs: an agent's files, a cluster, deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cattle_agent::connect::Deadlines;
use cattle_agent::credential::TokenFile;
use cattle_agent::proxy::ProxySettings;
use cattle_agent::trust::{CaChecksum, Trust};
use cattle_agent::{BoxError, BoxFuture, Cluster, Dialer, Identity, Role, ServerCredentialError};
use cattle_proto::capability::Capabilities;
use cattle_proto::control::{CredentialFailureCode, ServerCredential};
use cattle_proto::handshake::ClusterClaim;
use cattle_proto::secret::Secret;
use cattle_tunnel::SessionConfig;
use tempfile::TempDir;
use tokio::time::timeout;

/// What happens at all on a busy machine happens within this.
pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const TOKEN: &str = "projected.token.one";
pub(crate) const REGISTRATION_TOKEN: &str = "registration-token-xyz";
pub(crate) const UID: &str = "8c6a9f0e-57a7-4a2e-9b3e-1d2c3b4a5f60";

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.expect("it did not happen in time")
}

/// An agent's files; gone with the value.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write_token(TOKEN);
        files
    }

    pub(crate) fn write_token(&self, token: &str) {
        // As the kubelet does: a reader sees the old or the new one, never half of it.
        let (new, path) = (self.0.path().join("new"), self.0.path().join("token"));
        std::fs::write(&new, token).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    pub(crate) fn write_registration_token(&self) {
        std::fs::write(self.0.path().join("registration"), REGISTRATION_TOKEN).unwrap();
    }

    pub(crate) fn token(&self) -> TokenFile {
        TokenFile::new(self.0.path().join("token"))
    }

    pub(crate) fn identity(&self, cluster: Arc<dyn Cluster>) -> Identity {
        let registration_token = TokenFile::new(self.0.path().join("registration"));
        let capabilities = Capabilities::KUBE_APISERVER.with(Capabilities::SERVER_CREDENTIAL);
        let (software, cluster_id) = ("agent under test".parse().unwrap(), "c-test1".parse().unwrap());
        let role = Role::ClusterAgent { registration_token, cluster };
        Identity::new(role, software, capabilities, cluster_id, self.token())
    }
}

/// A cluster that answers, unless it is told to be forbidden to.
#[derive(Default)]
pub(crate) struct FakeCluster {
    pub(crate) forbidden: AtomicBool,
}

impl Cluster for FakeCluster {
    fn claim(&self) -> BoxFuture<'_, Result<ClusterClaim, BoxError>> {
        Box::pin(async {
            Ok(ClusterClaim {
                kube_system_uid: UID.parse()?,
                ca_pem: "-----BEGIN CERTIFICATE-----\nclaimed\n-----END CERTIFICATE-----\n".parse()?,
                server_name: "kubernetes.default.svc".parse()?,
            })
        })
    }

    fn server_credential(&self) -> BoxFuture<'_, Result<ServerCredential, ServerCredentialError>> {
        Box::pin(async {
            if self.forbidden.load(Ordering::Relaxed) {
                let source = "the role is missing".into();
                return Err(ServerCredentialError { code: CredentialFailureCode::Forbidden, source });
            }
            Ok(ServerCredential { token: Secret::new("server.token".to_owned()), expires_at: 1_900_000_000 })
        })
    }
}

/// Deadlines that no stage reaches on a working machine.
pub(crate) fn patient() -> Deadlines {
    Deadlines { dns: SOON, tcp: SOON, proxy: SOON, trust: SOON, tls: SOON, upgrade: SOON }
}

pub(crate) fn checksum(ca_pem: &str) -> Trust {
    Trust::Checksum(CaChecksum::of(ca_pem))
}

pub(crate) fn dialer(url: &str, trust: Trust) -> Dialer {
    dialer_with(url, trust, ProxySettings::default(), patient())
}

pub(crate) fn dialer_with(url: &str, trust: Trust, proxy: ProxySettings, deadlines: Deadlines) -> Dialer {
    Dialer::new(url.parse().unwrap(), trust, proxy, deadlines, SessionConfig::default())
}
