//! What the agent asks its own API server.

use std::error::Error as _;
use std::path::Path;

use cattle_agent::Cluster as _;
use cattle_cluster_agent::kubernetes::{ApiServer, ApiServerConfig, ClaimError};
use cattle_proto::control::CredentialFailureCode;
use cattle_runtime::ErrorChain as _;
use tempfile::TempDir;

use crate::api_server::{ApiServer as FakeApiServer, NAMESPACE_PATH, TOKEN_PATH, UID};
use crate::pki::Ca;
use crate::server::header;
use crate::support::soon;

const NAME: &str = "kubernetes.default.svc";

fn api_server(files: &TempDir, ca_pem: &str, address: &str) -> ApiServer {
    let path = |name: &str| files.path().join(name);
    std::fs::write(path("ca.crt"), ca_pem).unwrap();
    std::fs::write(path("sa-token"), "the.agents.token").unwrap();
    // Only a second call could fail; tests share the process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ApiServer::new(ApiServerConfig {
        address: address.parse().unwrap(),
        ca_file: path("ca.crt"),
        server_name: NAME.parse().unwrap(),
        token_file: path("sa-token"),
    })
}

#[tokio::test]
async fn a_claim_is_the_namespaces_uid_the_ca_and_the_name() {
    let (ca, files) = (Ca::new("kubernetes"), tempfile::tempdir().unwrap());
    let fake = FakeApiServer::start(ca.server(&[NAME]), 0).await;
    let claim = soon(api_server(&files, &ca.pem(), &fake.address.to_string()).claim()).await.unwrap();
    assert_eq!((claim.kube_system_uid.as_str(), claim.server_name.as_str()), (UID, NAME));
    assert_eq!(claim.ca_pem.as_str(), ca.pem());
    let (head, _) = &fake.requests()[0];
    assert!(head.starts_with(&format!("GET {NAMESPACE_PATH} ")), "{head}");
    assert_eq!(header(head, "authorization"), Some("Bearer the.agents.token"));
}

#[tokio::test]
async fn the_servers_token_is_requested_for_a_day_and_the_default_audience() {
    let (ca, files) = (Ca::new("kubernetes"), tempfile::tempdir().unwrap());
    let fake = FakeApiServer::start(ca.server(&[NAME]), 0).await;
    let api_server = api_server(&files, &ca.pem(), &fake.address.to_string());
    let credential = soon(api_server.server_credential()).await.unwrap();
    assert_eq!((credential.token.expose(), credential.expires_at), ("header.payload.signature", 1_893_456_000));
    let (head, body) = &fake.requests()[0];
    assert!(head.starts_with(&format!("POST {TOKEN_PATH}")), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["spec"]["expirationSeconds"], 86_400);
    assert!(body["spec"]["audiences"].as_array().is_none_or(Vec::is_empty), "{body}");
}

#[tokio::test]
async fn what_the_api_server_refuses_has_a_code() {
    let (ca, files) = (Ca::new("kubernetes"), tempfile::tempdir().unwrap());
    for (status, code) in [
        (401, CredentialFailureCode::Forbidden),
        (403, CredentialFailureCode::Forbidden),
        (404, CredentialFailureCode::ServiceAccountMissing),
        (422, CredentialFailureCode::Internal),
    ] {
        let fake = FakeApiServer::start(ca.server(&[NAME]), status).await;
        let api_server = api_server(&files, &ca.pem(), &fake.address.to_string());
        let error = soon(api_server.server_credential()).await.err().unwrap();
        assert_eq!(error.code, code, "{status}: {}", error.chain());
        assert!(error.source().is_some());
    }
}

#[tokio::test]
async fn an_api_server_that_is_not_the_clusters_gets_no_token() {
    let (ca, other, files) = (Ca::new("kubernetes"), Ca::new("other"), tempfile::tempdir().unwrap());
    for tls in [other.server(&[NAME]), ca.server(&["127.0.0.1", "elsewhere.example"]), ca.expired(&[NAME])] {
        let fake = FakeApiServer::start(tls, 0).await;
        let api_server = api_server(&files, &ca.pem(), &fake.address.to_string());
        assert!(matches!(soon(api_server.identify()).await, Err(ClaimError::Namespace(_))));
        let error = soon(api_server.server_credential()).await.err().unwrap();
        assert_eq!(error.code, CredentialFailureCode::Unreachable);
        assert_eq!(fake.requests(), [], "no request was sent, so no token");
    }
}

#[tokio::test]
async fn a_missing_or_foreign_ca_file_is_named() {
    let files = tempfile::tempdir().unwrap();
    let api_server = api_server(&files, "not PEM", "127.0.0.1:1");
    assert!(
        matches!(soon(api_server.identify()).await, Err(ClaimError::Ca { path, .. }) if path == files.path().join(Path::new("ca.crt")))
    );
    std::fs::remove_file(files.path().join("ca.crt")).unwrap();
    assert!(matches!(soon(api_server.identify()).await, Err(ClaimError::Ca { .. })));
}
