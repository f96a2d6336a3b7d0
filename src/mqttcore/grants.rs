//! What services have opened to roles, on disk: a core that is restarted still knows it (T31).
//!
//! Invariants:
//! - What the auth service opens of itself comes from the code, never from the file.
//! - A file that cannot be used is set aside and said, and never keeps the core from starting: services register again
//!   when they connect.
//! - Nothing is opened by what is no service, no capability or no role of this hub.

use std::path::Path;

use bus::golang;
use bus::wire::AUTH;
use creds::atomic::{self, AtomicError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clients::{Clients, SERVICE};
use crate::kept::{self, Keep, Kept};
use crate::roles::{Permissions, Role, is_login};

/// The file's name, beside `hub.passwd`, which is the original's and has no place for it.
pub const FILE: &str = "permissions.json";
/// The version that is written; a file of a later one is not understood.
const VERSION: u32 = 1;

/// What services have opened.
pub type Grants = Kept<Permissions>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    permissions: Vec<Grant>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    service: String,
    capability: String,
    roles: Vec<String>,
}

impl Keep for Permissions {
    const NAME: &'static str = "service permissions";
    const MAX_BYTES: u64 = 16 * 1024 * 1024;

    fn to_bytes(&self) -> Vec<u8> {
        let permissions = self
            .granted()
            .filter(|(service, ..)| *service != AUTH)
            .map(|(service, capability, roles)| Grant {
                service: service.to_owned(),
                capability: capability.to_owned(),
                roles: roles.iter().map(|role| role.word().to_owned()).collect(),
            })
            .collect();
        golang::encode(&Content {
            version: VERSION,
            permissions,
        })
    }

    /// Nobody else has business there: services say what they open, so nothing is taken from it.
    fn parse_foreign(_bytes: &[u8]) -> Result<Self, String> {
        Ok(Permissions::default())
    }

    fn merge(&mut self, _base: &Self, _theirs: &Self) -> Vec<String> {
        Vec::new()
    }
}

/// Why the file is of no use.
#[derive(Debug, Error)]
enum GrantsError {
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("it is of version {0}, of a later core")]
    Version(u32),
}

/// Reads the file in `folder`. Blocks.
///
/// `clients` are those of this hub: what somebody opened who is no service any more is forgotten.
pub fn open(folder: &Path, clients: &Clients) -> Grants {
    let path = folder.join(FILE);
    let why = match atomic::read(&path, Permissions::MAX_BYTES) {
        Ok(bytes) => match parse(&bytes, clients) {
            Ok(permissions) => return Grants::new(path, permissions, Some(&bytes)),
            Err(error) => error.to_string(),
        },
        Err(AtomicError::Missing { .. }) => return Grants::new(path, Permissions::default(), None),
        Err(error) => crate::chain(&error),
    };
    match kept::set_aside(&path) {
        Ok(aside) => tracing::error!(
            "{} is of no use: {why}; it is now {}, and services register their permissions again when they connect: restart those whose users are refused",
            path.display(),
            aside.display()
        ),
        Err(error) => tracing::error!(
            "{} is of no use: {why}; and it cannot be set aside: {error}",
            path.display()
        ),
    }
    Grants::new(path, Permissions::default(), None)
}

fn parse(bytes: &[u8], clients: &Clients) -> Result<Permissions, GrantsError> {
    // The version first: what a later core writes may look otherwise.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(GrantsError::Version(version));
    }
    let content: Content = serde_json::from_slice(bytes)?;
    let mut permissions = Permissions::default();
    for grant in content.permissions {
        let is_service = clients
            .get(&grant.service)
            .is_some_and(|entry| entry.profile.client_type == SERVICE);
        if grant.service == AUTH || !is_service || !is_login(&grant.capability) {
            continue;
        }
        let roles = Role::of_words(&grant.roles);
        permissions.set(&grant.service, &grant.capability, roles);
    }
    Ok(permissions)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bus::wire::ClientProfile;

    use super::*;

    fn clients() -> Clients {
        let mut clients = Clients::default();
        for (id, client_type) in [("state", SERVICE), (AUTH, SERVICE), ("joe", "user")] {
            clients.add(ClientProfile {
                client_id: id.to_owned(),
                client_type: client_type.to_owned(),
                ..ClientProfile::default()
            });
        }
        clients
    }

    fn text(permissions: &Permissions) -> String {
        String::from_utf8(permissions.to_bytes()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_is_doubled() {
        let mut permissions = Permissions::default();
        permissions.set("state", "store", [Role::Viewer, Role::Admin]);
        permissions.set("state", "nobody", []);
        let written = text(&permissions);
        assert_eq!(
            written,
            r#"{"version":1,"permissions":[{"service":"state","capability":"nobody","roles":[]},{"service":"state","capability":"store","roles":["viewer","admin"]}]}"#
        );
        let again = parse(written.as_bytes(), &clients()).unwrap();
        assert_eq!(again, permissions);
        assert_eq!(text(&again), written);
    }

    #[test]
    fn nothing_is_opened_by_those_who_may_not() {
        let file = r#"{"version":1,"permissions":[
            {"service":"auth","capability":"manageClients","roles":["viewer"]},
            {"service":"joe","capability":"store","roles":["viewer"]},
            {"service":"gone","capability":"store","roles":["viewer"]},
            {"service":"state","capability":"a/b","roles":["viewer"]},
            {"service":"state","capability":"store","roles":["","boss","viewer"]}]}"#;
        let mut only = Permissions::default();
        only.set("state", "store", [Role::Viewer]);
        assert_eq!(parse(file.as_bytes(), &clients()).unwrap(), only);
    }

    #[test]
    fn a_file_of_no_use_is_set_aside() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(FILE);
        let newer = r#"{"version":2,"permissions":{"state":[]}}"#;
        let whole = r#"{"version":1,"permissions":[]}"#;
        let mut useless = vec![newer, r#"{"version":1}"#, "", "null"];
        useless.extend((1..whole.len()).map(|end| &whole[..end]));
        for bad in useless {
            fs::write(&path, bad).unwrap();
            let grants = open(temp.path(), &clients());
            assert_eq!(*grants.now(), Permissions::default(), "{bad}");
            assert!(!path.exists(), "{bad}");
            let aside = temp.path().join("permissions.json.bad");
            assert_eq!(fs::read_to_string(aside).unwrap(), bad);
        }
    }
}
