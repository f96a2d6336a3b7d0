//! What the auth service knows of the plugins.
//!
//! Invariants:
//! - one `getProfiles` per connection of the bus serves everybody; an answer of one connection is never used in another;
//! - those who waited for a request that failed share its failure instead of repeating it one after the other;
//! - at most [`IN_FLIGHT`] calls of `addService` are under way.

use crate::link::Link;
use crate::ports::{Accounts, Unanswered};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use supervision::PluginId;
use tokio::sync::{Mutex, Semaphore, watch};

/// How many plugins are added at once.
const IN_FLIGHT: usize = 16;

/// How long a start waits for a bus that is just coming back.
const PATIENCE: Duration = Duration::from_secs(1);

/// The type of an account that a person logs in with (HP 1.20).
const USER: &str = "user";

/// How the auth service knows a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not at all.
    Stranger,
    /// With another key.
    OtherKey,
    /// With the same key.
    Known,
    /// A person has an account of that name.
    Person,
}

/// Why the auth service could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Silence {
    /// There is no connection to it; why.
    NoBus(String),
    /// It answered with an error, or not at all.
    Refused(String),
    /// There is none.
    NoService,
}

impl From<Unanswered> for Silence {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NoService => Silence::NoService,
            Unanswered::Failed(why) => Silence::Refused(why),
        }
    }
}

/// The accounts of the bus, with what is known of them.
pub(super) struct Directory {
    accounts: Arc<dyn Accounts>,
    known: Mutex<Known>,
    /// How many requests for the profiles have been answered, or failed.
    answers: AtomicU64,
    calls: Semaphore,
}

/// The answer to the newest `getProfiles`.
#[derive(Default)]
struct Known {
    /// Of which connection; 0 = of none.
    generation: u64,
    /// Clients that are no persons, with their public keys.
    keys: HashMap<String, String>,
    persons: HashSet<String>,
    failure: Option<Failure>,
}

/// The newest request that failed.
struct Failure {
    /// The how many-th answer it was.
    answer: u64,
    /// On which connection.
    generation: u64,
    why: Unanswered,
}

impl Directory {
    pub(super) fn new(accounts: Arc<dyn Accounts>) -> Self {
        Directory {
            accounts,
            known: Mutex::default(),
            answers: AtomicU64::new(0),
            calls: Semaphore::new(IN_FLIGHT),
        }
    }

    /// How the connection to the bus is, and how it will be.
    pub(super) fn links(&self) -> watch::Receiver<Link> {
        self.accounts.links()
    }

    /// Whether there is a bus at this moment.
    pub(super) fn is_connected(&self) -> bool {
        self.accounts.links().borrow().is_up()
    }

    /// A new token for our own login, never an empty one.
    pub(super) async fn refresh(&self) -> Result<String, String> {
        let token = self.accounts.refresh().await.map_err(|it| it.to_string())?;
        if token.trim().is_empty() {
            return Err("the auth service answered refresh without a token".to_owned());
        }
        Ok(token)
    }

    /// How the auth service knows `id`, which has this public key.
    pub(super) async fn standing(&self, id: &PluginId, key: &str) -> Result<Standing, Silence> {
        let generation = self.connected().await?;
        let came_after = self.answers.load(Ordering::SeqCst);
        let mut known = self.known.lock().await;
        if known.generation != generation {
            if let Some(failure) = &known.failure
                && failure.answer > came_after
                && failure.generation == generation
            {
                return Err(failure.why.clone().into());
            }
            let answered = self.accounts.profiles().await;
            let answer = 1 + self.answers.fetch_add(1, Ordering::SeqCst);
            match answered {
                Ok(profiles) => {
                    let (persons, others): (Vec<_>, Vec<_>) =
                        profiles.into_iter().partition(|p| p.client_type == USER);
                    *known = Known {
                        generation,
                        keys: others
                            .into_iter()
                            .map(|p| (p.client_id, p.pub_key))
                            .collect(),
                        persons: persons.into_iter().map(|p| p.client_id).collect(),
                        failure: None,
                    };
                }
                Err(why) => {
                    known.failure = Some(Failure {
                        answer,
                        generation,
                        why: why.clone(),
                    });
                    return Err(why.into());
                }
            }
        }
        if known.persons.contains(id.as_str()) {
            return Ok(Standing::Person);
        }
        Ok(match known.keys.get(id.as_str()) {
            Some(known) if known.trim() == key => Standing::Known,
            Some(_) => Standing::OtherKey,
            None => Standing::Stranger,
        })
    }

    /// Makes `id` known with this public key; gives its new token, never an empty one.
    pub(super) async fn add(&self, id: &PluginId, key: &str) -> Result<String, Silence> {
        let generation = self.connected().await?;
        let token = {
            // Never closed, so there is always a permit to come.
            let _permit = self.calls.acquire().await;
            self.accounts.add_service(id, key).await?
        };
        if token.trim().is_empty() {
            let why = "the auth service answered addService without a token".to_owned();
            return Err(Silence::Refused(why));
        }
        let mut known = self.known.lock().await;
        if known.generation == generation {
            known.keys.insert(id.to_string(), key.to_owned());
        }
        Ok(token)
    }

    /// Whether the newest answer knew `id` with this public key; for a start while there is no bus to ask.
    pub(super) async fn knew(&self, id: &PluginId, key: &str) -> bool {
        let known = self.known.lock().await;
        known
            .keys
            .get(id.as_str())
            .is_some_and(|last| last.trim() == key)
    }

    /// The number of the connection that is there, or comes in a moment.
    async fn connected(&self) -> Result<u64, Silence> {
        let mut links = self.accounts.links();
        let up = async {
            match links.wait_for(Link::is_up).await {
                Ok(link) => generation_of(&link),
                // Who would tell of a connection is gone.
                Err(_) => None,
            }
        };
        if let Ok(Some(generation)) = tokio::time::timeout(PATIENCE, up).await {
            return Ok(generation);
        }
        match &*self.accounts.links().borrow() {
            // It came at the last moment.
            Link::Up { generation } => Ok(*generation),
            Link::Down { reason, .. } => Err(Silence::NoBus(reason.clone())),
        }
    }
}

fn generation_of(link: &Link) -> Option<u64> {
    match link {
        Link::Up { generation } => Some(*generation),
        Link::Down { .. } => None,
    }
}
