//! Projected service-account tokens of Kubernetes, verified without I/O and without a clock of its own.
//!
//! Every claim is read into its type and checked here; the JWT library checks the signature and nothing else. An algorithm
//! is allowed only if the key itself is for it, so a token cannot choose how it is verified.

use cattle_proto::handshake::{AgentKind, RejectCode};
use cattle_proto::id::{NodeName, PodName};
use cattle_proto::limits;
use cattle_proto::secret::Secret;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

/// Subject of the cluster agent's tokens.
pub const CLUSTER_AGENT_SUBJECT: &str = "system:serviceaccount:cattle-system:cattle-cluster-agent";
/// Subject of the node agents' tokens.
pub const NODE_AGENT_SUBJECT: &str = "system:serviceaccount:cattle-system:cattle-node-agent";

/// Largest key set in bytes, and most keys in it: a rotation has two or three.
const KEY_SET: usize = 256 * 1024;
const KEYS: usize = 64;

/// The keys with which an API server signs tokens: what it serves at `/openid/v1/jwks`.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Jwk>,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that can sign no token (other uses, secrets, unknown types) are left out.
    ///
    /// # Errors
    /// When it is none, or has no usable key.
    pub fn parse(json: &str) -> Result<Self, InvalidKeySet> {
        if json.len() > KEY_SET {
            return Err(InvalidKeySet);
        }
        let set: JwkSet = serde_json::from_str(json).map_err(|_| InvalidKeySet)?;
        let keys: Vec<Jwk> = set.keys.into_iter().filter(|key| !algorithms(key).is_empty()).collect();
        if keys.is_empty() || keys.len() > KEYS { Err(InvalidKeySet) } else { Ok(Self { keys }) }
    }
}

/// The text is no key set, or has no key that signs tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a usable JSON Web Key Set")]
pub struct InvalidKeySet;

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The cluster's issuer.
    pub issuer: &'a str,
    /// `cattle:<cluster id>:<server id>`.
    pub audience: &'a str,
    /// Now: seconds since 1970-01-01 UTC.
    pub now: u64,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Whose it is: the service account says it.
    pub kind: AgentKind,
    /// When it ends: seconds since 1970-01-01 UTC.
    pub expires_at: u64,
    /// The pod that it is bound to.
    pub pod: PodName,
    /// That pod's UID.
    pub pod_uid: String,
    /// The pod's node: Kubernetes puts it there from 1.32 on.
    pub node: Option<NodeName>,
}

/// The audience of the tokens that agents of `cluster` have for the server `server_id`.
#[must_use]
pub fn audience(cluster: &str, server_id: &str) -> String {
    format!("cattle:{cluster}:{server_id}")
}

/// Verifies a projected token.
///
/// # Errors
/// The first rule it breaks; signature before claims, so that a claim is only spoken of when it is the issuer's.
pub fn verify(token: &Secret, keys: &KeySet, expected: &Expected<'_>) -> Result<Claims, TokenError> {
    if token.len() > limits::TOKEN {
        return Err(TokenError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token.expose()).map_err(|_| TokenError::Malformed)?;
    let kid = header.kid.ok_or(TokenError::Malformed)?;
    let mut of_kid = keys.keys.iter().filter(|key| key.common.key_id.as_deref() == Some(&kid)).peekable();
    if of_kid.peek().is_none() {
        return Err(TokenError::UnknownSigningKey);
    }
    let claims = of_kid
        .filter(|key| algorithms(key).contains(&header.alg))
        .find_map(|key| signed_claims(token, key, header.alg))
        .ok_or(TokenError::BadSignature)?;
    claims.check(expected)
}

/// The claims, if `key` has signed them.
fn signed_claims(token: &Secret, key: &Jwk, algorithm: Algorithm) -> Option<RawClaims> {
    let key = DecodingKey::from_jwk(key).ok()?;
    let mut signature_only = Validation::new(algorithm);
    signature_only.validate_exp = false;
    signature_only.validate_nbf = false;
    signature_only.validate_aud = false;
    signature_only.required_spec_claims.clear();
    jsonwebtoken::decode(token.expose(), &key, &signature_only).ok().map(|data| data.claims)
}

/// The algorithms that `key` may verify.
fn algorithms(key: &Jwk) -> Vec<Algorithm> {
    let for_signatures = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
    #[expect(clippy::wildcard_enum_match_arm, reason = "key types that sign no tokens, of today or later")]
    let of_type: &[Algorithm] = match &key.algorithm {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        // A shared secret in a public document would let everybody sign.
        _ => &[],
    };
    let named = key.common.key_algorithm;
    of_type
        .iter()
        .copied()
        .filter(|algorithm| for_signatures && named.is_none_or(|named| named == (*algorithm).into()))
        .collect()
}

/// The claims of a Kubernetes service-account token.
#[derive(Deserialize)]
struct RawClaims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: u64,
    nbf: Option<u64>,
    iat: Option<u64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

/// `aud` is one text or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    pod: Option<Object>,
    node: Option<NodeClaim>,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    uid: String,
}

#[derive(Deserialize)]
struct NodeClaim {
    name: String,
}

impl RawClaims {
    fn check(self, expected: &Expected<'_>) -> Result<Claims, TokenError> {
        let leeway = limits::CLOCK_LEEWAY.as_secs();
        let audience = match &self.aud {
            Audience::One(one) => one == expected.audience,
            Audience::Several(several) => several.iter().any(|one| one == expected.audience),
        };
        if self.iss != expected.issuer {
            return Err(TokenError::WrongIssuer);
        }
        if !audience {
            return Err(TokenError::WrongAudience);
        }
        let kind = match self.sub.as_str() {
            CLUSTER_AGENT_SUBJECT => AgentKind::ClusterAgent,
            NODE_AGENT_SUBJECT => AgentKind::NodeAgent,
            _ => return Err(TokenError::WrongSubject),
        };
        if self.exp.saturating_add(leeway) <= expected.now {
            return Err(TokenError::Expired);
        }
        let from = self.nbf.max(self.iat).unwrap_or(0);
        if from > expected.now.saturating_add(leeway) {
            return Err(TokenError::NotYetValid);
        }
        // A token that is bound to no pod was not made by a kubelet for this pod.
        let Some(Kubernetes { pod: Some(pod), node }) = self.kubernetes else {
            return Err(TokenError::NotBoundToPod);
        };
        Ok(Claims {
            kind,
            expires_at: self.exp,
            pod: pod.name.try_into().map_err(|_| TokenError::Malformed)?,
            pod_uid: pod.uid,
            node: node.map(|node| node.name.try_into()).transpose().map_err(|_| TokenError::Malformed)?,
        })
    }
}

/// Why a token is not believed. Nothing of the token is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is no JWT with a key id and the claims of a service account.
    #[error("the token is malformed")]
    Malformed,
    /// No key of the cluster has its key id.
    #[error("the token is signed by an unknown key")]
    UnknownSigningKey,
    /// The key did not sign it, or its algorithm is not the key's.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// Another issuer.
    #[error("the token has another issuer")]
    WrongIssuer,
    /// Another audience.
    #[error("the token has another audience")]
    WrongAudience,
    /// A service account that is no agent's.
    #[error("the token has another subject")]
    WrongSubject,
    /// It is over.
    #[error("the token has expired")]
    Expired,
    /// It is not valid yet: a clock is wrong.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It belongs to no pod.
    #[error("the token is not bound to a pod")]
    NotBoundToPod,
}

impl From<TokenError> for RejectCode {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Malformed | TokenError::BadSignature => Self::Unauthenticated,
            TokenError::UnknownSigningKey => Self::UnknownSigningKey,
            TokenError::WrongIssuer => Self::WrongIssuer,
            TokenError::WrongAudience => Self::WrongAudience,
            TokenError::WrongSubject | TokenError::NotBoundToPod => Self::WrongSubject,
            TokenError::Expired => Self::TokenExpired,
            TokenError::NotYetValid => Self::ClockSkew,
        }
    }
}
