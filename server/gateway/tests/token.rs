//! Real signed tokens against the rules.
#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cattle_gateway::token::{
    CLUSTER_AGENT_SUBJECT, Claims, Expected, KeySet, NODE_AGENT_SUBJECT, TokenError, audience, verify,
};
use cattle_proto::handshake::{AgentKind, RejectCode};
use cattle_proto::secret::Secret;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SERVER: &str = "0190b7c4-0000-7000-8000-000000000001";

struct Key {
    kid: &'static str,
    algorithm: Algorithm,
    encoding: EncodingKey,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { kid, algorithm: Algorithm::ES256, encoding: EncodingKey::from_ec_der(&pair.serialize_der()) }
    }

    fn p384(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        Self { kid, algorithm: Algorithm::ES384, encoding: EncodingKey::from_ec_der(&pair.serialize_der()) }
    }

    /// What kubeadm makes.
    fn rsa(kid: &'static str) -> Self {
        let pkcs8 = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().serialize_der();
        // PKCS #8 of an RSA key of 2048 bits is 26 bytes of wrapping around PKCS #1, which the library wants.
        Self { kid, algorithm: Algorithm::RS256, encoding: EncodingKey::from_rsa_der(&pkcs8[26..]) }
    }

    fn jwk(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.encoding, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.to_owned());
        jwk
    }

    fn sign(&self, claims: &Value) -> Secret {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) };
        Secret::new(jsonwebtoken::encode(&header, claims, &self.encoding).unwrap())
    }
}

fn key_set(keys: &[&Key]) -> KeySet {
    let set = JwkSet { keys: keys.iter().map(|key| key.jwk()).collect() };
    KeySet::parse(&serde_json::to_string(&set).unwrap()).unwrap()
}

/// What a kubelet of Kubernetes 1.34 puts into the pod.
fn good() -> Value {
    json!({
        "aud": [audience("c-abcde", SERVER)],
        "exp": NOW + 3600, "iat": NOW, "nbf": NOW, "iss": ISSUER, "sub": CLUSTER_AGENT_SUBJECT,
        "jti": "c3a5f9d2",
        "kubernetes.io": {
            "namespace": "cattle-system",
            "node": { "name": "node-1", "uid": "n" },
            "pod": { "name": "cattle-cluster-agent-5d8f-abcde", "uid": "p" },
            "serviceaccount": { "name": "cattle-cluster-agent", "uid": "s" }
        }
    })
}

fn check(token: &Secret, keys: &KeySet, now: u64) -> Result<Claims, TokenError> {
    let audience = audience("c-abcde", SERVER);
    verify(token, keys, &Expected { issuer: ISSUER, audience: &audience, now })
}

#[test]
fn a_good_token_says_which_pod() {
    for key in [Key::new("k"), Key::p384("k"), Key::rsa("k")] {
        let keys = key_set(&[&Key::new("old"), &key]);
        let claims = check(&key.sign(&good()), &keys, NOW).unwrap();
        assert_eq!(claims.pod.as_str(), "cattle-cluster-agent-5d8f-abcde");
        assert_eq!(claims.pod_uid, "p");
        assert_eq!(claims.node.unwrap().as_str(), "node-1");
        assert_eq!(claims.expires_at, NOW + 3600);
    }
}

#[test]
fn the_service_account_says_what_kind_of_agent_it_is() {
    let key = Key::new("k");
    for (subject, kind) in
        [(CLUSTER_AGENT_SUBJECT, AgentKind::ClusterAgent), (NODE_AGENT_SUBJECT, AgentKind::NodeAgent)]
    {
        let mut claims = good();
        claims["sub"] = json!(subject);
        assert_eq!(check(&key.sign(&claims), &key_set(&[&key]), NOW).unwrap().kind, kind);
    }
}

#[test]
fn a_token_of_an_older_kubernetes_has_no_node() {
    let key = Key::new("k");
    let mut claims = good();
    claims["kubernetes.io"].as_object_mut().unwrap().remove("node");
    claims["aud"] = json!(audience("c-abcde", SERVER));
    assert_eq!(check(&key.sign(&claims), &key_set(&[&key]), NOW).unwrap().node, None);
}

#[test]
fn every_broken_rule_has_its_name() {
    let key = Key::new("k");
    let keys = key_set(&[&key]);
    let cases: [(&str, &str, Value, TokenError, RejectCode); 12] = [
        ("another issuer", "/iss", json!("https://evil"), TokenError::WrongIssuer, RejectCode::WrongIssuer),
        ("the API server's audience", "/aud", json!([ISSUER]), TokenError::WrongAudience, RejectCode::WrongAudience),
        (
            "another cluster's audience",
            "/aud",
            json!([audience("c-other", SERVER)]),
            TokenError::WrongAudience,
            RejectCode::WrongAudience,
        ),
        (
            "another server's audience",
            "/aud",
            json!([audience("c-abcde", "another")]),
            TokenError::WrongAudience,
            RejectCode::WrongAudience,
        ),
        ("no audience", "/aud", json!([]), TokenError::WrongAudience, RejectCode::WrongAudience),
        (
            "another account",
            "/sub",
            json!("system:serviceaccount:default:default"),
            TokenError::WrongSubject,
            RejectCode::WrongSubject,
        ),
        ("expired", "/exp", json!(NOW - 60), TokenError::Expired, RejectCode::TokenExpired),
        ("an end that is no number", "/exp", json!("never"), TokenError::BadSignature, RejectCode::Unauthenticated),
        ("not valid yet", "/nbf", json!(NOW + 61), TokenError::NotYetValid, RejectCode::ClockSkew),
        ("issued in the future", "/iat", json!(NOW + 600), TokenError::NotYetValid, RejectCode::ClockSkew),
        ("no pod", "/kubernetes.io", json!({}), TokenError::NotBoundToPod, RejectCode::WrongSubject),
        (
            "a pod name that is none",
            "/kubernetes.io/pod/name",
            json!("../x"),
            TokenError::Malformed,
            RejectCode::Unauthenticated,
        ),
    ];
    for (name, pointer, value, error, code) in cases {
        let mut claims = good();
        *claims.pointer_mut(pointer).unwrap() = value;
        assert_eq!(check(&key.sign(&claims), &keys, NOW), Err(error), "{name}");
        assert_eq!(RejectCode::from(error), code, "{name}");
    }
}

#[test]
fn clocks_may_differ_by_a_minute() {
    let key = Key::new("k");
    let (keys, token) = (key_set(&[&key]), key.sign(&good()));
    assert!(check(&token, &keys, NOW - 60).is_ok());
    assert_eq!(check(&token, &keys, NOW - 61), Err(TokenError::NotYetValid));
    assert!(check(&token, &keys, NOW + 3600 + 59).is_ok());
    assert_eq!(check(&token, &keys, NOW + 3600 + 60), Err(TokenError::Expired));
    assert_eq!(check(&token, &keys, NOW + 3600 + 600), Err(TokenError::Expired));
}

#[test]
fn only_the_key_that_the_token_names_counts() {
    let (key, other) = (Key::new("k"), Key::new("other"));
    assert_eq!(check(&other.sign(&good()), &key_set(&[&key]), NOW), Err(TokenError::UnknownSigningKey));
    assert_eq!(RejectCode::from(TokenError::UnknownSigningKey), RejectCode::UnknownSigningKey);
    // A foreign key under a known id.
    let foreign = Key::new("k");
    assert_eq!(check(&foreign.sign(&good()), &key_set(&[&key]), NOW), Err(TokenError::BadSignature));
    // Another key's signature on these claims.
    let token = key.sign(&good());
    let (message, _) = token.expose().rsplit_once('.').unwrap();
    let stolen = other.sign(&good());
    let (_, signature) = stolen.expose().rsplit_once('.').unwrap();
    let spliced = Secret::new(format!("{message}.{signature}"));
    assert_eq!(check(&spliced, &key_set(&[&key]), NOW), Err(TokenError::BadSignature));
}

#[test]
fn a_token_cannot_choose_how_it_is_verified() {
    let key = Key::new("k");
    let keys = key_set(&[&key]);
    // The public key as a shared secret: the classic confusion.
    let public = serde_json::to_vec(&key.jwk()).unwrap();
    let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::HS256) };
    let forged = jsonwebtoken::encode(&header, &good(), &EncodingKey::from_secret(&public)).unwrap();
    assert_eq!(check(&Secret::new(forged), &keys, NOW), Err(TokenError::BadSignature));
    // No signature at all: {"alg":"none","kid":"k"}.
    let token = key.sign(&good());
    let claims = token.expose().split('.').nth(1).unwrap();
    let unsigned = Secret::new(format!("eyJhbGciOiJub25lIiwia2lkIjoiayJ9.{claims}."));
    assert_eq!(check(&unsigned, &keys, NOW), Err(TokenError::Malformed));
    // A key that is for another algorithm.
    let mut jwk = key.jwk();
    jwk.common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::ES384);
    let set = serde_json::to_string(&JwkSet { keys: vec![jwk, Key::new("other").jwk()] }).unwrap();
    assert!(check(&key.sign(&good()), &KeySet::parse(&set).unwrap(), NOW).is_err());
}

#[test]
fn what_is_no_token_is_malformed() {
    let keys = key_set(&[&Key::new("k")]);
    for bad in ["", "a", "a.b", "a.b.c", "....", "eyJhbGciOiJFUzI1NiJ9.e30.AA", &"x".repeat(20_000)] {
        assert_eq!(check(&Secret::new(bad.to_owned()), &keys, NOW), Err(TokenError::Malformed), "{bad:.20}");
    }
}

#[test]
fn key_sets_without_a_signing_key_are_refused() {
    let shared = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"k","alg":"HS256"}]}"#;
    let mut encryption = Key::new("k").jwk();
    encryption.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Encryption);
    let encryption = serde_json::to_string(&JwkSet { keys: vec![encryption] }).unwrap();
    let many = JwkSet { keys: (0..65).map(|_| Key::new("k").jwk()).collect() };
    let many = serde_json::to_string(&many).unwrap();
    for bad in ["", "{}", r#"{"keys":[]}"#, shared, &encryption, &many, &" ".repeat(300 * 1024)] {
        assert!(KeySet::parse(bad).is_err(), "{bad:.40}");
    }
}

#[test]
fn any_text_is_the_signed_token_or_none() {
    let key = Key::new("k");
    let keys = key_set(&[&key]);
    let token = key.sign(&good());
    let wanted = check(&token, &keys, NOW).unwrap();
    let samples = [token.expose(), "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.e30.AA"];
    cattle_matrix::Decoder::new("service account token", samples).memory(4 << 20).hammer_as(
        |bytes| Secret::new(String::from_utf8_lossy(bytes).into_owned()),
        |text| {
            let claims = check(text, &keys, NOW);
            assert!(claims.as_ref().is_ok_and(|claims| *claims == wanted) || claims.is_err());
            claims
        },
    );
}

/// What is inside a token only matters when its issuer has signed it, and then has to be claims.
#[test]
fn any_signed_claims_are_claims_or_refused() {
    let key = Key::new("k");
    let keys = key_set(&[&key]);
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"ES256","kid":"k"}"#);
    let sign = |claims: &[u8]| {
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.encoding, key.algorithm).unwrap();
        Secret::new(format!("{message}.{signature}"))
    };
    cattle_matrix::Decoder::new("signed claims", [good().to_string()]).memory(4 << 20).hammer_as(sign, |token| {
        let claims = check(token, &keys, NOW);
        assert_ne!(claims, Err(TokenError::UnknownSigningKey));
        claims
    });
}

#[test]
fn any_text_is_a_key_set_or_none() {
    let sets = [vec![Key::new("a").jwk()], vec![Key::p384("b").jwk(), Key::rsa("c").jwk()]];
    let samples = sets.map(|keys| serde_json::to_string(&JwkSet { keys }).unwrap());
    cattle_matrix::Decoder::new("key set", samples).memory(16 << 20).hammer_text(KeySet::parse);
}
