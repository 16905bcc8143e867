//! The tokens that prove who an agent is, and which of them to try.

use std::io;
use std::path::{Path, PathBuf};

use cattle_proto::handshake::RejectCode;
use cattle_proto::limits;
use cattle_proto::secret::Secret;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

/// Which credential an attempt uses. The projected token goes first, always: an agent of a bound cluster never shows a
/// registration token.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CredentialKind {
    /// The pod's own projected token alone.
    #[default]
    ServiceAccount,
    /// The registration token with a claim of the cluster's identity, and the projected token beside it.
    Registration,
}

impl CredentialKind {
    /// What to try after the server refused this one with `code`. Only refusals that a registration can cure lead to
    /// one, only an agent that holds a registration token tries it, and after it the projected token has its turn
    /// again: the other replica may have registered the cluster.
    #[must_use]
    pub fn after_reject(self, code: RejectCode, holds_registration_token: bool) -> Self {
        let curable =
            matches!(code, RejectCode::NotRegistered | RejectCode::UnknownSigningKey | RejectCode::Unauthenticated);
        match self {
            Self::ServiceAccount if curable && holds_registration_token => Self::Registration,
            Self::ServiceAccount | Self::Registration => Self::ServiceAccount,
        }
    }
}

/// A file with one token, which somebody else replaces from time to time (the kubelet, an operator). It is read anew at
/// each use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// The token at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The token as it is now, without surrounding white space.
    pub async fn read(&self) -> Result<Secret, TokenFileError> {
        let fail = |cause| TokenFileError { path: self.0.clone(), cause };
        let mut text = String::new();
        let file = File::open(&self.0).await.map_err(|error| fail(TokenFileCause::Read(error)))?;
        let limit = limits::TOKEN as u64 + 1;
        let read = file.take(limit).read_to_string(&mut text).await;
        let secret = Secret::new(text);
        read.map_err(|error| fail(TokenFileCause::Read(error)))?;
        let token = secret.expose().trim();
        if token.is_empty() {
            return Err(fail(TokenFileCause::Empty));
        }
        if token.len() > limits::TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fail(TokenFileCause::NotAToken));
        }
        Ok(Secret::new(token.to_owned()))
    }
}

/// A token file does not give a token.
#[derive(Debug, thiserror::Error)]
#[error("cannot read a token from {}", path.display())]
pub struct TokenFileError {
    path: PathBuf,
    #[source]
    cause: TokenFileCause,
}

impl TokenFileError {
    /// Why.
    pub fn cause(&self) -> &TokenFileCause {
        &self.cause
    }
}

/// Why a token file does not give a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileCause {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// It holds nothing.
    #[error("the file is empty")]
    Empty,
    /// It holds something else, or too much.
    #[error("the file holds no token")]
    NotAToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_curable_refusals_lead_to_registration_and_only_once() {
        use CredentialKind::{Registration, ServiceAccount};
        for code in RejectCode::ALL.iter().copied().chain([RejectCode::Unknown(999)]) {
            let curable = [RejectCode::NotRegistered, RejectCode::UnknownSigningKey, RejectCode::Unauthenticated];
            let expected = if curable.contains(&code) { Registration } else { ServiceAccount };
            assert_eq!(ServiceAccount.after_reject(code, true), expected, "{code:?}");
            assert_eq!(ServiceAccount.after_reject(code, false), ServiceAccount, "{code:?} without a token");
            assert_eq!(Registration.after_reject(code, true), ServiceAccount, "{code:?} after a registration");
        }
    }

    #[tokio::test]
    async fn a_token_is_trimmed_bounded_and_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::new(dir.path().join("token"));
        assert!(matches!(file.read().await.err().unwrap().cause(), TokenFileCause::Read(_)));
        for (text, token) in [("abc.def\n", Some("abc.def")), (" next ", Some("next")), ("\n", None), ("a b", None)] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(file.read().await.ok().map(|secret| secret.expose().to_owned()).as_deref(), token, "{text:?}");
        }
        std::fs::write(file.path(), "x".repeat(limits::TOKEN + 1)).unwrap();
        assert!(matches!(file.read().await.err().unwrap().cause(), TokenFileCause::NotAToken));
    }
}
