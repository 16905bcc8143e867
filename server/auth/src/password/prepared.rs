//! One form for one password, however a keyboard, a system or a password manager writes its characters.
//!
//! The profile OpaqueString of RFC 8265: every space is the ASCII one, the text is in Unicode's normal form C, and case
//! stays. What the profile forbids on top (controls, separators of lines) is refused where a password is set. Characters
//! that Unicode has not assigned yet are let through: a table of them would refuse tomorrow's passwords.

use cattle_api::Secret;
use unicode_normalization::UnicodeNormalization as _;

/// The longest password in bytes: hashing must not become a way to send us megabytes.
pub(super) const MAX_LENGTH: usize = 1024;
/// The longest guess that is looked at: another form of the longest password has at most three times its bytes.
const MAX_GUESS: usize = 3 * MAX_LENGTH;

/// A password in the form that is hashed and compared.
#[derive(Clone)]
pub(super) struct Prepared(Secret);

impl Prepared {
    /// What is not text, and what is longer than any password can be, stays what it is.
    pub(super) fn new(password: &Secret) -> Self {
        let Some(text) = password.expose_str().filter(|text| text.len() <= MAX_GUESS) else {
            return Self(password.clone());
        };
        // Room for the longest result: a text that grows leaves copies of itself behind.
        let mut prepared = String::with_capacity(3 * text.len());
        prepared.extend(text.chars().map(|character| if is_space(character) { ' ' } else { character }).nfc());
        Self(Secret::from(prepared))
    }

    pub(super) fn expose(&self) -> &Secret {
        &self.0
    }
}

/// Controls, and what ends lines and paragraphs.
pub(super) fn is_forbidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Unicode's space separators.
fn is_space(character: char) -> bool {
    character.is_whitespace() && !is_forbidden(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> String {
        Prepared::new(&Secret::from(text.to_owned())).expose().expose_str().unwrap().to_owned()
    }

    /// The examples of RFC 8265, section 4.3, and the two mappings.
    #[test]
    fn one_password_has_one_form() {
        assert_eq!(prepared("correct horse battery staple"), "correct horse battery staple");
        assert_eq!(prepared("Correct Horse Battery Staple"), "Correct Horse Battery Staple", "case stays");
        assert_eq!(prepared("πßå"), "πßå");
        assert_eq!(prepared("Jack of ♦s"), "Jack of ♦s");
        assert_eq!(prepared("foo\u{1680}bar"), "foo bar");
        assert_eq!(prepared("a\u{a0}b\u{3000}c\u{2003}d"), "a b c d");
        assert_eq!(prepared("U\u{308}bung e\u{301}te\u{301}"), "Übung été");
        assert_eq!(prepared("\u{212b}"), "\u{c5}");
        assert_eq!(prepared("ﬁ²Ⅳ"), "ﬁ²Ⅳ", "no compatibility mappings: they would make different passwords one");
        assert_eq!(prepared(" two  spaces "), " two  spaces ");
    }

    #[test]
    fn bytes_that_are_no_text_stay_and_preparing_twice_changes_nothing() {
        let bytes = Secret::new(vec![0xff, 0xfe]);
        assert_eq!(Prepared::new(&bytes).expose().expose(), [0xff, 0xfe]);
        let once = prepared("e\u{301}\u{a0}x");
        assert_eq!(prepared(&once), once);
    }
}
