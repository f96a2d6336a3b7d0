//! Keeping up what plugins have, while they run (spec §6).
//!
//! Invariants: the key of a plugin that runs is neither made nor replaced, at the hub neither, as the running one knows
//! only that it was started with; a token or certificate that serves stays until the new one takes its place.

use super::certificate::Certified;
use super::credentials::{OnDisk, Shelf, Token};
use super::directory::{Silence, Standing};
use super::{Inner, NO_SERVICE, now, persons_account, serves};
use creds::UnixTime;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervision::PluginId;
use supervision::credential::Outcome;
use tokio::sync::Notify;

/// What is not known to be in order for longer is looked at again after this time.
const SOON: Duration = Duration::from_secs(5);

/// What waits for the plugin's next start is looked at so often.
const DAILY: Duration = Duration::from_secs(24 * 3600);

/// What a plugin with a certificate of the CA before waits for.
const SERVER_FIRST: &str =
    "a new client certificate: waits until the core shows a server certificate of the new CA";

/// By what a plugin's credentials are in order.
enum Kept {
    /// As what is on disk was judged.
    AsJudged,
    /// By the certificate alone, as no auth service answers.
    ByCertificate(Option<Certified>),
}

impl Kept {
    /// How long after `now` there is something to look at again, when what is on disk does not tell.
    fn next_look(&self, now: UnixTime) -> Duration {
        match self {
            Kept::ByCertificate(Some(Certified::Until(until) | Certified::Ageing(until))) => {
                until.since(now).clamp(SOON, DAILY)
            }
            Kept::ByCertificate(
                Some(Certified::AwaitsServer | Certified::Without | Certified::Failed) | None,
            )
            | Kept::AsJudged => SOON,
        }
    }
}

/// Why something is not as it should be.
enum Trouble {
    /// There is no bus.
    NeedsBus(String),
    /// It was tried, or cannot be.
    Failed(String),
    /// It would disturb the plugin, and is done at its next start.
    AtNextStart(String),
}

impl From<Silence> for Trouble {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::NoBus(why) => Trouble::NeedsBus(why),
            Silence::Refused(why) => Trouble::Failed(why),
            Silence::NoService => Trouble::Failed(NO_SERVICE.to_owned()),
        }
    }
}

/// What starts have found in order, for who keeps it up.
#[derive(Default)]
pub(super) struct Found {
    /// How long it is until they are due.
    news: Mutex<BTreeMap<PluginId, Duration>>,
    bell: Notify,
}

impl Found {
    fn tell(&self, id: &PluginId, next: Duration) {
        lock(&self.news).insert(id.clone(), next);
        self.bell.notify_one();
    }

    /// Waits until there are some.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn next(&self) -> Vec<(PluginId, Duration)> {
        loop {
            let news = std::mem::take(&mut *lock(&self.news));
            if !news.is_empty() {
                return news.into_iter().collect();
            }
            self.bell.notified().await;
        }
    }
}

/// What credentials wait for, for people; nothing of those that are in order.
#[derive(Default)]
pub(super) struct Waiting {
    certificates: Mutex<BTreeSet<PluginId>>,
    tokens: Mutex<BTreeMap<PluginId, String>>,
    /// The last trouble that was logged: that of a thousand plugins is one most often.
    said: Mutex<String>,
}

impl Waiting {
    pub(super) fn certificate(&self, id: &PluginId, certified: Option<Certified>) {
        let mut waiting = lock(&self.certificates);
        match certified {
            Some(Certified::AwaitsServer) => {
                waiting.insert(id.clone());
            }
            Some(
                Certified::Until(_) | Certified::Ageing(_) | Certified::Without | Certified::Failed,
            )
            | None => {
                waiting.remove(id);
            }
        }
    }

    fn token(&self, id: &PluginId, why: String) {
        let why = format!("new credentials: {why}");
        let is_news = {
            let mut said = lock(&self.said);
            let is_news = *said != why;
            said.clone_from(&why);
            is_news
        };
        if is_news {
            tracing::warn!(plugin = %id, "it waits for {why}");
        } else {
            tracing::debug!(plugin = %id, "it waits for {why}");
        }
        lock(&self.tokens).insert(id.clone(), why);
    }

    pub(super) fn token_in_order(&self, id: &PluginId) {
        lock(&self.tokens).remove(id);
    }

    pub(super) fn forget(&self, id: &PluginId) {
        self.token_in_order(id);
        self.certificate(id, None);
    }

    pub(super) fn of(&self, id: &PluginId) -> Vec<String> {
        let certificate = lock(&self.certificates)
            .contains(id)
            .then(|| SERVER_FIRST.to_owned());
        let token = lock(&self.tokens).get(id).cloned();
        certificate.into_iter().chain(token).collect()
    }
}

impl Inner {
    /// A start found all in order; the public key is `key`.
    pub(super) fn starts(&self, shelf: &Shelf, id: &PluginId, key: &str) {
        self.waiting.token_in_order(id);
        if shelf.starts(id, key) {
            let next = shelf.next_look(id, now()).unwrap_or(SOON);
            self.found.tell(id, next);
        }
    }

    /// Looks at what a plugin has, and renews what is due.
    pub(super) async fn keep_up(&self, id: &PluginId) -> Outcome {
        let Some(shelf) = self.shelf.clone() else {
            return Outcome::InOrder(None);
        };
        match self.renewed(&shelf, id).await {
            Ok(kept) => {
                self.waiting.token_in_order(id);
                let now = now();
                let next = shelf.next_look(id, now);
                Outcome::InOrder(Some(next.unwrap_or_else(|| kept.next_look(now))))
            }
            Err(Trouble::AtNextStart(why)) => {
                self.waiting.token(id, why);
                Outcome::InOrder(Some(DAILY))
            }
            Err(Trouble::NeedsBus(why)) => {
                self.waiting.token(id, why);
                Outcome::NeedsBus
            }
            Err(Trouble::Failed(why)) => {
                self.waiting.token(id, why);
                Outcome::Failed
            }
        }
    }

    async fn renewed(&self, shelf: &Arc<Shelf>, id: &PluginId) -> Result<Kept, Trouble> {
        let found = self.what_is_there(shelf, id).await?;
        self.waiting.certificate(id, found.certified);
        let certified = match found.certified {
            Some(Certified::Failed) => Err(Trouble::Failed(shelf.certificate_trouble())),
            Some(
                Certified::Until(_)
                | Certified::Ageing(_)
                | Certified::AwaitsServer
                | Certified::Without,
            )
            | None => Ok(()),
        };
        let kept = self.token_renewed(shelf, id, found).await?;
        certified.map(|()| kept)
    }

    async fn token_renewed(
        &self,
        shelf: &Arc<Shelf>,
        id: &PluginId,
        found: OnDisk,
    ) -> Result<Kept, Trouble> {
        if !shelf.has_tokens() {
            return Ok(Kept::AsJudged);
        }
        let certified = found.certified;
        let OnDisk { key, token, .. } = found;
        let standing = match (self.directory.standing(id, &key).await, &token) {
            (Ok(standing), _) => standing,
            // Whether the hub still knows it is looked at when there is a bus again.
            (Err(_), Token::Serves) => return Ok(Kept::AsJudged),
            (Err(Silence::NoService), _) if serves(certified) => {
                return Ok(Kept::ByCertificate(certified));
            }
            (Err(Silence::Refused(_)), _) if serves(certified) && !self.has_own_core() => {
                return Ok(Kept::ByCertificate(certified));
            }
            (Err(silence), Token::Due | Token::Useless(_)) => return Err(silence.into()),
        };
        match (standing, token) {
            (Standing::Person, _) => Err(Trouble::Failed(persons_account(id))),
            (Standing::OtherKey, _) if shelf.has_another_key(id, &key) => {
                let path = shelf.key_path(id);
                Err(Trouble::AtNextStart(format!(
                    "the key {} was replaced; the hub is told of it at the next start: hubcli restart {id}",
                    path.display()
                )))
            }
            (Standing::Known, Token::Serves) => Ok(Kept::AsJudged),
            (Standing::Known, Token::Due | Token::Useless(_))
            | (Standing::Stranger | Standing::OtherKey, _) => {
                self.replaced(shelf, id, &key).await?;
                Ok(Kept::AsJudged)
            }
        }
    }

    /// What a plugin has, as [`Shelf::look_only`] sees it.
    async fn what_is_there(&self, shelf: &Arc<Shelf>, id: &PluginId) -> Result<OnDisk, Trouble> {
        let (looking, of) = (shelf.clone(), id.clone());
        let found = self.desk.ask(move || looking.look_only(&of, now())).await;
        match found {
            Ok(Some(Ok(found))) => Ok(found),
            Ok(Some(Err(why))) => Err(Trouble::Failed(why)),
            Ok(None) => {
                let path = shelf.key_path(id);
                Err(Trouble::AtNextStart(format!(
                    "the key {} is gone; put it back, or have a new one made: hubcli restart {id}",
                    path.display()
                )))
            }
            Err(broken) => Err(Trouble::Failed(broken.to_string())),
        }
    }

    /// Fetches a new token and puts it in place.
    async fn replaced(&self, shelf: &Arc<Shelf>, id: &PluginId, key: &str) -> Result<(), Trouble> {
        let token = self.directory.add(id, key).await?;
        let (shelf, of) = (shelf.clone(), id.clone());
        let put = move || {
            shelf.put(&of, token)?;
            shelf.look(&of, now())
        };
        let found = self.desk.ask(put).await;
        let found = found.map_err(|broken| Trouble::Failed(broken.to_string()))?;
        match found.map_err(Trouble::Failed)?.token {
            Token::Serves => {
                tracing::info!(plugin = %id, "its token was renewed");
                Ok(())
            }
            Token::Due => Err(Trouble::Failed(
                "the token that the auth service gave is due at once".to_owned(),
            )),
            Token::Useless(why) => Err(Trouble::Failed(format!(
                "the token that the auth service gave does not serve: {why}"
            ))),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changed in whole steps, so whole even when a holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
