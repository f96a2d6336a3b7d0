//! The table of clients and its file `hub.passwd`, in the original's format (HP 1.16): pure.
//!
//! Invariants: what the file holds beyond what is known here is kept; an entry's key is its `clientID`; a damaged text
//! is never half-read.

use std::collections::{BTreeMap, BTreeSet};

use bus::golang;
use bus::wire::{AUTH, ClientProfile, LAUNCHER};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::roles::Role;

/// The administrator's login (HP 1.20).
pub const ADMIN: &str = "admin";

/// The three kinds of clients, as the original writes them.
pub const DEVICE: &str = "device";
/// See [`DEVICE`].
pub const SERVICE: &str = "service";
/// See [`DEVICE`].
pub const USER: &str = "user";

/// Whether a login is one the hub itself needs, so that its rights are not to be changed from outside (T46).
#[must_use]
pub fn is_reserved(id: &str) -> bool {
    [AUTH, LAUNCHER, ADMIN].contains(&id)
}

/// One client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What may be shown of it.
    #[serde(flatten)]
    pub profile: ClientProfile,
    /// bcrypt; empty = it has no password.
    #[serde(rename = "PasswordHash", default)]
    pub password_hash: String,
    /// What another core wrote here.
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Entry {
    /// Its role.
    #[must_use]
    pub fn role(&self) -> Role {
        Role::from_word(&self.profile.role)
    }
}

/// All clients by login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    entries: BTreeMap<String, Entry>,
}

impl Clients {
    /// Reads the file's content. An empty file has no clients: the original makes one.
    ///
    /// # Errors
    /// It is not what the original writes; with line and column.
    pub fn parse(bytes: &[u8]) -> Result<Clients, serde_json::Error> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Clients::default());
        }
        let mut entries: BTreeMap<String, Entry> = serde_json::from_slice(bytes)?;
        for (id, entry) in &mut entries {
            id.clone_into(&mut entry.profile.client_id);
        }
        Ok(Clients { entries })
    }

    /// The file's content: one JSON object, ids in order, as Go writes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        golang::encode(&self.entries)
    }

    /// The client of that login.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Its entry, to be changed; the change is stamped with `now` (Unix ms).
    pub fn update(&mut self, id: &str, now: i64) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(id)?;
        entry.profile.updated_mse = now;
        Some(entry)
    }

    /// Adds a client, or replaces what is known of it; its password stays (HP 1.20).
    pub fn add(&mut self, profile: ClientProfile) {
        match self.entries.get_mut(&profile.client_id) {
            Some(known) => known.profile = profile,
            None => {
                let id = profile.client_id.clone();
                let entry = Entry {
                    profile,
                    password_hash: String::new(),
                    other: Map::new(),
                };
                self.entries.insert(id, entry);
            }
        }
    }

    /// Removes a client. Tells whether it was there.
    pub fn remove(&mut self, id: &str) -> bool {
        self.entries.remove(id).is_some()
    }

    /// Takes over what changed from `base` to `theirs`, entry by entry; gives the ids of those that changed here, each once,
    /// in order. The hub's own accounts stay, with their type, role and key (T46).
    pub fn take_over(&mut self, base: &Clients, theirs: &Clients) -> Vec<String> {
        let ids: BTreeSet<&String> = base.entries.keys().chain(theirs.entries.keys()).collect();
        let mut changed = Vec::new();
        for id in ids {
            let (before, after) = (base.get(id), theirs.get(id));
            if before == after {
                continue;
            }
            let new = match (after, self.get(id)) {
                (Some(after), Some(known)) if is_reserved(id) => Some(Entry {
                    profile: ClientProfile {
                        client_type: known.profile.client_type.clone(),
                        role: known.profile.role.clone(),
                        pub_key: known.profile.pub_key.clone(),
                        ..after.profile.clone()
                    },
                    ..after.clone()
                }),
                (None, known) if is_reserved(id) => known.cloned(),
                (after, _) => after.cloned(),
            };
            if new.as_ref() == self.get(id) {
                continue;
            }
            match new {
                Some(entry) => self.entries.insert(id.clone(), entry),
                None => self.entries.remove(id),
            };
            changed.push(id.clone());
        }
        changed
    }

    /// All profiles, by id.
    #[must_use]
    pub fn profiles(&self) -> Vec<ClientProfile> {
        self.entries
            .values()
            .map(|entry| entry.profile.clone())
            .collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HP 4.5 `hub.passwd-file-example`, as the original writes it.
    const EXAMPLE: &str = r#"{"admin":{"clientID":"admin","clientType":"user","displayName":"Administrator","pubKey":"<base64 spki>","updatedMSE":1698434809600,"tokenValidityDays":30,"role":"admin","PasswordHash":""},"user1":{"clientID":"user1","clientType":"user","displayName":"User 1","updatedMSE":1698434900000,"tokenValidityDays":30,"role":"viewer","PasswordHash":"$2a$10$<bcrypt>"}}"#;

    #[test]
    fn the_originals_file_is_read_and_written_byte_for_byte() {
        let clients = Clients::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(clients.count(), 2);
        let user = clients.get("user1").unwrap();
        assert_eq!(user.role(), Role::Viewer);
        assert_eq!(user.password_hash, "$2a$10$<bcrypt>");
        assert_eq!(user.profile.updated_mse, 1_698_434_900_000);
        let go = EXAMPLE.replace('<', "\\u003c").replace('>', "\\u003e");
        assert_eq!(String::from_utf8(clients.to_bytes()).unwrap(), go);
        assert_eq!(Clients::parse(go.as_bytes()).unwrap(), clients);
    }

    #[test]
    fn adding_again_replaces_all_but_the_password_and_what_is_not_known() {
        let text = r#"{"a":{"clientID":"a","clientType":"user","role":"admin","PasswordHash":"h","later":[1]}}"#;
        let mut clients = Clients::parse(text.as_bytes()).unwrap();
        clients.add(ClientProfile {
            client_id: "a".to_owned(),
            client_type: SERVICE.to_owned(),
            ..ClientProfile::default()
        });
        let written = String::from_utf8(clients.to_bytes()).unwrap();
        assert_eq!(
            written,
            r#"{"a":{"clientID":"a","clientType":"service","PasswordHash":"h","later":[1]}}"#
        );
        assert!(clients.remove("a"));
        assert!(!clients.remove("a"));
        assert_eq!(clients.to_bytes(), b"{}");
    }

    #[test]
    fn an_empty_file_is_no_client_and_a_damaged_one_is_an_error() {
        for empty in ["", " \n", "{}"] {
            assert_eq!(Clients::parse(empty.as_bytes()).unwrap().count(), 0);
        }
        for end in 1..EXAMPLE.len() {
            assert!(Clients::parse(&EXAMPLE.as_bytes()[..end]).is_err(), "{end}");
        }
        for bad in ["[]", "null", r#"{"a":1}"#, "\u{0}"] {
            assert!(Clients::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_is_the_id() {
        let clients = Clients::parse(br#"{"a":{"clientID":"admin","role":"admin"}}"#).unwrap();
        assert_eq!(clients.profiles()[0].client_id, "a");
    }
}
