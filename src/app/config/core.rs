//! What the configuration says of the core: `corebin`, a name or a map (spec §4, §7).
//!
//! Invariant: who logs in by certificate does so at an address with TLS.

use crate::app::paths::{CoreNotFound, Folders};
use bus::client::Endpoint;
use std::path::PathBuf;
use supervision::limits::Limits;

/// The core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreConfig {
    /// `bin`: a file name, or in the map form also a whole path.
    pub bin: String,
    /// Where the file is looked for.
    pub search: CoreSearch,
    /// `args`.
    pub args: Vec<String>,
    /// `url`: where its bus is; none = at its sockets, as the embedded core has them.
    pub url: Option<Endpoint>,
    /// `auth`.
    pub auth: CoreAuth,
    /// `ready`.
    pub ready: CoreReady,
    /// Block `limits`, merged over that of all; none = as all.
    pub limits: Option<Limits>,
}

/// Where the core's file is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreSearch {
    /// In the bin folders: it is a core of the Hub.
    BinFolders,
    /// There, then in PATH and where the system has its daemons: it may be any broker.
    Everywhere,
}

/// How one logs in to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CoreAuth {
    /// By tokens of its auth service.
    #[default]
    Token,
    /// By client certificates: it has no auth service, and the launcher makes the certificates, its own for the server
    /// included.
    Certificate,
}

/// When the core is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CoreReady {
    /// When the launcher has logged in.
    #[default]
    Bus,
    /// When it says so (`READY=1`).
    Notify,
}

impl CoreConfig {
    /// The core of that name in the bin folder, by tokens and at its sockets.
    #[must_use]
    pub fn named(bin: &str) -> Self {
        CoreConfig {
            bin: bin.to_owned(),
            search: CoreSearch::BinFolders,
            args: Vec::new(),
            url: None,
            auth: CoreAuth::Token,
            ready: CoreReady::Bus,
            limits: None,
        }
    }

    /// Its file: in the folders of the hub's programs and, in the map form, in `PATH` and where servers are.
    ///
    /// # Errors
    /// It is nowhere.
    pub fn find(&self, folders: &Folders) -> Result<PathBuf, CoreNotFound> {
        match self.search {
            CoreSearch::BinFolders => folders.find_core(&self.bin),
            CoreSearch::Everywhere => {
                folders.find_any_core(&self.bin, std::env::var_os("PATH").as_deref())
            }
        }
    }

    /// Where it listens, when it knows logins by their certificates only.
    #[must_use]
    pub fn plain_url(&self) -> Option<&Endpoint> {
        match self.auth {
            CoreAuth::Certificate => self.url.as_ref(),
            CoreAuth::Token => None,
        }
    }

    /// The file's name, by which the core is called in lists.
    #[must_use]
    pub fn name(&self) -> &str {
        self.bin.rsplit('/').next().unwrap_or_default()
    }
}
