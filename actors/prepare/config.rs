//! What the preparer is told of the hub.
//!
//! Invariant: plain data, taken apart where it is used.

use super::authority::PlainCore;
use super::certificate::ClientCertificates;
use super::leftovers::Stuck;
use super::own::OwnLogin;
use std::path::PathBuf;

/// What the preparer needs to know of the hub.
#[derive(Debug, Clone)]
pub struct PrepareConfig {
    /// The plugins folder.
    pub plugins: PathBuf,
    /// Where the core's executable should be, when there is to be one.
    pub core: Option<PathBuf>,
    /// The home; relative paths of plans start there.
    pub home: PathBuf,
    /// Whether plugins get credentials (`createPluginCred`), and how.
    pub credentials: Credentials,
    /// What is needed of a core of ours that has no auth service; none = it has one, or is not ours.
    pub plain_core: Option<PlainCore>,
    /// Our own login.
    pub own: OwnLogin,
    /// The folders in which starts and plugins write: want of room there may be why they fail.
    pub written: Vec<PathBuf>,
    /// What an earlier launcher left and could not be ended.
    pub stuck: Vec<Stuck>,
}

/// Whether plugins get credentials.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// They are there, or not needed; nothing is looked at.
    AreThere,
    /// They are made in this folder.
    Made {
        /// The certs folder.
        certs: PathBuf,
        /// From which share of its life on a token is renewed; 0 to 1.
        renew_at: f64,
        /// Whether the core gives tokens; otherwise it knows plugins by their certificates.
        tokens: bool,
        /// How client certificates are made beside; none = not.
        certificates: Option<ClientCertificates>,
    },
}
