//! Remembers the certificate of a first contact, to check it when there is something to check it against.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// The verifier of a first contact: it believes nothing and forgets nothing. The peer must still prove that it holds the
/// certificate's key.
#[derive(Debug)]
pub(super) struct Recorder {
    provider: Arc<CryptoProvider>,
    recorded: Mutex<Option<Recorded>>,
}

/// A certificate as it was shown.
#[derive(Debug)]
pub(super) struct Recorded {
    leaf: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
}

impl Recorder {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, recorded: Mutex::new(None) }
    }

    pub(super) fn take(&self) -> Option<Recorded> {
        self.recorded.lock().take()
    }
}

impl Recorded {
    /// Checks what was shown, as an ordinary handshake would have.
    pub(super) fn verify(&self, verifier: &dyn ServerCertVerifier) -> Result<(), Error> {
        verifier.verify_server_cert(&self.leaf, &self.intermediates, &self.name, &[], UnixTime::now()).map(drop)
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.recorded.lock() = Some(Recorded {
            leaf: end_entity.clone().into_owned(),
            intermediates: intermediates.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            name: server_name.to_owned(),
        });
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
