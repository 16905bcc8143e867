//! What an attempt to register means for the record. No I/O.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use cattle_api::management::ClusterIdentity;
use cattle_api::management::cluster::{Rebind, RefusalReason};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::facts::IssuerKeys;

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

/// What a cluster has shown of itself, verified by then.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// UID of namespace kube-system.
    pub uid: &'a str,
    /// The CA of its API server.
    pub ca: &'a CaFingerprint,
    /// The name of its API server.
    pub server_name: &'a str,
    /// Issuer and keys of its tokens.
    pub keys: &'a IssuerKeys,
}

/// What a registration token may do. The first one stays in the cluster for as long as the agent does, so it must not be a
/// key to the record for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// Made after the binding, or there is none yet: an administrator wants a registration now.
    Fresh,
    /// Made before the binding: good for a repetition, and to follow a consent to a new CA.
    Spent,
}

impl Token {
    /// What a token of this age may do. Times of objects are whole seconds; in doubt the token is spent.
    #[must_use]
    pub fn of(made_at: Timestamp, bound_at: Option<Timestamp>) -> Self {
        match bound_at {
            Some(bound_at) if made_at.as_second() <= bound_at.as_second() => Self::Spent,
            Some(_) | None => Self::Fresh,
        }
    }
}

/// What to do with the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Bind it to this identity.
    Bind,
    /// It is the same cluster and nothing is new: change nothing.
    Repeat,
    /// It is the same cluster: replace name, issuer and keys.
    Refresh,
    /// It is the same cluster with the new CA that an administrator has named: replace that as well.
    Rebind,
    /// Refuse.
    Refuse(RefusalReason, String),
}

/// Decides, from what the record says and what the API server has shown.
#[must_use]
pub fn decide(bound: Option<&ClusterIdentity>, rebind: Option<&Rebind>, token: Token, claim: &Claim<'_>) -> Decision {
    let Some(bound) = bound else { return Decision::Bind };
    let Claim { uid, ca, .. } = claim;
    if bound.kube_system_uid != *uid {
        let message = format!(
            "this record belongs to the cluster whose kube-system has UID {}; another one (UID {uid}) tried to register. \
             Create a cluster of its own for it",
            bound.kube_system_uid
        );
        return Decision::Refuse(RefusalReason::IdentityMismatch, message);
    }
    if CaFingerprint::of(&bound.ca_cert).is_some_and(|known| known.same(ca)) {
        return of_the_same(bound, token, claim);
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

/// UID and CA are the recorded ones.
fn of_the_same(bound: &ClusterIdentity, token: Token, claim: &Claim<'_>) -> Decision {
    let same_keys = bound.issuer == claim.keys.issuer && same_json(&bound.jwks, &claim.keys.jwks);
    match token {
        Token::Fresh => Decision::Refresh,
        Token::Spent if same_keys && bound.api_server_name == claim.server_name => Decision::Repeat,
        Token::Spent => {
            let message = "the cluster's signing keys or its API server's name are others than the registered ones, and \
                           the registration token was made before the cluster was bound. If that is meant to be, apply a \
                           fresh manifest: cattle cluster manifest";
            Decision::Refuse(RefusalReason::RegistrationTokenSpent, message.to_owned())
        }
    }
}

/// Whether two key sets are the same, whatever their spacing.
fn same_json(one: &str, other: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    one == other || parse(one).is_some_and(|one| Some(one) == parse(other))
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

    /// A decision about a cluster whose keys are the recorded ones, with a fresh token.
    fn of(bound: Option<&ClusterIdentity>, rebind: Option<&Rebind>, uid: &str, ca: &CaFingerprint) -> Decision {
        let keys = IssuerKeys { issuer: "https://kubernetes.default.svc".into(), jwks: "{}".into() };
        let claim = Claim { uid, ca, server_name: "kubernetes.default.svc", keys: &keys };
        decide(bound, rebind, Token::Fresh, &claim)
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
            Decision::Bind | Decision::Repeat | Decision::Refresh | Decision::Rebind => None,
        }
    }

    #[test]
    fn an_unbound_record_takes_the_first_one() {
        assert_eq!(of(None, None, "uid-1", &ca(&["AAAA"])), Decision::Bind);
    }

    #[test]
    fn the_same_cluster_may_repeat_itself() {
        assert_eq!(of(Some(&bound()), None, "uid-1", &ca(&["AAAA"])), Decision::Refresh);
        let spaced = pem(&["AAAA"]).replace("\n", "\r\n");
        assert_eq!(of(Some(&bound()), None, "uid-1", &CaFingerprint::of(&spaced).unwrap()), Decision::Refresh);
    }

    #[test]
    fn a_token_from_before_the_binding_repeats_and_changes_nothing() {
        let (ca, new_ca, bound) = (ca(&["AAAA"]), ca(&["BBBB"]), bound());
        let rebind = Rebind { ca_sha256: new_ca.sha256().into() };
        let keys = |issuer: &str, jwks: &str| IssuerKeys { issuer: issuer.into(), jwks: jwks.into() };
        let of = |token, name: &str, keys: &IssuerKeys, ca: &CaFingerprint, rebind: Option<&Rebind>| {
            let claim = Claim { uid: "uid-1", ca, server_name: name, keys };
            decide(Some(&bound), rebind, token, &claim)
        };
        let (name, same) = (bound.api_server_name.as_str(), keys(&bound.issuer, "{ }"));
        assert_eq!(of(Token::Spent, name, &same, &ca, None), Decision::Repeat);
        assert_eq!(of(Token::Fresh, name, &same, &ca, None), Decision::Refresh);
        let others = [
            (name, keys(&bound.issuer, r#"{"keys":[]}"#)),
            (name, keys("https://elsewhere.example", "{}")),
            ("elsewhere.example", keys(&bound.issuer, "{}")),
        ];
        for (name, keys) in &others {
            let spent = of(Token::Spent, name, keys, &ca, None);
            assert_eq!(refused(&spent), Some(RefusalReason::RegistrationTokenSpent), "{name} {keys:?}");
            assert_eq!(of(Token::Fresh, name, keys, &ca, None), Decision::Refresh);
            // The administrator's consent to a new CA is newer than the binding, whatever the token is.
            assert_eq!(of(Token::Spent, name, keys, &new_ca, Some(&rebind)), Decision::Rebind);
        }
    }

    #[test]
    fn a_token_is_fresh_when_it_was_made_in_a_later_second_than_the_binding() {
        let at = |millisecond| Timestamp::from_millisecond(millisecond).unwrap();
        assert_eq!(Token::of(at(5000), None), Token::Fresh);
        assert_eq!(Token::of(at(5000), Some(at(5900))), Token::Spent);
        assert_eq!(Token::of(at(5900), Some(at(5000))), Token::Spent, "stored times have no fractions");
        assert_eq!(Token::of(at(6000), Some(at(5900))), Token::Fresh);
    }

    #[test]
    fn a_foreign_cluster_that_claims_the_uid_is_refused() {
        let decision = of(Some(&bound()), None, "uid-1", &ca(&["BBBB"]));
        assert_eq!(refused(&decision), Some(RefusalReason::CertificateAuthorityChanged));
        // To have our CA among others proves nothing: any of them could have signed.
        let decision = of(Some(&bound()), None, "uid-1", &ca(&["AAAA", "BBBB"]));
        assert_eq!(refused(&decision), Some(RefusalReason::CertificateAuthorityChanged));
    }

    #[test]
    fn a_second_cluster_is_refused_whatever_the_administrator_allowed() {
        let new = ca(&["BBBB"]);
        let rebind = Rebind { ca_sha256: new.sha256().into() };
        assert_eq!(refused(&of(Some(&bound()), Some(&rebind), "uid-2", &new)), Some(RefusalReason::IdentityMismatch));
        assert_eq!(refused(&of(Some(&bound()), None, "uid-2", &ca(&["AAAA"]))), Some(RefusalReason::IdentityMismatch));
    }

    #[test]
    fn a_new_ca_needs_its_very_sum() {
        let new = ca(&["BBBB"]);
        let rebind = |sum: &str| Rebind { ca_sha256: sum.into() };
        assert_eq!(of(Some(&bound()), Some(&rebind(&new.sha256().to_uppercase())), "uid-1", &new), Decision::Rebind);
        let wrong = rebind(ca(&["CCCC"]).sha256());
        let decision = of(Some(&bound()), Some(&wrong), "uid-1", &new);
        assert!(matches!(&decision, Decision::Refuse(_, message) if message.contains(new.sha256())));
    }

    #[test]
    fn what_is_no_ca_has_no_fingerprint() {
        for text in ["", "AAAA", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert_eq!(CaFingerprint::of(text), None, "{text}");
        }
    }
}
