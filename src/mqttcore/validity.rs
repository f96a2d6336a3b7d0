//! How long tokens are good (HP 1.17).
//!
//! Invariant: the lives of the configuration hold for each type of client, and unknown types are users (T34).

use crate::clients::{DEVICE, SERVICE};

/// For how many days tokens are good where the profile does not say (T34).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Devices.
    pub device: u32,
    /// Services.
    pub service: u32,
    /// Users.
    pub user: u32,
}

impl Default for Validity {
    /// HP 1.17.
    fn default() -> Self {
        Validity {
            device: 90,
            service: 365,
            user: 30,
        }
    }
}

impl Validity {
    /// Days of a client type; unknown types as users.
    #[must_use]
    pub fn days(&self, client_type: &str) -> u32 {
        match client_type {
            DEVICE => self.device,
            SERVICE => self.service,
            _ => self.user,
        }
    }
}
