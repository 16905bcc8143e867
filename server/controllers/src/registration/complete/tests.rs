use cattle_api::management::ClusterSpec;
use cattle_api::management::cluster::Rebind;

use super::*;

const UID: &str = "8c6a9f0e-57a7-4a2e-9b3e-1d2c3b4a5f60";

fn pem(body: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

fn claim(uid: &str, body: &str) -> ClusterClaim {
    ClusterClaim {
        kube_system_uid: uid.parse().unwrap(),
        ca_pem: pem(body).parse().unwrap(),
        server_name: "kubernetes.default.svc".parse().unwrap(),
    }
}

fn keys(issuer: &str) -> IssuerKeys {
    IssuerKeys { issuer: issuer.into(), jwks: r#"{"keys":[{}]}"#.into() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// With a token that was made a second ago.
fn try_enter(record: &mut Cluster, claim: &ClusterClaim, issuer: &str, second: i64) -> Result<Bound, RefusalReason> {
    try_with(second - 1, record, claim, issuer, second)
}

fn try_with(
    made: i64,
    record: &mut Cluster,
    claim: &ClusterClaim,
    issuer: &str,
    second: i64,
) -> Result<Bound, RefusalReason> {
    let (keys, ca) = (keys(issuer), CaFingerprint::of(claim.ca_pem.as_str()).unwrap());
    let shown = Shown { claim, keys: &keys, ca: &ca };
    enter(record, &shown, at(made), at(second)).map_err(|error| error.reason)
}

fn identity(record: &Cluster) -> ClusterIdentity {
    record.status.clone().unwrap().identity.unwrap()
}

#[test]
fn bound_once_then_refreshed() {
    let mut record = Cluster::new("c-abcde", ClusterSpec::default());
    assert_eq!(try_enter(&mut record, &claim(UID, "AAAA"), "https://one", 10), Ok(Bound::Now));
    assert_eq!(record.metadata.finalizers.as_deref(), Some(&[CLEANUP_FINALIZER.to_owned()][..]));
    let first = identity(&record);
    assert_eq!((first.kube_system_uid.as_str(), first.issuer.as_str()), (UID, "https://one"));

    assert_eq!(try_enter(&mut record, &claim(UID, "AAAA"), "https://two", 20), Ok(Bound::Renewed));
    let second = identity(&record);
    assert_eq!((second.issuer.as_str(), second.ca_generation), ("https://two", first.ca_generation));
    assert_eq!(record.metadata.finalizers.as_ref().unwrap().len(), 1);
    let registration = record.status.unwrap().registration.unwrap();
    assert_eq!(registration.registered_at, Some(Time(at(10))));
}

#[test]
fn the_token_that_bound_a_cluster_cannot_change_it_later() {
    let mut record = Cluster::new("c-abcde", ClusterSpec::default());
    let same = claim(UID, "AAAA");
    assert_eq!(try_with(5, &mut record, &same, "https://one", 10), Ok(Bound::Now));
    let bound = record.clone();
    // The other replica, a moment later, and a retry after an hour.
    for second in [10, 3600] {
        assert_eq!(try_with(5, &mut record, &same, "https://one", second), Ok(Bound::Again));
        assert_eq!(record, bound, "a repetition changes nothing");
    }
    let spent = Err(RefusalReason::RegistrationTokenSpent);
    assert_eq!(try_with(5, &mut record, &same, "https://two", 20), spent);
    assert_eq!(identity(&record), identity(&bound));
    assert_eq!(try_with(19, &mut record, &same, "https://two", 20), Ok(Bound::Renewed));
    // Now that one is spent as well.
    assert_eq!(try_with(19, &mut record, &same, "https://three", 30), spent);
    assert_eq!(identity(&record).issuer, "https://two");
}

#[test]
fn a_rebind_is_good_for_one_new_ca() {
    let mut record = Cluster::new("c-abcde", ClusterSpec::default());
    try_enter(&mut record, &claim(UID, "AAAA"), "https://one", 10).unwrap();
    let before = identity(&record);
    let changed = claim(UID, "BBBB");
    assert_eq!(try_enter(&mut record, &changed, "https://one", 20), Err(RefusalReason::CertificateAuthorityChanged));
    assert_eq!(identity(&record), before);

    let sum = CaFingerprint::of(changed.ca_pem.as_str()).unwrap().sha256().to_owned();
    record.spec.rebind = Some(Rebind { ca_sha256: sum });
    assert_eq!(try_enter(&mut record, &changed, "https://one", 30), Ok(Bound::NewCa));
    assert_eq!(record.spec.rebind, None);
    let after = identity(&record);
    assert!(after.ca_cert.contains("BBBB") && after.ca_generation > before.ca_generation);
    assert_eq!(
        try_enter(&mut record, &claim(UID, "AAAA"), "https://one", 40),
        Err(RefusalReason::CertificateAuthorityChanged)
    );
}

#[test]
fn a_refusal_is_noted_once_and_forgotten_by_success() {
    let mut record = Cluster::new("c-abcde", ClusterSpec::default());
    try_enter(&mut record, &claim(UID, "AAAA"), "https://one", 10).unwrap();
    let other = claim("00000000-57a7-4a2e-9b3e-1d2c3b4a5f60", "BBBB");
    assert_eq!(try_enter(&mut record, &other, "https://one", 20), Err(RefusalReason::IdentityMismatch));
    let error = RegistrationError::new(RefusalReason::IdentityMismatch, "another cluster");
    assert!(note(&mut record, &error, at(20)));
    let noted = record.clone();
    assert!(!note(&mut record, &error, at(30)));
    assert_eq!(record, noted);
    try_enter(&mut record, &claim(UID, "AAAA"), "https://one", 40).unwrap();
    assert_eq!(record.status.unwrap().registration.unwrap().last_refusal, None);
}
