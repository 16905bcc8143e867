//! The JSON of signing in, with the field names of Rancher's documented API.

use std::fmt;

use cattle_api::Secret;
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};

use super::{ChangePasswordError, LoginError, SignedIn, Wanted};
use crate::authenticate::AuthenticateError;

/// `POST /v3-public/localProviders/local?action=login` and `POST /v1-public/login`. Other fields are ignored; a field that
/// is there twice is refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginRequest {
    /// The sign-in name.
    pub username: String,
    /// The password.
    pub password: SecretText,
    /// `json`, `kubeconfig` or `kubeconfig_<cluster>`.
    #[serde(default)]
    pub response_type: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Milliseconds; 0 is the setting.
    #[serde(default)]
    pub ttl: i64,
}

/// `POST /v3/users?action=changepassword`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangePasswordRequest {
    /// The password that is valid now.
    pub current_password: SecretText,
    /// The one from now on.
    pub new_password: SecretText,
}

/// `POST /v3/users/<name>?action=setpassword`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetPasswordRequest {
    /// The password from now on.
    pub new_password: SecretText,
    /// Whether the user must set another one at the next sign-in; yes unless said otherwise.
    #[serde(default = "yes")]
    pub must_change_password: bool,
}

/// A secret on its way in. It has no `Debug` of its content and no `Serialize`.
pub struct SecretText(pub Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::from(text)))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The token of a sign-in: the only answer that has its secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginResponse {
    base_type: &'static str,
    r#type: &'static str,
    id: String,
    name: String,
    token: String,
    user_id: String,
    user_principal: String,
    auth_provider: &'static str,
    description: String,
    ttl: i64,
    created: Option<String>,
    expires_at: String,
    expired: bool,
    enabled: bool,
    current: bool,
    is_derived: bool,
    cluster_id: Option<String>,
    must_change_password: bool,
}

impl LoginResponse {
    /// The answer to a sign-in. It holds the secret: nothing may log it.
    #[must_use]
    pub fn new(signed_in: &SignedIn) -> Self {
        let token = &signed_in.issued.token;
        let name = token.metadata.name.clone().unwrap_or_default();
        let expires_at = token.status.as_ref().and_then(|status| status.expires_at.as_ref());
        Self {
            base_type: "token",
            r#type: "token",
            id: name.clone(),
            name,
            token: signed_in.issued.bearer.expose_str().unwrap_or_default().to_owned(),
            user_id: token.spec.user_id.clone(),
            user_principal: format!("local://{}", token.spec.user_id),
            auth_provider: "local",
            description: token.spec.description.clone(),
            ttl: token.spec.ttl,
            created: token.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()),
            expires_at: expires_at.map(|time| time.0.to_string()).unwrap_or_default(),
            expired: false,
            enabled: true,
            current: false,
            is_derived: false,
            cluster_id: Some(&token.spec.cluster_name).filter(|cluster| !cluster.is_empty()).cloned(),
            must_change_password: signed_in.must_change_password,
        }
    }
}

/// An error as Rancher's `/v3` API writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    base_type: &'static str,
    r#type: &'static str,
    status: u16,
    code: &'static str,
    message: String,
    /// Seconds, for the header `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

impl ErrorBody {
    /// An error with a code of Rancher's.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            base_type: "error",
            r#type: "error",
            status: status.as_u16(),
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..self }
    }
}

impl From<&LoginError> for ErrorBody {
    fn from(error: &LoginError) -> Self {
        let message = error.to_string();
        match error {
            LoginError::Failed => Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message),
            LoginError::Disabled => Self::new(StatusCode::FORBIDDEN, "PermissionDenied", message),
            LoginError::NoSuchCluster => Self::new(StatusCode::NOT_FOUND, "NotFound", message),
            LoginError::Throttled(throttled) => throttled_body(throttled.retry_after.as_secs(), message),
            LoginError::Busy | LoginError::NotReady | LoginError::Unavailable(_) => unavailable_body(message),
        }
    }
}

impl From<&AuthenticateError> for ErrorBody {
    fn from(error: &AuthenticateError) -> Self {
        match error {
            AuthenticateError::Credential(_) | AuthenticateError::Refused => {
                Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "must authenticate")
            }
            AuthenticateError::PasswordChangeRequired => {
                Self::new(StatusCode::FORBIDDEN, "PermissionDenied", error.to_string())
            }
            AuthenticateError::Unavailable(_) => unavailable_body(error.to_string()),
        }
    }
}

impl From<&ChangePasswordError> for ErrorBody {
    fn from(error: &ChangePasswordError) -> Self {
        let message = error.to_string();
        match error {
            ChangePasswordError::Authenticate(error) => error.into(),
            // 422 and not 401: the credential of the request is good, and clients sign out at a 401.
            ChangePasswordError::Wrong => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidBodyContent", message),
            ChangePasswordError::Rejected(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidBodyContent", message)
            }
            ChangePasswordError::Forbidden => Self::new(StatusCode::FORBIDDEN, "PermissionDenied", message),
            ChangePasswordError::NoSuchUser => Self::new(StatusCode::NOT_FOUND, "NotFound", message),
            ChangePasswordError::Throttled(throttled) => throttled_body(throttled.retry_after.as_secs(), message),
            ChangePasswordError::Unavailable(cattle_store::StoreError::Conflict(_)) => {
                Self::new(StatusCode::CONFLICT, "Conflict", message)
            }
            ChangePasswordError::Busy | ChangePasswordError::Unavailable(_) => unavailable_body(message),
        }
    }
}

/// What a `responseType` asks for; `None` for one that is not known. `cookie` is not: nothing here takes cookies.
#[must_use]
pub fn wanted(response_type: &str) -> Option<Wanted<'_>> {
    match response_type.split_once('_') {
        None if response_type.is_empty() || response_type == "json" => Some(Wanted::Session),
        None if response_type == "kubeconfig" => Some(Wanted::Kubeconfig(None)),
        Some(("kubeconfig", cluster)) if cattle_api::names::is_cluster_name(cluster) => {
            Some(Wanted::Kubeconfig(Some(cluster)))
        }
        None | Some(_) => None,
    }
}

fn throttled_body(seconds: u64, message: String) -> ErrorBody {
    ErrorBody::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry_after(seconds)
}

fn unavailable_body(message: String) -> ErrorBody {
    ErrorBody::new(StatusCode::SERVICE_UNAVAILABLE, "ServerError", message).retry_after(1)
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_types_are_a_closed_list() {
        assert_eq!(wanted(""), Some(Wanted::Session));
        assert_eq!(wanted("json"), Some(Wanted::Session));
        assert_eq!(wanted("kubeconfig"), Some(Wanted::Kubeconfig(None)));
        assert_eq!(wanted("kubeconfig_c-abcde"), Some(Wanted::Kubeconfig(Some("c-abcde"))));
        for bad in ["cookie", "kubeconfigs", "kubeconfig_", "kubeconfig_../x", "kubeconfig_c-abcde:x", "json_c-abcde"] {
            assert_eq!(wanted(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_given_twice_is_refused_and_is_never_shown() {
        let twice = r#"{"username":"ann","password":"one","password":"two"}"#;
        assert!(serde_json::from_str::<LoginRequest>(twice).is_err());
        let once: LoginRequest = serde_json::from_str(r#"{"username":"ann","password":"s3cret","more":1}"#).unwrap();
        assert_eq!(format!("{:?}", once.password), "(secret)");
    }

    #[test]
    fn any_body_is_a_request_or_none() {
        let samples = [
            r#"{"username":"ann","password":"s3cret","responseType":"kubeconfig_c-abcde","description":"x","ttl":5}"#,
            r#"{"currentPassword":"a","newPassword":"b"}"#,
            r#"{"newPassword":"a","mustChangePassword":false}"#,
        ];
        cattle_matrix::Decoder::new("sign-in body", samples).memory(8 << 20).hammer(|bytes| {
            let login = serde_json::from_slice::<LoginRequest>(bytes).is_ok();
            let change = serde_json::from_slice::<ChangePasswordRequest>(bytes).is_ok();
            login || change || serde_json::from_slice::<SetPasswordRequest>(bytes).is_ok()
        });
    }
}
