//! What a plugin waits for before it is started: others that it requires, and devices and files that it needs, room on
//! the disk.
//!
//! Invariants: whether a required plugin is there is judged by its newest view when a start is looked at; whoever follows it
//! posts a fact for every change after that, so none is missed; nothing is followed for a plugin that requires nothing.

use super::PluginState;
use crate::hub::Hub;
use crate::seat::Seat;
use crate::view::View;
use std::path::PathBuf;
use std::sync::Arc;
use supervision::lifecycle::{BlockReason, Event, PhaseName, Wish};
use supervision::room::may_lack_room;
use supervision::{MonoTime, PluginId};
use tokio::task::AbortHandle;

/// Those that are followed, by a task each.
#[derive(Default)]
pub(super) struct Requirements {
    ids: Vec<PluginId>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Requirements {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The wait for room on a disk: for which try it is the shorter way, and the task that waits.
#[derive(Default)]
pub(super) struct Roomless(Option<(MonoTime, AbortHandle)>);

impl Drop for Roomless {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.0 {
            task.abort();
        }
    }
}

/// What is waited for while it is blocked.
#[derive(Debug, PartialEq, Eq)]
enum Awaited {
    /// Devices and files.
    Paths(Vec<PathBuf>),
    /// The end of what an earlier launcher left.
    Leftovers,
}

/// The wait for that.
#[derive(Default)]
pub(super) struct Missing(Option<(Awaited, AbortHandle)>);

impl Drop for Missing {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.0 {
            task.abort();
        }
    }
}

impl PluginState {
    /// Why it is not its turn yet: the first required plugin that is not ready.
    pub(super) fn unmet_requirement(&self) -> Option<BlockReason> {
        let requires = self.seat.state().plan.requires.clone();
        requires
            .iter()
            .find_map(|id| match self.hub.roster.get(id) {
                Some(required) => unmet(&required.view()),
                None => Some(BlockReason::Requires {
                    on: id.clone(),
                    text: format!(
                        "requires '{id}', and there is no plugin of that name; install it, or change plugins.{}.requires",
                        self.seat.id
                    ),
                }),
            })
    }

    /// Follows those that the plan requires now.
    pub(super) fn follow_requirements(&mut self) {
        let requires = {
            let state = self.seat.state();
            if state.plan.requires == self.requirements.ids {
                return;
            }
            state.plan.requires.clone()
        };
        let follow = |id: &PluginId| {
            let task = follow(self.hub.clone(), self.seat.clone(), id.clone());
            tokio::spawn(task).abort_handle()
        };
        self.requirements = Requirements {
            tasks: requires.iter().map(follow).collect(),
            ids: requires,
        };
    }

    /// Waits for what it is blocked for, as far as anybody can tell when that is there, and no longer.
    pub(super) fn await_missing(&mut self) {
        let Some(awaited) = self.awaited() else {
            self.missing = Missing::default();
            return;
        };
        let before = self.missing.0.as_ref();
        if before.is_some_and(|(same, task)| *same == awaited && !task.is_finished()) {
            return;
        }
        let preparer = &self.ports.preparer;
        let there = match &awaited {
            Awaited::Paths(needs) => preparer.all_there(needs.clone()),
            Awaited::Leftovers => preparer.leftovers_gone(&self.seat.id),
        };
        let seat = self.seat.clone();
        let task = tokio::spawn(async move {
            there.await;
            seat.post(Event::CauseGone);
        });
        self.missing = Missing(Some((awaited, task.abort_handle())));
    }

    /// What failed while a disk was full is tried as soon as it has room again; each failure has its own look.
    pub(super) fn await_room(&mut self) {
        let waits = {
            let mut state = self.seat.state();
            let phase = state.life.phase();
            let waits = phase.next_try().filter(|_| may_lack_room(phase));
            if waits.is_none() {
                state.lacks_room = None;
            }
            waits
        };
        let Some((next_try, _)) = waits else {
            self.roomless = Roomless::default();
            return;
        };
        if self
            .roomless
            .0
            .as_ref()
            .is_some_and(|(of, _)| *of == next_try)
        {
            return;
        }
        let (preparer, seat) = (self.ports.preparer.clone(), self.seat.clone());
        let task = tokio::spawn(async move {
            let short = preparer.short_of_room().await;
            seat.state().lacks_room.clone_from(&short);
            if let Some(folder) = short {
                tracing::warn!(plugin = %seat.id, "no room on the disk of {}; it is tried again as soon as there is some", folder.display());
                preparer.room_again().await;
                seat.post(Event::CauseGone);
            }
        });
        self.roomless = Roomless(Some((next_try, task.abort_handle())));
    }

    fn awaited(&self) -> Option<Awaited> {
        let state = self.seat.state();
        match state.life.phase().block_reason()? {
            BlockReason::Needs(_) => Some(Awaited::Paths(state.plan.needs.clone())),
            BlockReason::Leftover(_) => Some(Awaited::Leftovers),
            BlockReason::Executable(_)
            | BlockReason::Credentials(_)
            | BlockReason::Settings(_)
            | BlockReason::Awaits { .. }
            | BlockReason::Requires { .. } => None,
        }
    }
}

/// So much of the cause of another is told; more is to be had from that one, and a long row of plugins that require each
/// other does not fill the memory.
const MOST_CAUSE: usize = 400;

/// Why a required plugin does not serve yet; none when it does.
fn unmet(required: &View) -> Option<BlockReason> {
    let on = required.id.clone();
    if let Some(other) = &required.awaits {
        // On its way as well, then: a whole row that starts is no failure of any of it.
        let text = format!("requires '{on}', which waits for '{other}'");
        return Some(BlockReason::Awaits { on, text });
    }
    match (required.phase, required.wish) {
        // Somebody else's copy serves as well.
        (PhaseName::Running | PhaseName::Foreign, _) => None,
        (PhaseName::Blocked, _) => Some(BlockReason::Requires {
            text: format!("requires '{on}', which is blocked: {}", cause_of(required)),
            on,
        }),
        (PhaseName::Backoff, _) => Some(BlockReason::Awaits {
            text: format!(
                "requires '{on}', which failed and is tried again: {}",
                cause_of(required)
            ),
            on,
        }),
        (_, Wish::Up) => Some(BlockReason::Awaits {
            text: format!(
                "requires '{on}', which is not ready yet ({})",
                required.phase
            ),
            on,
        }),
        (_, Wish::Down) => Some(BlockReason::Requires {
            text: format!("requires '{on}', which is stopped; start it with: hubcli start {on}"),
            on,
        }),
    }
}

fn cause_of(required: &View) -> &str {
    let cause = required.cause.as_str();
    if cause.len() <= MOST_CAUSE {
        return cause;
    }
    "its own cause is long, hubcli why tells it"
}

/// Posts a fact to `seat` whenever a required plugin is ready, and whenever it is no longer.
async fn follow(hub: Arc<Hub>, seat: Arc<Seat>, id: PluginId) {
    loop {
        let required = hub.roster.seated(&id).await;
        tokio::select! {
            // What it does on its seat is told before that the seat is gone.
            biased;
            () = follow_run(&seat, &required) => {}
            // Its file was gone and came back: it has another seat then.
            () = hub.roster.unseated(&required) => {}
        }
    }
}

/// Posts a fact when it is ready, and another one when it is no longer.
async fn follow_run(seat: &Seat, required: &Seat) {
    let ready = required.until(|view| unmet(view).is_none()).await;
    seat.post(Event::CauseGone);
    // A new run is another one, also when nobody saw the time between.
    let lost = |view: &View| unmet(view).is_some() || view.run != ready.run;
    required.until(lost).await;
    seat.post(Event::DependencyLost {
        on: required.id.clone(),
    });
}
