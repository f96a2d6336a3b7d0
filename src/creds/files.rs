//! The files of one account, and the token file (HP 1.16).
//!
//! Invariants: an id never leads out of the certs folder; a token file is one line without a newline, since the Go
//! clients use its content verbatim (HP 1.11).

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::atomic::{self, AtomicError, PRIVATE_MODE};
use crate::secret::Secret;

/// File name of the CA certificate.
pub const CA_CERT: &str = "caCert.pem";
/// File name of the CA key.
pub const CA_KEY: &str = "caKey.pem";
/// File name of the server certificate.
pub const HUB_CERT: &str = "hubCert.pem";
/// File name of the hub key: TLS server key and signer of tokens.
pub const HUB_KEY: &str = "hubKey.pem";

/// An id that cannot be part of a file name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "'{id}' cannot be the name of credential files: it is empty, begins with a dot, or has a slash or a NUL in it"
)]
pub struct BadId {
    /// The id, at most 64 characters of it.
    pub id: String,
}

/// Where the credentials of one account lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialPaths {
    /// `{id}.key`: private key, PKCS#8 PEM, 0400.
    pub key: PathBuf,
    /// `{id}.pub`: public key, 124 characters, 0444.
    pub public: PathBuf,
    /// `{id}.token`: JWT, 0400.
    pub token: PathBuf,
    /// `{id}Cert.pem`: client certificate, 0444.
    pub cert: PathBuf,
}

impl CredentialPaths {
    /// The paths of `id` in the folder `certs`. Touches no file.
    ///
    /// # Errors
    /// The id would lead out of the folder or hide the files.
    pub fn new(certs: &Path, id: &str) -> Result<Self, BadId> {
        if id.is_empty() || id.starts_with('.') || id.contains(['/', '\0']) {
            return Err(BadId {
                id: id.chars().take(64).collect(),
            });
        }
        Ok(CredentialPaths {
            key: certs.join(format!("{id}.key")),
            public: certs.join(format!("{id}.pub")),
            token: certs.join(format!("{id}.token")),
            cert: certs.join(format!("{id}Cert.pem")),
        })
    }
}

/// What went wrong with a token file.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// Nothing in it.
    #[error("{path} is empty; move it away to have a new token fetched")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The text of a NATS core (T44).
    #[error("{path} is of a NATS core; a NATS core and an MQTT core cannot share a certs folder")]
    Nats {
        /// The file.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] AtomicError),
}

impl TokenFileError {
    /// Whether the file is simply not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        match self {
            TokenFileError::File(error) => error.is_missing(),
            TokenFileError::Empty { .. } | TokenFileError::Nats { .. } => false,
        }
    }
}

/// Whether `text` is a NATS key: base32 of 56 (public) or 58 (seed) characters that begins with `first`.
pub(crate) fn is_nats_key(text: &str, first: &str) -> bool {
    text.starts_with(first)
        && (text.len() == 56 || text.len() == 58)
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
}

/// Writes a token file: mode 0400, no newline.
///
/// # Errors
/// The file and the step that failed; the old token is then still there.
pub fn write_token(path: &Path, token: &Secret) -> Result<(), AtomicError> {
    atomic::write(path, token.expose().trim().as_bytes(), PRIVATE_MODE)
}

/// Reads a token file; white space around the token (a newline from an editor) is dropped.
///
/// # Errors
/// Missing, unreadable, too big, empty, or of a NATS core.
pub fn read_token(path: &Path) -> Result<Secret, TokenFileError> {
    let text = atomic::read_text(path)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(TokenFileError::Empty {
            path: path.to_owned(),
        });
    }
    if is_nats_key(token, "U") {
        return Err(TokenFileError::Nats {
            path: path.to_owned(),
        });
    }
    Ok(Secret::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_written_without_and_read_with_a_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = CredentialPaths::new(folder.path(), "certs").unwrap().token;
        write_token(&path, &Secret::new("a.b.c\n".to_owned())).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"a.b.c");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o400
        );
        atomic::write(&path, b"a.b.c\n", PRIVATE_MODE).unwrap();
        assert_eq!(read_token(&path).unwrap().expose(), "a.b.c");
    }

    #[test]
    fn a_token_file_that_is_none_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.token");
        assert!(read_token(&path).unwrap_err().is_missing());
        atomic::write(&path, b" \n", PRIVATE_MODE).unwrap();
        assert!(matches!(
            read_token(&path),
            Err(TokenFileError::Empty { .. })
        ));
        atomic::write(
            &path,
            format!("U{}", "A".repeat(55)).as_bytes(),
            PRIVATE_MODE,
        )
        .unwrap();
        assert!(matches!(
            read_token(&path),
            Err(TokenFileError::Nats { .. })
        ));
    }

    #[test]
    fn no_id_leads_out_of_the_folder() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            ".hidden",
            "a\0b",
        ] {
            assert!(
                CredentialPaths::new(Path::new("/c"), bad).is_err(),
                "{bad:?}"
            );
        }
        let paths = CredentialPaths::new(Path::new("/c"), "zwavejs").unwrap();
        assert_eq!(paths.cert, Path::new("/c/zwavejsCert.pem"));
        assert_eq!(paths.public, Path::new("/c/zwavejs.pub"));
    }
}
