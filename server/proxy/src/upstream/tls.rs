//! Trust in one API server.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::UpstreamError;
use crate::directory::ApiServer;

/// TLS sessions that one upstream remembers. The cache is its own: none is ever resumed at another cluster.
const SESSIONS: usize = 32;

/// What is recorded about an API server cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiServerError {
    /// The CA is no PEM certificate.
    #[error("the recorded CA holds no usable certificate")]
    Ca,
    /// The name is no DNS name or IP address.
    #[error("the recorded server name is not a name")]
    Name,
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up")]
    Protocol,
}

/// A configuration that accepts certificates of this CA for this name only, and offers HTTP/1.1 only.
pub(super) fn client_config(server: &ApiServer) -> Result<(ClientConfig, ServerName<'static>), ApiServerError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(server.ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|_| ApiServerError::Ca)?).map_err(|_| ApiServerError::Ca)?;
    }
    if roots.is_empty() {
        return Err(ApiServerError::Ca);
    }
    let name = ServerName::try_from(server.server_name.clone()).map_err(|_| ApiServerError::Name)?;
    // The provider is named here and not taken from the process, so that no other crate's choice counts.
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|_| ApiServerError::Protocol)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, name))
}

/// Tells a wrong certificate from a broken connection.
pub(super) fn handshake_error(error: io::Error) -> UpstreamError {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match refused {
        Some(refused @ rustls::Error::InvalidCertificate(_)) => UpstreamError::Certificate(refused.clone()),
        _ => UpstreamError::Tls(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_proves_nothing_is_refused() {
        let server = |ca_pem: &str, name: &str| ApiServer {
            ca_pem: ca_pem.to_owned(),
            ca_generation: 1,
            server_name: name.to_owned(),
        };
        let key = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
        let pem = key.cert.pem();
        assert!(client_config(&server(&pem, "kubernetes.default.svc")).is_ok());
        assert_eq!(client_config(&server("", "kubernetes")).unwrap_err(), ApiServerError::Ca);
        assert_eq!(client_config(&server("rubbish", "kubernetes")).unwrap_err(), ApiServerError::Ca);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(client_config(&server(broken, "kubernetes")).unwrap_err(), ApiServerError::Ca);
        assert_eq!(client_config(&server(&pem, "not a name")).unwrap_err(), ApiServerError::Name);
    }
}
