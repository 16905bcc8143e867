//! Passwords: what is accepted, how they are hashed, and how a guess is answered.
//!
//! argon2id with 32 MiB and three passes: about 120 ms on one core of a small server, three times OWASP's minimum. At
//! most [`PARALLEL`] hashes run at once and [`WAITING`] wait, so that a flood of sign-ins costs a bounded amount of memory
//! and never the runtime's workers. A guess for a user who does not exist costs a hash like any other.
//!
//! A password is hashed and compared in one [prepared] form, so that it is the same on every keyboard.

mod guessable;
mod policy;
mod prepared;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use cattle_api::{Secret, names};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use self::policy::{NewPassword, PasswordRejected, PasswordRules};
use self::prepared::{MAX_LENGTH, Prepared};

/// Hashes that run at the same time; each needs [`MEMORY_KIB`].
const PARALLEL: usize = 2;
/// Sign-ins that may wait for their turn; more are told to come back.
const WAITING: usize = 64;
/// How long a sign-in waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
const MEMORY_KIB: u32 = 32 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// Hashes and checks passwords. Clones share the limits.
#[derive(Clone)]
pub struct Passwords {
    params: Params,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    nobody: Arc<OnceLock<String>>,
}

/// The hash could not be computed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many sign-ins at once")]
pub struct Busy;

/// Whether a guess was right.
pub enum Verdict {
    /// It was not, or there is nothing to compare with.
    Wrong,
    /// It was.
    Right {
        /// A new hash to store in place of the old one, which was made with weaker parameters.
        rehash: Option<Secret>,
    },
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl Passwords {
    /// With the parameters above.
    #[must_use]
    pub fn new() -> Self {
        Self::with_cost(MEMORY_KIB, PASSES)
    }

    /// With the least that argon2 allows, for tests that are not about the cost.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn cheap() -> Self {
        Self::with_cost(Params::MIN_M_COST, Params::MIN_T_COST)
    }

    fn with_cost(memory_kib: u32, passes: u32) -> Self {
        let params = Params::new(memory_kib, passes, LANES, None).expect("constants within argon2's bounds");
        Self {
            params,
            running: Arc::new(Semaphore::new(PARALLEL)),
            waiting: Arc::new(Semaphore::new(PARALLEL + WAITING)),
            nobody: Arc::new(OnceLock::new()),
        }
    }

    /// What to seal as [`PASSWORD_HASH`](cattle_api::sealed::PASSWORD_HASH) beside the User: a PHC string. Cancel safe; a
    /// hash that has started runs to its end and is dropped.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn hash(&self, password: &NewPassword) -> Result<Secret, Busy> {
        let (password, params) = (password.prepared().clone(), self.params.clone());
        self.run(move || Secret::from(hash(&params, password.expose().expose()))).await
    }

    /// Compares a guess with what is stored; `None` is a user without a password, or no user at all, and takes as long.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn verify(&self, guess: &Secret, stored: Option<&Secret>) -> Result<Verdict, Busy> {
        let (guess, stored, params) = (guess.clone(), stored.cloned(), self.params.clone());
        let nobody = Arc::clone(&self.nobody);
        self.run(move || {
            let known = stored.as_ref().and_then(Secret::expose_str).and_then(|text| PasswordHash::new(text).ok());
            if let Some(known) = known {
                return judge(&params, &guess, &known);
            }
            let text = nobody.get_or_init(|| hash(&params, names::secret().expose()));
            if let Ok(nobody) = PasswordHash::new(text) {
                let _ = judge(&params, &guess, &nobody);
            }
            Verdict::Wrong
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let queued = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Busy)?;
        let turn = timeout(PATIENCE, Arc::clone(&self.running).acquire_owned()).await;
        let turn = turn.map_err(|_| Busy)?.map_err(|_| Busy)?;
        let permits: [OwnedSemaphorePermit; 2] = [queued, turn];
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permits);
            done
        });
        // It can only fail by a panic in argon2 or by the runtime's end.
        task.await.map_err(|_| Busy)
    }
}

/// Whether two texts are the same password.
pub(crate) fn is_same(one: &Secret, other: &Secret) -> bool {
    Prepared::new(one).expose().expose() == Prepared::new(other).expose().expose()
}

fn judge(params: &Params, guess: &Secret, known: &PasswordHash) -> Verdict {
    let prepared = Prepared::new(guess);
    let rehash = || Secret::from(hash(params, prepared.expose().expose()));
    if matches(params, prepared.expose(), known) {
        return Verdict::Right { rehash: (!is_current(params, known)).then(rehash) };
    }
    // A hash that is older than the preparation is of the password as it was typed. Whether a second comparison is made
    // depends on the guess alone.
    let as_typed = prepared.expose().expose() != guess.expose() && matches(params, guess, known);
    if as_typed { Verdict::Right { rehash: Some(rehash()) } } else { Verdict::Wrong }
}

/// A guess longer than any password that can be set is compared as what it is not: the cost stays the same.
fn matches(params: &Params, guess: &Secret, known: &PasswordHash) -> bool {
    let guess = guess.expose();
    let guess = if guess.len() > MAX_LENGTH { &guess[..0] } else { guess };
    argon2(params).verify_password(guess, known).is_ok()
}

fn is_current(params: &Params, known: &PasswordHash) -> bool {
    let same_costs = Params::try_from(known).is_ok_and(|old| {
        old.m_cost() >= params.m_cost() && old.t_cost() >= params.t_cost() && old.p_cost() >= params.p_cost()
    });
    same_costs && known.algorithm.as_str() == "argon2id"
}

fn hash(params: &Params, password: &[u8]) -> String {
    let hashed: Result<PasswordHash, _> = argon2(params).hash_password(password);
    hashed.expect("length and parameters are within argon2's bounds").to_string()
}

fn argon2(params: &Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    fn new(text: &str) -> Result<NewPassword, PasswordRejected> {
        PasswordRules::new(12, "").accept(&secret(text), "ann", "")
    }

    async fn is_right(passwords: &Passwords, guess: &str, stored: Option<&Secret>) -> bool {
        matches!(passwords.verify(&secret(guess), stored).await, Ok(Verdict::Right { .. }))
    }

    #[tokio::test]
    async fn a_password_verifies_and_others_do_not() {
        let passwords = Passwords::cheap();
        let stored = passwords.hash(&new("correct horse").ok().unwrap()).await.unwrap();
        assert!(is_right(&passwords, "correct horse", Some(&stored)).await);
        for wrong in ["", "correct hors", "Correct horse", "correct horse ", &"x".repeat(100_000)] {
            assert!(!is_right(&passwords, wrong, Some(&stored)).await);
        }
    }

    #[tokio::test]
    async fn nobody_has_a_password_and_a_damaged_hash_has_none() {
        let passwords = Passwords::cheap();
        assert!(!is_right(&passwords, "", None).await);
        for damaged in ["", "$argon2id$", "$2a$10$abcdefghijklmnopqrstuv", "plain text"] {
            assert!(!is_right(&passwords, damaged, Some(&secret(damaged))).await, "{damaged}");
        }
    }

    #[tokio::test]
    async fn a_guess_for_nobody_does_the_same_work() {
        let passwords = Passwords::cheap();
        passwords.verify(&secret("guess"), None).await.ok().unwrap();
        let nobody = PasswordHash::new(passwords.nobody.get().unwrap()).unwrap();
        let stored = passwords.hash(&new("correct horse").ok().unwrap()).await.unwrap();
        let known = PasswordHash::new(stored.expose_str().unwrap()).unwrap();
        assert_eq!(nobody.algorithm, known.algorithm);
        assert_eq!(nobody.version, known.version);
        assert_eq!(nobody.params, known.params);
        assert_eq!(nobody.hash.unwrap().len(), known.hash.unwrap().len());
    }

    #[tokio::test]
    async fn weaker_hashes_are_replaced_at_the_next_sign_in() {
        let weak = Passwords::cheap();
        let strong = Passwords::with_cost(2 * Params::MIN_M_COST, 2);
        let stored = weak.hash(&new("correct horse").ok().unwrap()).await.unwrap();
        let Ok(Verdict::Right { rehash: Some(better) }) = strong.verify(&secret("correct horse"), Some(&stored)).await
        else {
            panic!("a weaker hash must be replaced");
        };
        let again = strong.verify(&secret("correct horse"), Some(&better)).await;
        assert!(matches!(again, Ok(Verdict::Right { rehash: None })));
    }

    /// A Mac types `e` and an accent where other keyboards type `é`.
    #[tokio::test]
    async fn a_password_is_the_same_on_every_keyboard() {
        let passwords = Passwords::cheap();
        let (composed, decomposed) =
            ("caf\u{e9} cr\u{e8}me br\u{fb}l\u{e9}e", "cafe\u{301} cre\u{300}me\u{a0}bru\u{302}le\u{301}e");
        for (set, typed) in [(composed, decomposed), (decomposed, composed)] {
            let stored = passwords.hash(&new(set).ok().unwrap()).await.unwrap();
            let verdict = passwords.verify(&secret(typed), Some(&stored)).await;
            assert!(matches!(verdict, Ok(Verdict::Right { rehash: None })), "{set}");
        }
    }

    #[tokio::test]
    async fn a_hash_from_before_the_preparation_is_good_for_what_was_typed_and_is_replaced() {
        let passwords = Passwords::cheap();
        let typed = "cafe\u{301} cre\u{300}me";
        let old = Secret::from(hash(&passwords.params, typed.as_bytes()));
        let Ok(Verdict::Right { rehash: Some(better) }) = passwords.verify(&secret(typed), Some(&old)).await else {
            panic!("what was typed then is right");
        };
        assert!(is_right(&passwords, "caf\u{e9} cr\u{e8}me", Some(&better)).await);
        assert!(!is_right(&passwords, "cafe creme", Some(&old)).await);
    }

    #[tokio::test]
    async fn a_flood_is_told_to_come_back() {
        let passwords = Passwords::cheap();
        let _taken = Arc::clone(&passwords.waiting).acquire_many_owned(66).await.unwrap();
        assert!(matches!(passwords.verify(&secret("x"), None).await, Err(Busy)));
    }
}
