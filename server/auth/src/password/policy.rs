//! What may become a password.

use cattle_api::management::setting::known;
use cattle_api::{Secret, names};
use cattle_store::{Store, StoreError};
use url::Url;

use super::guessable::is_guessable;
use super::prepared::{self, MAX_LENGTH, Prepared};
use crate::settings;

/// Characters of a password that the server makes up: about 95 bits.
const GENERATED_LENGTH: usize = 20;

/// What a password must be like: NIST SP 800-63B, which asks for length and against what is guessed first, and for no
/// particular characters.
#[derive(Clone, Debug)]
pub struct PasswordRules {
    minimum: usize,
    /// Its host.
    server: String,
}

/// A password that may be set: it has passed the rules, and is in the form that is hashed.
pub struct NewPassword(Prepared);

/// Why a password may not be set. The texts are for the person who chose it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRejected {
    /// Fewer characters than the setting `password-min-length`.
    #[error("the password must have at least {minimum} characters")]
    TooShort {
        /// The setting.
        minimum: usize,
    },
    /// More than 1024 bytes.
    #[error("the password must have at most {MAX_LENGTH} bytes")]
    TooLong,
    /// Not UTF-8, or with control characters, which no keyboard types.
    #[error("the password must be text without control characters")]
    NotText,
    /// Among the first million guesses.
    #[error(
        "the password is too easy to guess: common passwords, sequences, repetitions, and the names of the user and the \
         server are tried first; take several words that have nothing to do with each other"
    )]
    TooEasy,
    /// The same as before.
    #[error("the new password must differ from the old one")]
    Unchanged,
}

impl PasswordRules {
    /// `minimum` is in characters; the words of the server's URL count for nothing in a password.
    #[must_use]
    pub fn new(minimum: usize, server: &str) -> Self {
        let host = Url::parse(server).ok().and_then(|url| url.host_str().map(str::to_owned));
        Self { minimum, server: host.unwrap_or_default() }
    }

    /// As the settings `password-min-length` and `server-url` have it.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let minimum = settings::number(store, known::PASSWORD_MIN_LENGTH).await?;
        let server = settings::text(store, known::SERVER_URL).await?;
        Ok(Self::new(usize::try_from(minimum).unwrap_or(usize::MAX), &server))
    }

    /// Checks a password that somebody has chosen for the user of these names.
    ///
    /// # Errors
    /// What the person should do otherwise.
    pub fn accept(
        &self,
        password: &Secret,
        username: &str,
        display_name: &str,
    ) -> Result<NewPassword, PasswordRejected> {
        if password.len() > MAX_LENGTH {
            return Err(PasswordRejected::TooLong);
        }
        let prepared = Prepared::new(password);
        if prepared.expose().len() > MAX_LENGTH {
            return Err(PasswordRejected::TooLong);
        }
        let text = prepared.expose().expose_str().ok_or(PasswordRejected::NotText)?;
        if text.chars().any(prepared::is_forbidden) {
            return Err(PasswordRejected::NotText);
        }
        if text.chars().count() < self.minimum {
            return Err(PasswordRejected::TooShort { minimum: self.minimum });
        }
        if is_guessable(text, [username, display_name, &self.server]) {
            return Err(PasswordRejected::TooEasy);
        }
        Ok(NewPassword(prepared))
    }
}

impl NewPassword {
    /// A random one.
    #[must_use]
    pub fn generate() -> Self {
        let secret = names::secret();
        Self(Prepared::new(&Secret::new(secret.expose()[..GENERATED_LENGTH].to_vec())))
    }

    /// The password, to show it to the one person whom it is for.
    #[must_use]
    pub fn expose(&self) -> &Secret {
        self.0.expose()
    }

    pub(super) fn prepared(&self) -> &Prepared {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Result<NewPassword, PasswordRejected> {
        let rules = PasswordRules::new(12, "https://herd.acme-farms.example:8443");
        rules.accept(&Secret::from(text.to_owned()), "annabelle-smith", "Ann B. Smith-Carpenter")
    }

    #[test]
    fn the_policy_names_what_is_wrong() {
        let wrong = |text: &str| accept(text).err();
        assert_eq!(wrong("short"), Some(PasswordRejected::TooShort { minimum: 12 }));
        assert_eq!(wrong("äöüäöüäöüäö"), Some(PasswordRejected::TooShort { minimum: 12 }), "characters, not bytes");
        assert_eq!(
            wrong("a\u{308}o\u{308}u\u{308}a\u{308}o\u{308}u\u{308}x"),
            Some(PasswordRejected::TooShort { minimum: 12 })
        );
        assert_eq!(wrong("twelve\0chars"), Some(PasswordRejected::NotText));
        assert_eq!(wrong("twelve\u{2028}characters"), Some(PasswordRejected::NotText));
        assert_eq!(wrong(&"ab".repeat(513)), Some(PasswordRejected::TooLong));
        // U+FB2C has two bytes more in its normal form.
        assert_eq!(wrong(&"\u{fb2c}".repeat(341)), Some(PasswordRejected::TooLong));
        let rules = PasswordRules::new(12, "");
        assert_eq!(rules.accept(&Secret::new(vec![0xff; 20]), "ann", "").err(), Some(PasswordRejected::NotText));
        for fine in ["correct horse", "annabelle keeps 3 goats", "пароль из трёх слов"] {
            assert_eq!(wrong(fine), None, "{fine}");
        }
    }

    #[test]
    fn what_is_guessed_first_is_refused() {
        for easy in ["Password123!", "Annabelle-Smith", "SmithCarpenter", "AcmeFarms2026", "p\u{61}\u{a0}ssw0rd1234"] {
            assert_eq!(accept(easy).err(), Some(PasswordRejected::TooEasy), "{easy}");
        }
    }

    #[test]
    fn generated_passwords_pass_the_policy_and_differ() {
        let (one, two) = (NewPassword::generate(), NewPassword::generate());
        assert!(PasswordRules::new(12, "").accept(one.expose(), "admin", "Default Admin").is_ok());
        assert!(one.expose().expose() != two.expose().expose());
    }
}
