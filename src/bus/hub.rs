//! Where a hub is found from its folders, and by what a login there is proved (spec §13, HP 1.11, 1.16).
//!
//! Invariant: files are read at each attempt, so that a core that was started anew is found with what it wrote.

use crate::client::{CredentialSource, Credentials, Endpoint, EndpointSource, Token};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The core's socket in the run folder.
pub const SOCKET: &str = "mqttcore.sock";
/// The file in the run folder with the core's URL while it runs.
pub const URL_FILE: &str = "mqttcore.url";
/// The abstract socket of the original's core and of ours (HP 1.12).
pub const ABSTRACT_NAME: &str = "/MqttInMemUDSProd";
/// The certificate of the hub's CA in the certs folder.
pub const CA_FILE: &str = "caCert.pem";

/// Where a hub may be found, in order: the core's socket in `run`, the abstract socket, then `server` or, without
/// one, the URL the core left in `run`.
#[must_use]
pub fn endpoints(run: &Path, server: Option<Endpoint>) -> EndpointSource {
    let run = run.to_owned();
    Arc::new(move || {
        let mut places = vec![
            Endpoint::Unix(run.join(SOCKET)),
            Endpoint::Abstract(ABSTRACT_NAME.to_owned()),
        ];
        places.extend(server.clone().or_else(|| left_url(&run)));
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

fn left_url(run: &Path) -> Option<Endpoint> {
    let text = std::fs::read_to_string(run.join(URL_FILE)).ok()?;
    text.trim().parse().ok()
}

/// The credentials of `login` from the certs folder: its token, the CA's certificate if there, and the folder's owner
/// as the user whose sockets are trusted.
#[must_use]
pub fn credentials(certs: &Path, login: &str) -> CredentialSource {
    let certs = certs.to_owned();
    let token_file = certs.join(format!("{login}.token"));
    Arc::new(move || {
        let cannot = |path: &Path, error: &std::io::Error| {
            format!("cannot read {}: {}", path.display(), cause(error))
        };
        let owner_uid = std::fs::metadata(&certs)
            .map_err(|error| cannot(&certs, &error))?
            .uid();
        let token =
            std::fs::read_to_string(&token_file).map_err(|error| cannot(&token_file, &error))?;
        if token.trim().is_empty() {
            return Err(format!("{} is empty", token_file.display()));
        }
        let ca_file = certs.join(CA_FILE);
        let ca_pem = match std::fs::read(&ca_file) {
            Ok(pem) => Some(pem),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(cannot(&ca_file, &error)),
        };
        Ok(Credentials {
            token: Token::new(&token),
            ca_pem,
            owner_uid,
        })
    })
}

/// What the system says, without the error's number.
fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text.get(..end).unwrap_or_default().to_lowercase(),
        None => text,
    }
}
