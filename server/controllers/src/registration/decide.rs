//! What an attempt to register means for the record. No I/O.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use cattle_api::management::ClusterIdentity;
use cattle_api::management::cluster::{Rebind, RefusalReason};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The certificates of a CA: the set of them, whatever their order and the spacing of the PEM text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFingerprint {
    certificates: BTreeSet<Vec<u8>>,
    text: String,
}

impl CaFingerprint {
    /// Reads PEM; `None` unless all of it is certificates, and at least one.
    #[must_use]
    pub fn of(pem: &str) -> Option<Self> {
        let ders: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
        let certificates: BTreeSet<_> = ders.iter().map(|der| digest(&SHA256, der).as_ref().to_vec()).collect();
        (!certificates.is_empty()).then(|| Self { certificates, text: hex(digest(&SHA256, pem.as_bytes()).as_ref()) })
    }

    /// SHA-256 of the PEM text as the cluster publishes it: what `cattle cluster rebind --ca-sha256` takes.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.text
    }

    /// Whether these are the same certificates.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

/// What to do with the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Bind it to this identity.
    Bind,
    /// It is the same cluster: replace name, issuer and keys.
    Refresh,
    /// It is the same cluster with the new CA that an administrator has named: replace that as well.
    Rebind,
    /// Refuse.
    Refuse(RefusalReason, String),
}

/// Decides, from what the record says and what the API server has shown.
#[must_use]
pub fn decide(bound: Option<&ClusterIdentity>, rebind: Option<&Rebind>, uid: &str, ca: &CaFingerprint) -> Decision {
    let Some(bound) = bound else { return Decision::Bind };
    if bound.kube_system_uid != uid {
        let message = format!(
            "this record belongs to the cluster whose kube-system has UID {}; another one (UID {uid}) tried to register. \
             Create a cluster of its own for it",
            bound.kube_system_uid
        );
        return Decision::Refuse(RefusalReason::IdentityMismatch, message);
    }
    if CaFingerprint::of(&bound.ca_cert).is_some_and(|known| known.same(ca)) {
        return Decision::Refresh;
    }
    if rebind.is_some_and(|rebind| rebind.ca_sha256.eq_ignore_ascii_case(ca.sha256())) {
        return Decision::Rebind;
    }
    let message = format!(
        "the cluster has another CA than the registered one. If that is meant to be: cattle cluster rebind --ca-sha256 {}",
        ca.sha256()
    );
    Decision::Refuse(RefusalReason::CertificateAuthorityChanged, message)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PEM of something that is no certificate: the decision compares bytes and reads nothing.
    fn pem(bodies: &[&str]) -> String {
        let one = |body: &&str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        bodies.iter().map(one).collect()
    }

    fn ca(bodies: &[&str]) -> CaFingerprint {
        CaFingerprint::of(&pem(bodies)).unwrap()
    }

    fn bound() -> ClusterIdentity {
        ClusterIdentity {
            kube_system_uid: "uid-1".into(),
            ca_cert: pem(&["AAAA"]),
            ca_generation: 1,
            api_server_name: "kubernetes.default.svc".into(),
            issuer: "https://kubernetes.default.svc".into(),
            jwks: "{}".into(),
        }
    }

    fn refused(decision: &Decision) -> Option<RefusalReason> {
        match decision {
            Decision::Refuse(reason, _) => Some(*reason),
            Decision::Bind | Decision::Refresh | Decision::Rebind => None,
        }
    }

    #[test]
    fn an_unbound_record_takes_the_first_one() {
        assert_eq!(decide(None, None, "uid-1", &ca(&["AAAA"])), Decision::Bind);
    }

    #[test]
    fn the_same_cluster_may_repeat_itself() {
        assert_eq!(decide(Some(&bound()), None, "uid-1", &ca(&["AAAA"])), Decision::Refresh);
        let spaced = pem(&["AAAA"]).replace("\n", "\r\n");
        assert_eq!(decide(Some(&bound()), None, "uid-1", &CaFingerprint::of(&spaced).unwrap()), Decision::Refresh);
    }

    #[test]
    fn a_foreign_cluster_that_claims_the_uid_is_refused() {
        let decision = decide(Some(&bound()), None, "uid-1", &ca(&["BBBB"]));
        assert_eq!(refused(&decision), Some(RefusalReason::CertificateAuthorityChanged));
        // To have our CA among others proves nothing: any of them could have signed.
        let decision = decide(Some(&bound()), None, "uid-1", &ca(&["AAAA", "BBBB"]));
        assert_eq!(refused(&decision), Some(RefusalReason::CertificateAuthorityChanged));
    }

    #[test]
    fn a_second_cluster_is_refused_whatever_the_administrator_allowed() {
        let new = ca(&["BBBB"]);
        let rebind = Rebind { ca_sha256: new.sha256().into() };
        assert_eq!(
            refused(&decide(Some(&bound()), Some(&rebind), "uid-2", &new)),
            Some(RefusalReason::IdentityMismatch)
        );
        assert_eq!(
            refused(&decide(Some(&bound()), None, "uid-2", &ca(&["AAAA"]))),
            Some(RefusalReason::IdentityMismatch)
        );
    }

    #[test]
    fn a_new_ca_needs_its_very_sum() {
        let new = ca(&["BBBB"]);
        let rebind = |sum: &str| Rebind { ca_sha256: sum.into() };
        assert_eq!(
            decide(Some(&bound()), Some(&rebind(&new.sha256().to_uppercase())), "uid-1", &new),
            Decision::Rebind
        );
        let wrong = rebind(ca(&["CCCC"]).sha256());
        let decision = decide(Some(&bound()), Some(&wrong), "uid-1", &new);
        assert!(matches!(&decision, Decision::Refuse(_, message) if message.contains(new.sha256())));
    }

    #[test]
    fn what_is_no_ca_has_no_fingerprint() {
        for text in ["", "AAAA", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert_eq!(CaFingerprint::of(text), None, "{text}");
        }
    }
}
