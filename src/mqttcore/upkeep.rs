//! When the core looks at what it shows and trusts ([`crate::identity`]).
//!
//! It looks when something is due by the wall clock, when that is set, when one of the files or the machine's names change,
//! and once a day for the reminders of ends.
//!
//! Invariant: all that is told by the kernel, and no file is looked at without a reason. Where it does not tell, as under a
//! clock that is made up for one program, the clocks show it, which are compared now and then.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use creds::UnixTime;
use creds::clock::Ring;
use tokio::sync::Notify;

use crate::credentials::Places;
use crate::hub::Hub;
use crate::identity::{Identity, LONGEST_PAUSE, Next};
use crate::lock::lock;
use crate::machine::{self, Names};
use crate::sentry::{Sentry, Tiding};
use crate::watch;

/// How long files and names rest after a change: a new CA comes in several steps, an address with its routes.
const SETTLE: Duration = Duration::from_millis(250);
/// What never rests is looked at all the same after this time.
const RESTLESS: Duration = Duration::from_secs(3);
/// How often the clocks are compared.
const RARELY: Duration = Duration::from_secs(60);
/// The same while the wall clock was never set, and most likely will be soon.
const OFTEN: Duration = Duration::from_secs(1);
/// A clock that went by so much more or less than the time that passed was set; time servers that slow it down or speed it
/// up stay far below.
const LEAP: Duration = Duration::from_secs(5);

/// Both clocks at one moment.
type Clocks = (UnixTime, Instant);

fn clocks() -> Clocks {
    (UnixTime::from(SystemTime::now()), Instant::now())
}

/// Whether the wall clock was set between two moments.
fn is_leap((wall_before, before): Clocks, (wall, moment): Clocks) -> bool {
    let went = i128::from(wall.0) - i128::from(wall_before.0);
    let passed = moment.saturating_duration_since(before).as_secs();
    (went - i128::from(passed)).unsigned_abs() > u128::from(LEAP.as_secs())
}

/// When the clocks are to be compared next.
fn next_comparison((wall, moment): Clocks) -> Instant {
    if wall < UnixTime::EARLIEST_PLAUSIBLE {
        moment + OFTEN
    } else {
        moment + RARELY
    }
}

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

    /// Waits until something is told; none when `until` came first.
    async fn next(&self, until: Instant) -> Option<Told> {
        loop {
            let told = std::mem::take(&mut *lock(&self.told));
            if told.files || told.names || told.ring.is_some() {
                return Some(told);
            }
            tokio::select! {
                () = self.bell.notified() => {}
                () = tokio::time::sleep_until(until.into()) => return None,
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
        let seen = clocks();
        let look = tokio::task::spawn_blocking(move || {
            if let Some(by) = looking.clock_was_set(seen.0, seen.1) {
                tracing::info!("the clock was set: all that was made before is made anew");
                of.auth.tokens.clock_was_set(by);
            }
            looking.look(&of.auth, seen.0, seen.1)
        });
        // Only a panic in it has no answer.
        let next = look.await.unwrap_or(Next {
            at: seen.0.after(LONGEST_PAUSE),
            or: None,
        });
        if let Some(sentry) = &sentry
            && let Err(error) = sentry.wake_at(next.at)
        {
            tracing::debug!(%error, "no alarm");
        }
        wait(&news, &identity.places, &mut names, next, seen).await;
    }
}

/// Waits until there is a reason to look again after the look at `seen`.
async fn wait(news: &News, places: &Places, names: &mut Names, next: Next, seen: Clocks) {
    loop {
        let until = next.or.into_iter().chain([next_comparison(clocks())]).min();
        let told = news.next(until.unwrap_or(seen.1)).await;
        let now = clocks();
        if now.0 >= next.at || is_leap(seen, now) || next.or.is_some_and(|or| now.1 >= or) {
            return;
        }
        let Some(told) = told else { continue };
        match told.ring {
            Some(Ring::ClockSet) => return,
            // An alarm of before.
            Some(Ring::Due) | None => {}
        }
        let is_more = (told.files || told.names) && news.rest().await;
        let names_now = machine::names(places.host.as_deref());
        if told.files || is_more || names_now != *names {
            *names = names_now;
            return;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_seen() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let seen = (UnixTime(1000), begun);
        for (wall, passed, leap) in [
            (1000, 0, false),
            (1060, 60, false),
            (1063, 60, false),
            (1070, 60, true),
            (990, 0, true),
            (1_800_000_000, 1, true),
            (i64::MIN, 1, true),
        ] {
            let now = (UnixTime(wall), after(passed));
            assert_eq!(is_leap(seen, now), leap, "{wall} {passed}");
        }
        assert_eq!(next_comparison(seen), after(1));
        assert_eq!(next_comparison((UnixTime(1_800_000_000), begun)), after(60));
    }

    #[tokio::test]
    async fn what_is_told_while_nobody_waits_is_not_lost() {
        let news = News::default();
        news.tell(|told| told.files = true);
        news.tell(|told| told.ring = Some(Ring::Due));
        let told = news.next(Instant::now()).await.unwrap();
        assert!(told.files && told.ring == Some(Ring::Due) && !told.names);
        assert!(news.next(Instant::now()).await.is_none());
        news.tell(|told| told.names = true);
        assert!(!news.rest().await, "names are compared in any case");
    }
}
