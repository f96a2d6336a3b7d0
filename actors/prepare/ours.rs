//! Keeping up what is not a plugin's: our own login, the logins of a plain core, and the ends of all certificates
//! (spec §6).
//!
//! Invariant: what cannot be renewed is said, and tried again; what serves stays meanwhile.

use super::own::OwnToken;
use super::{DAILY, Inner, locked, now};
use crate::ports::CoreDeed;
use std::sync::PoisonError;
use supervision::PluginId;
use supervision::credential::Outcome;

impl Inner {
    /// Looks at our own token, and renews it when it is due.
    pub(super) async fn keep_own_up(&self) -> Outcome {
        if let Some(core) = self.plain_core.clone() {
            return match self.desk.ask(move || locked(&core).keep_up(now())).await {
                Ok(Ok((next, deed))) => {
                    self.tell_core(deed);
                    Outcome::InOrder(Some(next))
                }
                Ok(Err(why)) => {
                    tracing::warn!(
                        "the hub's certificates could not be renewed: {why}; it is tried again"
                    );
                    Outcome::Failed
                }
                Err(_broken) => Outcome::Failed,
            };
        }
        let own = self.own.clone();
        match self.desk.ask(move || own.look(now())).await {
            Ok(OwnToken::Absent) => Outcome::InOrder(None),
            Ok(OwnToken::Serves(next)) => Outcome::InOrder(Some(next)),
            Ok(OwnToken::Due | OwnToken::Useless(_)) if !self.directory.is_connected() => {
                Outcome::NeedsBus
            }
            Ok(OwnToken::Due | OwnToken::Useless(_)) => match self.own_replaced().await {
                Ok(outcome) => outcome,
                Err(why) => {
                    tracing::warn!(
                        "the launcher's own token could not be renewed: {why}; it is tried again"
                    );
                    Outcome::Failed
                }
            },
            Err(_broken) => Outcome::Failed,
        }
    }

    fn tell_core(&self, deed: Option<CoreDeed>) {
        if let Some(deed) = deed {
            *self
                .core_deed
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(deed);
        }
    }

    /// What the core is to do since this was asked last.
    pub(super) fn take_core_deed(&self) -> Option<CoreDeed> {
        self.core_deed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    async fn own_replaced(&self) -> Result<Outcome, String> {
        let token = self.directory.refresh().await?;
        let own = self.own.clone();
        let put = move || own.put(token).map(|()| own.look(now()));
        match self.desk.ask(put).await {
            Ok(Ok(OwnToken::Serves(next))) => {
                tracing::info!("the launcher's own token was renewed");
                Ok(Outcome::InOrder(Some(next)))
            }
            Ok(Ok(OwnToken::Absent)) => Ok(Outcome::InOrder(None)),
            Ok(Ok(OwnToken::Due | OwnToken::Useless(_))) => {
                Err("the one that the auth service gave is no better".to_owned())
            }
            Ok(Err(why)) => Err(why),
            Err(broken) => Err(broken.to_string()),
        }
    }

    /// Warns of the certificates that end soon.
    pub(super) async fn warn_of_ends(&self) -> Outcome {
        let (ends, own, shelf) = (self.ends.clone(), self.own.clone(), self.shelf.clone());
        let look = move || {
            let kept = |id: &str| {
                let id = PluginId::new(id).ok();
                shelf
                    .as_ref()
                    .zip(id)
                    .is_some_and(|(shelf, id)| shelf.is_kept_up(&id))
            };
            ends.warnings(&own.plan.certs, kept, own.plan.renew_at, now())
        };
        match self.desk.ask(look).await {
            Ok(warnings) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                Outcome::InOrder(Some(DAILY))
            }
            Err(_broken) => Outcome::Failed,
        }
    }
}
