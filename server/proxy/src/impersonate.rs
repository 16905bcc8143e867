//! The identity that goes downstream. This module is the only writer of `Impersonate-*`, and refuses those of clients.

use cattle_auth::{GROUP_AUTHENTICATED, GROUP_CATTLE_AUTHENTICATED, UserInfo};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::headers::folded;

/// Namespace of the impersonators' service accounts.
const NAMESPACE: &str = "cattle-impersonation-system";

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// What an extra's key may not hold as it is.
const EXTRA_KEY: &AsciiSet = &extra_key();

/// The headers that make an API server act as one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImpersonationHeaders(HeaderMap);

/// Why an identity cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The user name is empty, one of Kubernetes' own, or cannot stand in a header.
    #[error("the user name cannot be impersonated")]
    User,
    /// A group is empty, one of Kubernetes' own, or cannot stand in a header.
    #[error("a group cannot be impersonated")]
    Group,
    /// An extra cannot stand in a header.
    #[error("an extra cannot be impersonated")]
    Extra,
}

/// A client asks to act as somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} is not accepted: impersonation through this server is not supported")]
pub struct ImpersonationRefused(HeaderName);

/// Refuses every header that some server could read as a request to act as somebody else.
///
/// # Errors
/// [`ImpersonationRefused`] with the first such header.
pub fn refuse_impersonation(headers: &HeaderMap) -> Result<(), ImpersonationRefused> {
    match headers.keys().find(|name| folded(name).starts_with("impersonate")) {
        Some(name) => Err(ImpersonationRefused(name.clone())),
        None => Ok(()),
    }
}

impl ImpersonationHeaders {
    /// The headers of an authenticated user. An identity that would not arrive exactly as it is, is not sent at all.
    pub(crate) fn of(user: &UserInfo) -> Result<Self, IdentityError> {
        let mut headers = HeaderMap::new();
        // A colon is what Kubernetes' own names have (`system:admin`, `system:serviceaccount:…`); no user of ours has one.
        let name = Some(user.name()).filter(|name| !name.contains(':'));
        headers.insert(USER, name.and_then(exact).ok_or(IdentityError::User)?);
        for group in user.groups() {
            let value = Some(group.as_str()).filter(|group| is_grantable(group)).and_then(exact);
            headers.append(GROUP, value.ok_or(IdentityError::Group)?);
        }
        for (key, values) in user.extra() {
            let name = format!("{EXTRA_PREFIX}{}", utf8_percent_encode(key, EXTRA_KEY));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| IdentityError::Extra)?;
            if key.is_empty() || headers.contains_key(&name) {
                return Err(IdentityError::Extra);
            }
            for value in values {
                headers.append(&name, exact(value).ok_or(IdentityError::Extra)?);
            }
        }
        Ok(Self(headers))
    }

    /// Puts the identity into a request head that must not have any.
    pub(crate) fn write_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.append(name, value.clone());
        }
    }

    /// Whether the head carries exactly this identity: checked right before it is sent.
    pub(crate) fn is_all_of(&self, headers: &HeaderMap) -> bool {
        let sent = headers.iter().filter(|(name, _)| name.as_str().starts_with("impersonate"));
        sent.count() == self.0.len() && self.0.keys().all(|name| headers.get_all(name).iter().eq(self.0.get_all(name)))
    }
}

/// The downstream user name of a user's impersonator, as API servers write it into a refusal.
pub(crate) fn account_of(user: &str) -> String {
    format!("system:serviceaccount:{NAMESPACE}:cattle-impersonation-{user}")
}

/// A value that comes out of the header as it went in: no control character, no blank at the ends, not empty.
fn exact(text: &str) -> Option<HeaderValue> {
    let blank = |edge: Option<u8>| edge.is_none_or(|byte| byte == b' ' || byte == b'\t');
    let bytes = text.as_bytes();
    if blank(bytes.first().copied()) || blank(bytes.last().copied()) || text.chars().any(char::is_control) {
        return None;
    }
    HeaderValue::from_bytes(bytes).ok()
}

/// Kubernetes' own groups (`system:masters`, `system:nodes`, …) are never a user's, except the two that every user has.
fn is_grantable(group: &str) -> bool {
    !group.starts_with("system:") || group == GROUP_AUTHENTICATED || group == GROUP_CATTLE_AUTHENTICATED
}

/// Everything that a header name may not hold, `%` itself, and upper case, which would not survive: Kubernetes lower-cases
/// the name before it decodes it.
const fn extra_key() -> AsciiSet {
    let mut set = CONTROLS.add(b' ');
    let special = b"\"%(),/:;<=>?@[\\]{}";
    let mut at = 0;
    while at < special.len() {
        set = set.add(special[at]);
        at += 1;
    }
    let mut letter = b'A';
    while letter <= b'Z' {
        set = set.add(letter);
        letter += 1;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
        headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    }

    #[test]
    fn a_user_is_written_as_documented() {
        let user = UserInfo::for_test("u-abcde", "ann").with_groups(&["local://devs", "größe"]);
        let mut headers = HeaderMap::new();
        let identity = ImpersonationHeaders::of(&user).unwrap();
        identity.write_to(&mut headers);
        assert_eq!(values(&headers, "impersonate-user"), [b"u-abcde"]);
        let groups = ["system:authenticated", "system:cattle:authenticated", "local://devs", "größe"];
        assert_eq!(values(&headers, "impersonate-group"), groups.map(str::as_bytes));
        assert_eq!(values(&headers, "impersonate-extra-principalid"), [b"local://u-abcde"]);
        assert_eq!(values(&headers, "impersonate-extra-username"), [b"ann"]);
        assert!(identity.is_all_of(&headers));
    }

    #[test]
    fn a_head_with_more_or_less_is_noticed() {
        let identity = ImpersonationHeaders::of(&UserInfo::for_test("u-abcde", "ann")).unwrap();
        let mut headers = HeaderMap::new();
        assert!(!identity.is_all_of(&headers), "nothing");
        identity.write_to(&mut headers);
        headers.append("impersonate-uid", HeaderValue::from_static("1"));
        assert!(!identity.is_all_of(&headers), "more");
        headers.remove("impersonate-uid");
        headers.insert("impersonate-user", HeaderValue::from_static("admin"));
        assert!(!identity.is_all_of(&headers), "other");
    }

    #[test]
    fn identities_of_kubernetes_itself_are_refused() {
        for name in
            ["", " u-abcde", "u-abcde ", "system:admin", "system:anonymous", "a:b", "a\nb", "a\0b", "a\u{85}b", "\t"]
        {
            let user = UserInfo::for_test(name, "x");
            assert_eq!(ImpersonationHeaders::of(&user), Err(IdentityError::User), "{name:?}");
        }
        for group in
            ["", "system:masters", "system:nodes", "system:serviceaccounts", "system:unauthenticated", "a\r\nb", " a"]
        {
            let user = UserInfo::for_test("u-abcde", "x").with_groups(&[group]);
            assert_eq!(ImpersonationHeaders::of(&user), Err(IdentityError::Group), "{group:?}");
        }
        let user = UserInfo::for_test("u-abcde", "a\r\nImpersonate-User: admin");
        assert_eq!(ImpersonationHeaders::of(&user), Err(IdentityError::Extra));
    }

    #[test]
    fn extra_keys_survive_kubernetes_decoding() {
        for (key, encoded) in [("principalid", "principalid"), ("a/b", "a%2Fb"), ("A%b", "%41%25b"), ("ö", "%C3%B6")] {
            let shown = utf8_percent_encode(key, EXTRA_KEY).to_string();
            assert_eq!(shown, encoded);
            let decoded =
                percent_encoding::percent_decode_str(&shown.to_ascii_lowercase()).decode_utf8_lossy().into_owned();
            assert_eq!(decoded, key);
        }
    }

    proptest! {
        #![proptest_config(cattle_matrix::proptest_config(10_000))]

        #[test]
        fn a_hostile_name_is_sent_exactly_or_not_at_all(login in "\\PC{0,20}|[\\x00-\\x20a:]{0,6}", group in "\\PC{0,20}|system:[a-z]{0,9}") {
            let user = UserInfo::for_test("u-abcde", &login).with_groups(&[&group]);
            if let Ok(identity) = ImpersonationHeaders::of(&user) {
                prop_assert_eq!(values(&identity.0, "impersonate-user"), [b"u-abcde".as_slice()]);
                prop_assert_eq!(values(&identity.0, "impersonate-group")[2], group.as_bytes());
                prop_assert_eq!(values(&identity.0, "impersonate-extra-username"), [login.as_bytes()]);
                prop_assert_eq!(identity.0.len(), 6);
                prop_assert!(!group.starts_with("system:"));
            }
        }
    }
}
