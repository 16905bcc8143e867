//! The agent's own API server: its address, its identity, and the one token that the agent may request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cattle_agent::{Address, BoxError, BoxFuture, Cluster, ServerCredentialError};
use cattle_proto::control::{CredentialFailureCode, ServerCredential};
use cattle_proto::handshake::ClusterClaim;
use cattle_proto::id::{CaPem, InvalidName, ServerName};
use cattle_proto::secret::Secret;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Namespace and name of the account that the server acts as.
const SERVER_ACCOUNT: (&str, &str) = ("cattle-system", "cattle");
/// The namespace whose UID identifies a cluster.
const IDENTITY_NAMESPACE: &str = "kube-system";
/// Life that is asked for the server's token: the most that the server keeps one. The API server may shorten it.
const SERVER_TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Time for a connection to the API server, and for an answer.
const CONNECT_TIME: Duration = Duration::from_secs(5);
const READ_TIME: Duration = Duration::from_secs(15);

/// Where the API server is, what its certificate is checked against, and the agent's token for it. The files are read at
/// each use: Kubernetes replaces them.
#[derive(Clone, Debug)]
pub struct ApiServerConfig {
    /// Where it is.
    pub address: Address,
    /// The cluster's CA certificates, PEM.
    pub ca_file: PathBuf,
    /// The name that its certificate bears.
    pub server_name: ServerName,
    /// The agent's token.
    pub token_file: PathBuf,
}

/// The agent's own API server.
///
/// A client is made for each use, which is a few times in a cluster's life: an idle agent keeps none.
#[derive(Clone, Debug)]
pub struct ApiServer {
    config: ApiServerConfig,
}

impl ApiServer {
    /// The API server that `config` describes; nothing is connected yet.
    pub fn new(config: ApiServerConfig) -> Self {
        Self { config }
    }

    /// UID of `kube-system`, the CA and the name of the API server: what the cluster registers as.
    pub async fn identify(&self) -> Result<ClusterClaim, ClaimError> {
        let ca = self.read_ca().await?;
        let client = self.client(&ca).map_err(ClaimError::Client)?;
        let namespace = Api::<Namespace>::all(client).get_metadata(IDENTITY_NAMESPACE).await;
        let uid = namespace.map_err(|error| ClaimError::Namespace(Box::new(error)))?.metadata.uid.unwrap_or_default();
        Ok(ClusterClaim {
            kube_system_uid: uid.parse().map_err(ClaimError::Uid)?,
            ca_pem: ca,
            server_name: self.config.server_name.clone(),
        })
    }

    /// A fresh token of the server's account, for the API server's own audience.
    pub async fn request_server_token(&self) -> Result<ServerCredential, TokenRequestError> {
        let ca = self.read_ca().await.map_err(|error| TokenRequestError::Client(error.into()))?;
        let client = self.client(&ca).map_err(TokenRequestError::Client)?;
        let (namespace, name) = SERVER_ACCOUNT;
        let seconds = i64::try_from(SERVER_TOKEN_LIFE.as_secs()).ok();
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: seconds, ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(client, namespace);
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let status = answer.map_err(|error| TokenRequestError::Request(Box::new(error)))?.status.unwrap_or_default();
        let expires_at = status.expiration_timestamp.and_then(|time| u64::try_from(time.0.as_second()).ok());
        match (status.token.filter(|token| !token.is_empty()), expires_at) {
            (Some(token), Some(expires_at)) => Ok(ServerCredential { token: Secret::new(token), expires_at }),
            (token, _) => {
                drop(token.map(Secret::new));
                Err(TokenRequestError::Answer)
            }
        }
    }

    async fn read_ca(&self) -> Result<CaPem, ClaimError> {
        let path = &self.config.ca_file;
        let fail = |source: BoxError| ClaimError::Ca { path: path.clone(), source };
        let text = tokio::fs::read_to_string(path).await.map_err(|error| fail(error.into()))?;
        text.parse().map_err(|error: InvalidName| fail(error.into()))
    }

    fn client(&self, ca: &CaPem) -> Result<Client, BoxError> {
        let uri = format!("https://{}", self.config.address).parse()?;
        let certificates = CertificateDer::pem_slice_iter(ca.as_str().as_bytes())
            .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut config = kube::Config::new(uri);
        config.root_cert = Some(certificates);
        config.tls_server_name = Some(self.config.server_name.as_str().to_owned());
        config.connect_timeout = Some(CONNECT_TIME);
        config.read_timeout = Some(READ_TIME);
        config.write_timeout = Some(READ_TIME);
        config.auth_info = AuthInfo { token_file: Some(path_text(&self.config.token_file)?), ..AuthInfo::default() };
        Ok(Client::try_from(config)?)
    }
}

impl Cluster for ApiServer {
    fn claim(&self) -> BoxFuture<'_, Result<ClusterClaim, BoxError>> {
        Box::pin(async { self.identify().await.map_err(Into::into) })
    }

    fn server_credential(&self) -> BoxFuture<'_, Result<ServerCredential, ServerCredentialError>> {
        Box::pin(async {
            let failed = |error: TokenRequestError| ServerCredentialError { code: error.code(), source: error.into() };
            self.request_server_token().await.map_err(failed)
        })
    }
}

fn path_text(path: &Path) -> Result<String, BoxError> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("the path {} is not UTF-8", path.display()).into())
}

/// The cluster's identity cannot be found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// No CA certificates.
    #[error("cannot read CA certificates from {}", path.display())]
    Ca {
        /// Where they should be.
        path: PathBuf,
        /// What is wrong.
        source: BoxError,
    },
    /// No client.
    #[error("cannot make a client for the API server")]
    Client(#[source] BoxError),
    /// The API server does not show the namespace.
    #[error("cannot read the namespace {IDENTITY_NAMESPACE}")]
    Namespace(#[source] Box<kube::Error>),
    /// The namespace has no UID.
    #[error("the namespace {IDENTITY_NAMESPACE} has no UID")]
    Uid(#[source] InvalidName),
}

/// There is no token of the server's account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRequestError {
    /// No client.
    #[error("cannot make a client for the API server")]
    Client(#[source] BoxError),
    /// The API server refused, or did not answer.
    #[error("cannot request a token of the service account {}/{}", SERVER_ACCOUNT.0, SERVER_ACCOUNT.1)]
    Request(#[source] Box<kube::Error>),
    /// The answer holds no token.
    #[error("the API server answered without a token")]
    Answer,
}

impl TokenRequestError {
    /// What the server is told.
    pub fn code(&self) -> CredentialFailureCode {
        match self {
            Self::Client(_) | Self::Answer => CredentialFailureCode::Internal,
            Self::Request(error) => failure_code(error),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "kube's errors are open; what is no answer did not reach the server"
)]
fn failure_code(error: &kube::Error) -> CredentialFailureCode {
    match error {
        kube::Error::Api(status) => match status.code {
            401 | 403 => CredentialFailureCode::Forbidden,
            404 => CredentialFailureCode::ServiceAccountMissing,
            500..=599 => CredentialFailureCode::Unreachable,
            _ => CredentialFailureCode::Internal,
        },
        kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::Auth(_) => {
            CredentialFailureCode::Internal
        }
        _ => CredentialFailureCode::Unreachable,
    }
}
