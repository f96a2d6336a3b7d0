//! When the core looks at what it shows and trusts ([`crate::identity`]).
//!
//! Invariant: nothing is polled. It looks when something is due by the wall clock, when that is set, when one of the files or
//! the machine's names change, and once a day for the reminders of ends.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use creds::UnixTime;
use creds::clock::Ring;
use tokio::sync::Notify;

use crate::connections::lock;
use crate::credentials::Places;
use crate::hub::Hub;
use crate::identity::{Identity, LONGEST_PAUSE, Next};
use crate::machine;
use crate::sentry::{Sentry, Tiding};
use crate::watch;

/// How long files and names rest after a change: a new CA comes in several steps, an address with its routes.
const SETTLE: Duration = Duration::from_millis(250);
/// What never rests is looked at all the same after this time.
const RESTLESS: Duration = Duration::from_secs(3);
/// How long it is rested where the alarm and the clock disagree, as under a made-up clock.
const DISAGREE: Duration = Duration::from_secs(5);

/// What was told since it was asked last.
#[derive(Default)]
struct News {
    bell: Notify,
    told: Mutex<Told>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Told {
    files: bool,
    names: bool,
    ring: Option<Ring>,
}

impl News {
    fn tell(&self, what: impl FnOnce(&mut Told)) {
        what(&mut lock(&self.told));
        self.bell.notify_one();
    }

    /// Waits until something is told, or `until` has come.
    async fn next(&self, until: Option<Instant>) -> Told {
        loop {
            let told = std::mem::take(&mut *lock(&self.told));
            if told.files || told.names || told.ring.is_some() {
                return told;
            }
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.bell.notified() => {}
                () = over => return Told { ring: Some(Ring::ClockSet), ..Told::default() },
            }
        }
    }

    /// Waits until nothing was told for a while. Tells whether there is more to look at than names.
    async fn rest(&self) -> bool {
        let restless = Instant::now() + RESTLESS;
        while Instant::now() < restless {
            let told = tokio::time::timeout(SETTLE, self.bell.notified()).await;
            if told.is_err() {
                break;
            }
        }
        let told = std::mem::take(&mut *lock(&self.told));
        told.files || told.ring.is_some()
    }
}

/// Keeps it all up, for ever.
///
/// # Cancel safety
/// Safe: what was begun is finished on its thread.
pub async fn keep_up(identity: Arc<Identity>, hub: Arc<Hub>) {
    let news = Arc::new(News::default());
    let _watches = watches(&identity.places, &news);
    let tell = Arc::clone(&news);
    let sentry = Sentry::start(move |tiding| {
        tell.tell(|told| match tiding {
            Tiding::Clock(ring) => told.ring = Some(told.ring.map_or(ring, |_| Ring::ClockSet)),
            Tiding::Names => told.names = true,
        });
    });
    let sentry = sentry
        .inspect_err(|error| {
            tracing::warn!(%error, "that the clock is set or an address changes is seen late");
        })
        .ok();
    let mut names = machine::names(identity.places.host.as_deref());
    loop {
        let (looking, of) = (Arc::clone(&identity), Arc::clone(&hub));
        let look = tokio::task::spawn_blocking(move || {
            let (now, instant) = (UnixTime::from(SystemTime::now()), Instant::now());
            if let Some(by) = looking.clock_was_set(now, instant) {
                tracing::info!("the clock was set: all that was made before is made anew");
                of.auth.tokens.clock_was_set(by);
            }
            looking.look(&of.auth, now, instant)
        });
        // Only a panic in it has no answer.
        let next = look.await.unwrap_or_else(|_| Next {
            at: UnixTime::from(SystemTime::now()).after(LONGEST_PAUSE),
            or: None,
        });
        let is_set = sentry
            .as_ref()
            .is_some_and(|sentry| sentry.wake_at(next.at).is_ok());
        let blind = (!is_set).then(|| Instant::now() + DISAGREE);
        let until = next.or.into_iter().chain(blind).min();
        loop {
            let told = news.next(until).await;
            match told.ring {
                Some(Ring::Due) if UnixTime::from(SystemTime::now()) < next.at => {
                    tokio::time::sleep(DISAGREE).await;
                    break;
                }
                Some(Ring::Due | Ring::ClockSet) => break,
                None => {}
            }
            let is_more = news.rest().await;
            let names_now = machine::names(identity.places.host.as_deref());
            if told.files || is_more || names_now != names {
                names = names_now;
                break;
            }
        }
    }
}

fn watches(places: &Places, news: &Arc<News>) -> Vec<Box<dyn Send + Sync>> {
    let watched = places.watched().into_iter().filter_map(|(folder, names)| {
        let tell = Arc::clone(news);
        let told = move || tell.tell(|told| told.files = true);
        watch::watch(&folder, names, told)
            .inspect_err(|error| {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "changes of certificates there are seen a day later");
            })
            .ok()
    });
    watched.collect()
}
