//! Passwords: what is accepted, how they are hashed, and how a guess is answered.
//!
//! argon2id with 32 MiB and three passes: about 120 ms on one core of a small server, three times OWASP's minimum. At
//! most [`PARALLEL`] hashes run at once and [`WAITING`] wait, so that a flood of sign-ins costs a bounded amount of memory
//! and never the runtime's workers. A guess for a user who does not exist costs a hash like any other.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use cattle_api::{Secret, names};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Hashes that run at the same time; each needs [`MEMORY_KIB`].
const PARALLEL: usize = 2;
/// Sign-ins that may wait for their turn; more are told to come back.
const WAITING: usize = 64;
/// How long a sign-in waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
const MEMORY_KIB: u32 = 32 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// The longest password in bytes: hashing must not become a way to send us megabytes.
const MAX_LENGTH: usize = 1024;
/// Characters of a password that the server makes up: about 95 bits.
const GENERATED_LENGTH: usize = 20;

/// Hashes and checks passwords. Clones share the limits.
#[derive(Clone)]
pub struct Passwords {
    params: Params,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    nobody: Arc<OnceLock<String>>,
}

/// A password that may be set: it has passed the policy.
pub struct NewPassword(Secret);

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
    /// The user's own name, or one character over and over.
    #[error("the password is too easy to guess")]
    TooEasy,
    /// The same as before.
    #[error("the new password must differ from the old one")]
    Unchanged,
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

impl NewPassword {
    /// Checks the policy. `username` is the person's sign-in name, `minimum` the setting `password-min-length`.
    ///
    /// # Errors
    /// What the person should do otherwise.
    pub fn new(password: Secret, username: &str, minimum: usize) -> Result<Self, PasswordRejected> {
        if password.len() > MAX_LENGTH {
            return Err(PasswordRejected::TooLong);
        }
        let text = password.expose_str().ok_or(PasswordRejected::NotText)?;
        if text.chars().any(char::is_control) {
            return Err(PasswordRejected::NotText);
        }
        if text.chars().count() < minimum {
            return Err(PasswordRejected::TooShort { minimum });
        }
        let first = text.chars().next();
        let monotonous = text.chars().all(|character| Some(character) == first);
        if monotonous || text.to_lowercase() == username.to_lowercase() {
            return Err(PasswordRejected::TooEasy);
        }
        Ok(Self(password))
    }

    /// A random one.
    #[must_use]
    pub fn generate() -> Self {
        let secret = names::secret();
        Self(Secret::new(secret.expose()[..GENERATED_LENGTH].to_vec()))
    }

    /// The password, to show it to the one person whom it is for.
    #[must_use]
    pub fn expose(&self) -> &Secret {
        &self.0
    }
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
        let (password, params) = (password.0.clone(), self.params.clone());
        self.run(move || Secret::from(hash(&params, password.expose()))).await
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

fn judge(params: &Params, guess: &Secret, known: &PasswordHash) -> Verdict {
    // A guess longer than any password that can be set is compared as what it is not: the cost stays the same.
    let guess = guess.expose();
    let guess = if guess.len() > MAX_LENGTH { &guess[..0] } else { guess };
    if argon2(params).verify_password(guess, known).is_err() {
        return Verdict::Wrong;
    }
    let rehash = !is_current(params, known);
    Verdict::Right { rehash: rehash.then(|| Secret::from(hash(params, guess))) }
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
        NewPassword::new(secret(text), "ann", 12)
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

    #[tokio::test]
    async fn a_flood_is_told_to_come_back() {
        let passwords = Passwords::cheap();
        let _taken = Arc::clone(&passwords.waiting).acquire_many_owned(66).await.unwrap();
        assert!(matches!(passwords.verify(&secret("x"), None).await, Err(Busy)));
    }

    #[test]
    fn the_policy_names_what_is_wrong() {
        let wrong = |text: &str| new(text).err();
        assert_eq!(wrong("short"), Some(PasswordRejected::TooShort { minimum: 12 }));
        assert_eq!(wrong("äöüäöüäöüäö"), Some(PasswordRejected::TooShort { minimum: 12 }), "characters, not bytes");
        assert_eq!(wrong("aaaaaaaaaaaaaaaa"), Some(PasswordRejected::TooEasy));
        assert_eq!(wrong("twelve\0chars"), Some(PasswordRejected::NotText));
        assert_eq!(wrong(&"ab".repeat(513)), Some(PasswordRejected::TooLong));
        let bytes = NewPassword::new(Secret::new(vec![0xff; 20]), "ann", 12);
        assert_eq!(bytes.err(), Some(PasswordRejected::NotText));
        let own_name = NewPassword::new(secret("Annabelle-Smith"), "annabelle-smith", 12);
        assert_eq!(own_name.err(), Some(PasswordRejected::TooEasy));
        assert_eq!(wrong("correct horse"), None);
    }

    #[test]
    fn generated_passwords_pass_the_policy_and_differ() {
        let (one, two) = (NewPassword::generate(), NewPassword::generate());
        assert!(NewPassword::new(one.0.clone(), "admin", 12).is_ok());
        assert!(one.0.expose() != two.0.expose());
    }
}
