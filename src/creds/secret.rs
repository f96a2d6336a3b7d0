//! Text that must not be seen.
//!
//! Invariant: a [`Secret`] shows itself only where [`Secret::expose`] is written, so every way out can be found.

use std::fmt;

/// A private key or a token. `Debug` prints `…`; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Secret(text)
    }

    /// The text itself: for a file or a login, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("abc".to_owned())), "…");
    }
}
