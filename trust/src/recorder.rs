//! A verifier that remembers the certificates of the last full handshake.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Remembers what a server shows. Whoever it is, the server has to prove that it holds the certificate's key.
#[derive(Debug)]
pub struct Recorder {
    judge: Judge,
    seen: Mutex<Option<Recorded>>,
}

/// Who decides about a certificate.
#[derive(Debug)]
enum Judge {
    /// Nobody, yet: what comes over the connection is compared before it counts.
    Nobody(WebPkiSupportedAlgorithms),
    /// The roots.
    Roots(Arc<WebPkiServerVerifier>),
}

/// Certificates as they were shown.
#[derive(Debug)]
pub struct Recorded {
    leaf: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
}

impl Recorder {
    /// The verifier of a first contact: it takes every certificate. Nothing secret may go over such a connection, and
    /// what comes is worth nothing before it was compared with a [`CaChecksum`](crate::CaChecksum).
    #[must_use]
    pub fn first_contact(provider: &CryptoProvider) -> Self {
        Self { judge: Judge::Nobody(provider.signature_verification_algorithms), seen: Mutex::default() }
    }

    /// A verifier whose every decision is `roots`'.
    #[must_use]
    pub fn verifying(roots: Arc<WebPkiServerVerifier>) -> Self {
        Self { judge: Judge::Roots(roots), seen: Mutex::default() }
    }

    /// Takes what was shown since the last call.
    #[must_use]
    pub fn take(&self) -> Option<Recorded> {
        self.seen.lock().take()
    }
}

impl Recorded {
    /// The server's own certificate.
    #[must_use]
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    /// Judges what was shown as an ordinary handshake would have.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, verifier: &dyn ServerCertVerifier) -> Result<(), Error> {
        verifier.verify_server_cert(&self.leaf, &self.intermediates, &self.name, &[], UnixTime::now()).map(drop)
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock() = Some(Recorded {
            leaf: end_entity.clone().into_owned(),
            intermediates: intermediates.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            name: server_name.to_owned(),
        });
        match &self.judge {
            Judge::Nobody(_) => Ok(ServerCertVerified::assertion()),
            Judge::Roots(roots) => roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.judge {
            Judge::Nobody(algorithms) => verify_tls12_signature(message, certificate, signature, algorithms),
            Judge::Roots(roots) => roots.verify_tls12_signature(message, certificate, signature),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.judge {
            Judge::Nobody(algorithms) => verify_tls13_signature(message, certificate, signature, algorithms),
            Judge::Roots(roots) => roots.verify_tls13_signature(message, certificate, signature),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match &self.judge {
            Judge::Nobody(algorithms) => algorithms.supported_schemes(),
            Judge::Roots(roots) => roots.supported_verify_schemes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::RootCertStore;

    use super::*;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(ca: &Ca, name: &str) -> CertificateDer<'static> {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap().der().clone()
    }

    fn roots(ca: &Ca) -> Arc<WebPkiServerVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap()
    }

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    fn show(recorder: &Recorder, certificate: &CertificateDer<'_>) -> bool {
        let name = ServerName::try_from("cattle.example").unwrap();
        recorder.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn a_first_contact_takes_all_and_judges_later() {
        let (ours, theirs) = (ca(), ca());
        let recorder = Recorder::first_contact(&provider());
        assert!(recorder.take().is_none());
        for (certificate, good) in [
            (leaf(&ours, "cattle.example"), true),
            (leaf(&theirs, "cattle.example"), false),
            (leaf(&ours, "x.example"), false),
        ] {
            assert!(show(&recorder, &certificate));
            let recorded = recorder.take().unwrap();
            assert_eq!(recorded.leaf(), &certificate);
            assert_eq!(recorded.verify(&*roots(&ours)).is_ok(), good);
            assert!(recorder.take().is_none(), "it is taken once");
        }
    }

    #[test]
    fn a_verifying_recorder_decides_as_its_roots_do_and_keeps_what_was_refused() {
        let (ours, theirs) = (ca(), ca());
        let recorder = Recorder::verifying(roots(&ours));
        assert!(show(&recorder, &leaf(&ours, "cattle.example")));
        let refused = leaf(&theirs, "cattle.example");
        assert!(!show(&recorder, &refused));
        assert_eq!(recorder.take().unwrap().leaf(), &refused);
    }
}
