//! Passwords: bcrypt as the cores of the original use it (HP 1.16).
//!
//! Invariants: at most [`AT_ONCE`] are worked on, on blocking threads; an unknown login takes as long as a wrong
//! password, so that logins cannot be guessed by time.

use std::sync::Arc;

use bcrypt::Version;
use tokio::sync::Semaphore;

use super::AuthError;

/// The original's cost.
const COST: u32 = 10;
/// The fewest bytes of a password (HP 1.20).
const SHORTEST: usize = 5;
/// bcrypt ignores what follows.
const LONGEST: usize = 72;
/// How many are hashed or compared at a time.
const AT_ONCE: usize = 2;
/// A hash of nothing anybody has, of the same cost.
const DECOY: &str = "$2a$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// Works on passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    slots: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords {
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Passwords {
    /// The hash of a new password.
    ///
    /// # Errors
    /// It is too short or too long.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let length = password.len();
        if length < SHORTEST {
            return Err(AuthError::ShortPassword { length });
        }
        if length > LONGEST {
            return Err(AuthError::LongPassword { length });
        }
        let password = password.to_owned();
        self.run(move || {
            bcrypt::hash_with_result(password, COST)
                .map(|parts| parts.format_for_version(Version::TwoA))
        })
        .await
        .ok_or(AuthError::Hashing)
    }

    /// Whether `password` is that of `hash`; without a hash it never is.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn fits(&self, password: &[u8], hash: Option<&str>) -> bool {
        // The original never looks at the rest; a library may refuse it.
        let password = password.get(..LONGEST).unwrap_or(password).to_vec();
        let known = hash.is_some_and(|hash| !hash.is_empty());
        let hash = hash.filter(|_| known).unwrap_or(DECOY).to_owned();
        let fits = self.run(move || bcrypt::verify(password, &hash)).await;
        known && fits.unwrap_or(false)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, bcrypt::BcryptError> + Send + 'static,
    ) -> Option<T> {
        let _slot = self.slots.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords_fit_their_hash_only() {
        let passwords = Passwords::default();
        let hash = passwords.hash("secret").await.unwrap();
        assert!(hash.starts_with("$2a$10$"), "{hash}");
        assert!(passwords.fits(b"secret", Some(&hash)).await);
        assert!(!passwords.fits(b"Secret", Some(&hash)).await);
        assert!(!passwords.fits(b"", Some("")).await);
        assert!(!passwords.fits(b"secret", None).await);
        assert!(!passwords.fits(b"secret", Some("$argon2id$v=19$x")).await);
        // The decoy is a valid hash: comparing with it takes its time.
        assert!(bcrypt::verify("secret", DECOY).is_ok_and(|fits| !fits));
    }

    #[tokio::test]
    async fn lengths_have_the_originals_text() {
        let passwords = Passwords::default();
        let short = passwords.hash("1234").await.unwrap_err();
        assert_eq!(short.to_string(), "password too short (4 chars)");
        assert!(passwords.hash(&"x".repeat(73)).await.is_err());
    }
}
