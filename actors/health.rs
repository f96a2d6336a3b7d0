//! Whether the launcher runs as it was told to (spec §12): what is wrong with it, where everybody can see it.
//!
//! Invariant: what is wrong is told once when it begins and once when it ends, in the log, on the bus and to whoever
//! follows [`Hub::troubles`].

use crate::hub::{Hub, Trouble};
use crate::ports::{Happening, LauncherNews};
use tokio::sync::watch;

impl Hub {
    /// What is wrong with the launcher now. Then it is `degraded`.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        self.trouble.borrow().clone()
    }

    /// What will be wrong with it; the newest counts.
    #[must_use]
    pub fn troubles(&self) -> watch::Receiver<Trouble> {
        self.trouble.subscribe()
    }

    /// It does not run as it was told to; `text` says why, and what to do. Replaces what was wrong before.
    pub fn degrade(&self, text: &str) {
        let news = self.trouble.send_if_modified(|trouble| {
            let news = trouble.as_deref() != Some(text);
            if news {
                *trouble = Some(text.into());
            }
            news
        });
        if news {
            tracing::error!("degraded: {text}");
            self.tell(LauncherNews::Degraded, text);
        }
    }

    /// It runs as it was told to again; `text` says since what. Nothing happens when nothing was wrong.
    pub fn recover(&self, text: &str) {
        let news = self
            .trouble
            .send_if_modified(|trouble| trouble.take().is_some());
        if news {
            tracing::info!("recovered: {text}");
            self.tell(LauncherNews::Recovered, text);
        }
    }

    fn tell(&self, what: LauncherNews, text: &str) {
        let text = text.to_owned();
        self.ports
            .herald
            .announce(Happening::Launcher { what, text });
    }
}
