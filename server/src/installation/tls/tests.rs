use std::fs;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

const HOST: &str = "cattle.example.org";

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn day(number: i64) -> Timestamp {
    start() + SignedDuration::from_hours(24 * number)
}

/// A server that has just started on the first day, and the renewal of what it presents.
async fn started(source: TlsSource) -> (Renewal, Arc<ServingCertificate>) {
    let store = cattle_store::testing::memory();
    let store: Arc<dyn Store> = store;
    let settings = crate::installation::Settings::new(Arc::clone(&store));
    settings.seed().await.unwrap();
    let url: ServerUrl = format!("https://{HOST}").parse().unwrap();
    let presented = prepare(&source, &url, &store, start()).await.unwrap();
    let serving = ServingCertificate::new(presented.certified);
    (renewal(source, url, store, Arc::clone(&serving), presented.ca_certs), serving)
}

fn public_key(leaf: &[u8]) -> Vec<u8> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).unwrap();
    parsed.public_key().raw.to_vec()
}

#[tokio::test]
async fn the_own_leaf_is_renewed_at_two_thirds_of_its_life_and_keeps_its_key() {
    let (mut renewal, serving) = started(TlsSource::OwnAuthority).await;
    let first = serving.chain();
    renewal.look(day(59)).await;
    assert_eq!(serving.chain(), first, "not yet");
    renewal.look(day(61)).await;
    let second = serving.chain();
    assert_ne!(second[0], first[0]);
    assert_eq!(second[1], first[1], "the authority stays");
    assert_eq!(public_key(&second[0]), public_key(&first[0]), "users pin the key");
    assert_eq!(serving.not_after(), Some(day(61 + 90)));
    assert!(renewal.renewed(day(61)).await.unwrap().cert == second, "a restart presents the same one");
    renewal.look(day(62)).await;
    assert_eq!(serving.chain(), second);
    renewal.look(day(125)).await;
    assert_ne!(serving.chain(), second, "and so on");
}

#[tokio::test]
async fn who_looks_late_renews_what_has_ended() {
    let (mut renewal, serving) = started(TlsSource::OwnAuthority).await;
    renewal.look(day(400)).await;
    assert_eq!(serving.not_after(), Some(day(490)));
    assert_eq!(renewal.warned, None);
}

/// A user's files with their own authority.
struct Files {
    directory: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap(), authority: authority() };
        files.write("ca.crt", &files.authority.pem());
        files.issue(HOST, 90);
        files
    }

    fn source(&self) -> TlsSource {
        let path = |name: &str| self.directory.path().join(name);
        let files = CertificateFiles { certificate: path("tls.crt"), key: path("tls.key") };
        TlsSource::Files { files, authority: Some(path("ca.crt")) }
    }

    /// Puts a pair in place that is good from the first day until that one.
    fn issue(&self, host: &str, until: i64) {
        let (certificate, key) = self.pair(host, until);
        self.write("tls.crt", &certificate);
        self.write("tls.key", &key);
    }

    fn pair(&self, host: &str, until: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = std::time::SystemTime::from(day(-1)).into();
        params.not_after = std::time::SystemTime::from(day(until)).into();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    /// As a program that renews does it: never half a file.
    fn write(&self, name: &str, text: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.directory.path().join(name)).unwrap();
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = std::time::SystemTime::from(day(-1)).into();
    params.not_after = std::time::SystemTime::from(day(4000)).into();
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn files_that_change_are_presented_and_a_broken_pair_leaves_the_old_one() {
    let files = Files::new();
    let (mut renewal, serving) = started(files.source()).await;
    let first = serving.chain();
    renewal.look(day(1)).await;
    assert_eq!(serving.chain(), first);

    files.issue(HOST, 200);
    renewal.look(day(2)).await;
    assert_eq!(serving.not_after(), Some(day(200)));

    let broken: [(&str, &dyn Fn()); 6] = [
        ("no certificate", &|| files.write("tls.crt", "rubbish")),
        ("another key", &|| files.write("tls.key", &files.pair(HOST, 300).1)),
        ("another host", &|| files.issue("other.example.org", 300)),
        ("has ended", &|| files.issue(HOST, 1)),
        ("no key", &|| fs::remove_file(files.directory.path().join("tls.key")).unwrap()),
        ("another authority", &|| {
            let other = Files { directory: tempfile::tempdir().unwrap(), authority: authority() };
            let (certificate, key) = other.pair(HOST, 300);
            files.write("ca.crt", &other.authority.pem());
            files.write("tls.crt", &certificate);
            files.write("tls.key", &key);
        }),
    ];
    for (what, make) in broken {
        let before = serving.chain();
        make();
        renewal.look(day(3)).await;
        assert_eq!(serving.chain(), before, "{what}");
        // A file that is gone is being replaced; everything else is said.
        assert_eq!(renewal.failed.is_some(), what != "no key", "{what}");
        files.write("ca.crt", &files.authority.pem());
        files.issue(HOST, 200);
        renewal.look(day(3)).await;
        assert_ne!(serving.chain(), before, "{what}: a good pair is taken again");
        assert_eq!(renewal.failed, None, "{what}");
    }
}

#[tokio::test]
async fn an_operator_is_told_once_a_day_of_files_that_nobody_renews() {
    let files = Files::new();
    let (mut renewal, _) = started(files.source()).await;
    renewal.look(day(1)).await;
    assert_eq!(renewal.warned, None);
    for (at, warned) in [(70, 70), (70, 70), (71, 71), (95, 95)] {
        renewal.look(day(at)).await;
        assert_eq!(renewal.warned, Some(day(warned)));
    }
    files.issue(HOST, 300);
    renewal.look(day(96)).await;
    assert_eq!(renewal.warned, None, "renewed");
}
