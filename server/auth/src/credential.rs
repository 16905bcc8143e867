//! The credential of a request, read from its headers. Nothing is checked against the store here.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use zeroize::Zeroizing;

use crate::user::TokenName;

/// The longest `Authorization` header that is looked at, in bytes. A real one has about 90.
const MAX_HEADER: usize = 1024;
/// How clients that cannot set headers (browsers) send a token to a Kubernetes API.
const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// Why no credential could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// There is no `Authorization` header.
    #[error("the request has no credential")]
    Missing,
    /// There are two of them, or one that is neither `Bearer name:secret` nor `Basic` with the same halves.
    #[error("the Authorization header is not one bearer token `name:secret`")]
    Malformed,
    /// A token in `Sec-WebSocket-Protocol`. It is refused rather than ignored, since ignoring would forward it.
    #[error("tokens in Sec-WebSocket-Protocol are not accepted: use the Authorization header")]
    WebSocketBearer,
}

/// A token as it was presented: `name:secret`. The secret has no `Debug` and is wiped when dropped.
pub struct Credential {
    name: TokenName,
    secret: Zeroizing<String>,
}

impl Credential {
    /// Reads the one credential of a request. Cookies and query parameters are never looked at.
    ///
    /// # Errors
    /// [`CredentialError`]; no variant tells anything about tokens that exist.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, CredentialError> {
        if has_websocket_bearer(headers) {
            return Err(CredentialError::WebSocketBearer);
        }
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let header = given.next().ok_or(CredentialError::Missing)?;
        if given.next().is_some() || header.len() > MAX_HEADER {
            return Err(CredentialError::Malformed);
        }
        let text = header.to_str().map_err(|_| CredentialError::Malformed)?;
        let (scheme, rest) = text.split_once(' ').ok_or(CredentialError::Malformed)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            Self::parse(rest).ok_or(CredentialError::Malformed)
        } else if scheme.eq_ignore_ascii_case("basic") {
            let decoded = decode_basic(rest).ok_or(CredentialError::Malformed)?;
            Self::parse(&decoded).ok_or(CredentialError::Malformed)
        } else {
            Err(CredentialError::Malformed)
        }
    }

    /// Reads `name:secret`: exactly one colon, an object's name, and a secret of the alphabet and length we mint.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        let (name, secret) = token.split_once(':')?;
        let name = TokenName::parse(name)?;
        crate::token::is_well_formed(secret).then(|| Self { name, secret: Zeroizing::new(secret.to_owned()) })
    }

    /// The public half.
    #[must_use]
    pub fn name(&self) -> &TokenName {
        &self.name
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }
}

fn has_websocket_bearer(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lines.any(|line| {
        let lower = line.as_bytes().to_ascii_lowercase();
        lower.windows(WEBSOCKET_BEARER.len()).any(|window| window == WEBSOCKET_BEARER.as_bytes())
    })
}

/// RFC 7617 says the standard alphabet, Rancher's clients say the URL-safe one; padding is optional in either.
fn decode_basic(encoded: &str) -> Option<Zeroizing<String>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if encoded.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let bytes = GeneralPurpose::new(alphabet, lenient).decode(encoded).ok()?;
    String::from_utf8(bytes).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use http::HeaderValue;

    use super::*;

    fn secret() -> String {
        "bcdfghjklmnpqrstvwxz2456789".repeat(2)
    }

    fn authorization(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn read(lines: &[&str]) -> Result<Credential, CredentialError> {
        Credential::from_headers(&authorization(lines))
    }

    #[test]
    fn bearer_and_basic_carry_the_same_two_halves() {
        let token = format!("token-abcde:{}", secret());
        let spellings = [
            format!("Bearer {token}"),
            format!("bearer {token}"),
            format!("Basic {}", STANDARD.encode(&token)),
            format!("BASIC {}", URL_SAFE_NO_PAD.encode(&token)),
        ];
        for line in spellings {
            let credential = read(&[&line]).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(credential.name().as_str(), "token-abcde");
            assert_eq!(credential.secret(), secret());
        }
    }

    #[test]
    fn every_malformed_header_is_refused() {
        let s = secret();
        let cases = [
            String::new(),
            " ".to_owned(),
            "\t".to_owned(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            "Bearer  ".to_owned(),
            "Bearer :".to_owned(),
            "Basic".to_owned(),
            "Basic ".to_owned(),
            "Basic Og==".to_owned(),
            "Basic !!!!".to_owned(),
            "Basic /w==".to_owned(),
            "Bearer token-abcde".to_owned(),
            "Bearer token-abcde:".to_owned(),
            format!("Bearer :{s}"),
            format!("Bearer token-abcde:{s}:"),
            format!("Bearer token-abcde:{s}:{s}"),
            format!("Bearer token-abcde::{s}"),
            format!("Bearer  token-abcde:{s}"),
            format!("Bearer\ttoken-abcde:{s}"),
            format!("Bearer token-abcde:{s} "),
            format!("Bearer token-abcde:{}", &s[1..]),
            format!("Bearer token-abcde:{s}b"),
            format!("Bearer token-abcde:{}", s.to_uppercase()),
            format!("Bearer ../token:{s}"),
            format!("Bearer TOKEN-abcde:{s}"),
            format!("Bearer ext/token-abcde:{s}"),
            format!("Negotiate token-abcde:{s}"),
            format!("token-abcde:{s}"),
            format!("Basic {}", STANDARD.encode(format!("a:b:{s}"))),
            format!("Bearer {}", "x".repeat(64 * 1024)),
        ];
        for line in &cases {
            assert_eq!(read(&[line]).err(), Some(CredentialError::Malformed), "{line:?}");
        }
    }

    #[test]
    fn two_headers_are_refused_even_when_they_are_equal() {
        let line = format!("Bearer token-abcde:{}", secret());
        assert_eq!(read(&[&line, &line]).err(), Some(CredentialError::Malformed));
        assert_eq!(read(&[]).err(), Some(CredentialError::Missing));
    }

    #[test]
    fn a_token_in_the_websocket_protocol_is_refused_however_it_is_written() {
        let token = URL_SAFE_NO_PAD.encode(format!("token-abcde:{}", secret()));
        let cases = [
            format!("base64url.bearer.authorization.k8s.io.{token}"),
            format!("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{token}"),
            format!("Base64URL.Bearer.Authorization.K8s.IO.{token}"),
        ];
        for line in cases {
            let mut headers = HeaderMap::new();
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v5.channel.k8s.io"));
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(&line).unwrap());
            headers.append(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer token-abcde:{}", secret())).unwrap());
            assert_eq!(Credential::from_headers(&headers).err(), Some(CredentialError::WebSocketBearer));
        }
    }

    #[test]
    fn cookies_are_not_credentials() {
        let mut headers = HeaderMap::new();
        headers
            .append(http::header::COOKIE, HeaderValue::from_str(&format!("R_SESS=token-abcde:{}", secret())).unwrap());
        assert_eq!(Credential::from_headers(&headers).err(), Some(CredentialError::Missing));
    }

    #[test]
    fn any_header_is_one_token_or_is_refused() {
        let token = format!("token-abcde:{}", secret());
        let samples =
            [format!("Bearer {token}"), format!("Basic {}", STANDARD.encode(&token)), format!("bearer {token}")];
        let header = |bytes: &[u8]| {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(bytes) {
                headers.append(AUTHORIZATION, value);
            }
            headers
        };
        cattle_matrix::Decoder::new("bearer header", samples).memory(16 * 1024).hammer_as(header, |headers| {
            let read = Credential::from_headers(headers);
            if let Ok(credential) = &read {
                assert!(crate::token::is_well_formed(credential.secret()));
                assert_eq!(TokenName::parse(credential.name().as_str()).as_ref(), Some(credential.name()));
            }
            read
        });
    }
}
