//! Service-account tokens with other claims, signed with the cluster's own key: what a clock, a kubelet or a thief may
//! bring that no API server would issue now.

use std::path::Path;

use anyhow::Context;
use base64::Engine as _;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::Value;

/// The claims of a token, unverified.
///
/// # Errors
/// When it is no token.
pub fn claims(token: &str) -> anyhow::Result<Value> {
    let payload = token.split('.').nth(1).context("no payload")?;
    Ok(serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload)?)?)
}

/// A token with the header of `like` and other claims, signed with an EC key (PKCS #8, PEM).
///
/// # Errors
/// When the key or the token cannot be read.
pub fn resign(like: &str, claims: &Value, key: &Path) -> anyhow::Result<String> {
    let header: Header = jsonwebtoken::decode_header(like)?;
    let pem = std::fs::read_to_string(key)?;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body)?;
    Ok(jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&der))?)
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
