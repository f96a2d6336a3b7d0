//! Where a hub is found from its folders, and by what a login there is proved (spec §13, HP 1.11, 1.16).
//!
//! Invariant: files are read at each attempt, so that a core that was started anew is found with what it wrote.

use crate::client::{
    ClientCertificate, CredentialSource, Credentials, Endpoint, EndpointSource, Proof, Token,
};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The core's socket in the run folder.
pub const SOCKET: &str = "mqttcore.sock";
/// The file in the run folder with the core's URL while it runs.
pub const URL_FILE: &str = "mqttcore.url";
/// The file in the run folder with the URL by which the launcher of this home reaches the bus, when the configuration or
/// the command line names it: then the hub is there and nowhere else.
pub const BUS_URL_FILE: &str = "core.url";
/// The abstract socket of the original's core and of ours (HP 1.12).
pub const ABSTRACT_NAME: &str = "/MqttInMemUDSProd";
/// The certificate of the hub's CA in the certs folder.
pub const CA_FILE: &str = "caCert.pem";

/// Where a hub may be found: only where the launcher says that it is ([`BUS_URL_FILE`]); else, in order, the core's
/// socket in `run`, the abstract socket, then `server` or, without one, the URL the core left in `run`.
#[must_use]
pub fn endpoints(run: &Path, server: Option<Endpoint>) -> EndpointSource {
    let run = run.to_owned();
    Arc::new(move || {
        if let Some(place) = url_in(&run.join(BUS_URL_FILE)) {
            return vec![place];
        }
        let mut places = vec![
            Endpoint::Unix(run.join(SOCKET)),
            Endpoint::Abstract(ABSTRACT_NAME.to_owned()),
        ];
        places.extend(server.clone().or_else(|| url_in(&run.join(URL_FILE))));
        places
    })
}

/// A folder's path without `.` and `..`, by the text alone: a link that is followed by `..` is the operator's own doing.
/// All programs of a hub must find the same folders.
#[must_use]
pub fn tidied(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(component),
        }
    }
    out
}

/// Only `server`.
#[must_use]
pub fn only(server: Endpoint) -> EndpointSource {
    Arc::new(move || vec![server.clone()])
}

fn url_in(file: &Path) -> Option<Endpoint> {
    let text = std::fs::read_to_string(file).ok()?;
    text.trim().parse().ok()
}

/// The credentials of `login` from the certs folder: its token, its certificate, or both, the CA's certificate if there,
/// and the folder's owner as the user whose sockets are trusted.
#[must_use]
pub fn credentials(certs: &Path, login: &str) -> CredentialSource {
    source(certs, login, |certs, login| {
        let certificate = certificate(certs, login);
        match (token(certs, login), certificate) {
            (Ok(token), Ok(certificate)) => Ok(vec![token, certificate]),
            (Ok(token), Err(_)) => Ok(vec![token]),
            (Err(_), Ok(certificate)) => Ok(vec![certificate]),
            (Err(error), Err(_)) => Err(error),
        }
    })
}

/// As [`credentials`], with the certificate alone: where tokens are none of the hub's, they are not shown to it.
#[must_use]
pub fn certificate_only(certs: &Path, login: &str) -> CredentialSource {
    source(certs, login, |certs, login| {
        Ok(vec![certificate(certs, login)?])
    })
}

fn source(
    certs: &Path,
    login: &str,
    proofs: impl Fn(&Path, &str) -> Result<Vec<Proof>, String> + Send + Sync + 'static,
) -> CredentialSource {
    let (certs, login) = (certs.to_owned(), login.to_owned());
    Arc::new(move || {
        let owner_uid = std::fs::metadata(&certs)
            .map_err(|error| cannot(&certs, &error))?
            .uid();
        let proofs = proofs(&certs, &login)?;
        let ca_file = certs.join(CA_FILE);
        let ca_pem = match std::fs::read(&ca_file) {
            Ok(pem) => Some(pem),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(cannot(&ca_file, &error)),
        };
        Ok(Credentials {
            proofs,
            ca_pem,
            ca_file,
            owner_uid,
        })
    })
}

fn token(certs: &Path, login: &str) -> Result<Proof, String> {
    let file = certs.join(format!("{login}.token"));
    let token = std::fs::read_to_string(&file).map_err(|error| cannot(&file, &error))?;
    if token.trim().is_empty() {
        return Err(format!("{} is empty", file.display()));
    }
    Ok(Proof::Token(Token::new(&token)))
}

fn certificate(certs: &Path, login: &str) -> Result<Proof, String> {
    let file = certs.join(format!("{login}Cert.pem"));
    let key_file = certs.join(format!("{login}.key"));
    let pem = std::fs::read(&file).map_err(|error| cannot(&file, &error))?;
    let key = std::fs::read(&key_file).map_err(|error| cannot(&key_file, &error))?;
    Ok(Proof::Certificate(ClientCertificate::new(file, pem, key)))
}

fn cannot(path: &Path, error: &std::io::Error) -> String {
    format!("cannot read {}: {}", path.display(), cause(error))
}

/// What the system says, without the error's number.
fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text.get(..end).unwrap_or_default().to_lowercase(),
        None => text,
    }
}
