//! Why a hub has no usable folders, or no core in them.
//!
//! Invariant: each text names the path and the way out.

use super::Folders;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why there are no usable folders.
#[derive(Debug, Error)]
pub enum PathError {
    /// The kernel does not tell.
    #[error("cannot find the own executable through /proc/self/exe; is /proc mounted?")]
    OwnExecutable {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was removed, or may not be read.
    #[error("cannot find the current folder; change into one that exists")]
    CurrentFolder {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `~` without a user's folder.
    #[error("cannot expand '~' in {path:?}: HOME is not set; set it or write the whole path")]
    NoUserHome {
        /// The path with the `~`.
        path: PathBuf,
    },
    /// `~name`.
    #[error(
        "cannot expand {path:?}: only '~' alone or before a '/' is known; write the whole path"
    )]
    OtherUsersHome {
        /// The path.
        path: PathBuf,
    },
    /// A client id that cannot be a login or part of a topic.
    #[error(
        "the client id {id:?} cannot be used: {why}; choose one of 1 to 64 of A-Z a-z 0-9 _ and - with --clientID"
    )]
    ClientId {
        /// The id.
        id: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A home that belongs to others (HP 1.2).
    #[error(
        "refusing {home:?} as the hub's home: folders like bin and certs would be made right in it; install the hub into a folder of its own, such as {example:?}, or give one with --home"
    )]
    HomeRefused {
        /// The home.
        home: PathBuf,
        /// A better one.
        example: PathBuf,
    },
    /// A folder could not be made.
    #[error("cannot make the folder {path:?}; make it by hand, owned by the user who runs the hub")]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else has its name.
    #[error("{path:?} is needed as a folder, but is something else; move it away")]
    NotAFolder {
        /// Which.
        path: PathBuf,
    },
    /// The folder of the configuration is a file.
    #[error(
        "the configuration folder {path:?} is no folder; --config and LAUNCHER_CONFIG name a folder, a file is named by --configFile"
    )]
    ConfigNotAFolder {
        /// Which.
        path: PathBuf,
    },
    /// Sockets cannot be made there.
    #[error(
        "the sockets of the hub cannot be in {run:?}: its path has {length} bytes, and at most {most} leave room for their names; move the hub to a folder with a shorter path"
    )]
    TooLong {
        /// The folder of the sockets.
        run: PathBuf,
        /// Of its path, in bytes.
        length: usize,
        /// How many it may have.
        most: usize,
    },
    /// The private folder is another's.
    #[error(
        "{path:?} belongs to user {owner}, but must belong to the launcher's user; give it to that user or remove it"
    )]
    NotOurs {
        /// Which.
        path: PathBuf,
        /// Numeric user id.
        owner: u32,
    },
}

/// The core is configured, but there is no such file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("findCore. core in config not found. Path={}", path.display())]
pub struct CoreNotFound {
    /// Where it should be.
    pub path: PathBuf,
}

impl CoreNotFound {
    /// What to do.
    #[must_use]
    pub fn way_out(&self, folders: &Folders) -> String {
        format!(
            "put the program there, or correct or remove corebin in {}",
            folders.config_file.display()
        )
    }
}
