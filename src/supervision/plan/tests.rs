//! The table of a reload, and what holds for every one.

use super::*;
use proptest::prelude::*;

const PHASES: [PhaseName; 9] = [
    PhaseName::Stopped,
    PhaseName::Blocked,
    PhaseName::Preparing,
    PhaseName::Starting,
    PhaseName::Running,
    PhaseName::Stopping,
    PhaseName::Killing,
    PhaseName::Backoff,
    PhaseName::Foreign,
];

fn id(name: &str) -> PluginId {
    PluginId::new(name).unwrap()
}

fn by_hand(setting: Setting) -> ByHand {
    ByHand {
        setting,
        who: "admin".to_owned(),
        when_mse: 1,
    }
}

/// One that runs, is listed and was not changed.
fn running(name: &str) -> Present {
    Present {
        id: id(name),
        enabling: Enabling::ByFile {
            was: true,
            is: true,
            hand: None,
        },
        changes: Changes::default(),
        wish: Wish::Up,
        phase: PhaseName::Running,
    }
}

fn listed(was: bool, is: bool, hand: Option<Setting>) -> Enabling {
    Enabling::ByFile {
        was,
        is,
        hand: hand.map(by_hand),
    }
}

fn changes(respawn: &[&'static str], in_place: &[&'static str]) -> Changes {
    Changes {
        respawn: respawn.to_vec(),
        in_place: in_place.to_vec(),
    }
}

fn of(one: Present) -> (Action, String) {
    let mut planned = plan(&[], &[one]);
    let one = planned.remove(0);
    (one.action, one.why)
}

#[test]
fn the_list_starts_and_stops_unless_a_hand_does() {
    use Setting::{Disabled, Enabled};
    let rows = [
        (
            listed(false, true, None),
            Wish::Down,
            PhaseName::Stopped,
            Action::Start,
            "now in autostart",
        ),
        (
            listed(true, false, None),
            Wish::Up,
            PhaseName::Running,
            Action::Stop,
            "no longer in autostart, and nobody enabled it by hand",
        ),
        (
            listed(true, false, None),
            Wish::Up,
            PhaseName::Backoff,
            Action::Stop,
            "no longer in autostart, and nobody enabled it by hand",
        ),
        (
            listed(true, false, None),
            Wish::Down,
            PhaseName::Stopped,
            Action::Update,
            "no longer in autostart; it is down already",
        ),
        (
            listed(false, true, None),
            Wish::Up,
            PhaseName::Running,
            Action::Update,
            "now in autostart; it is up already",
        ),
        (
            listed(false, true, Some(Disabled)),
            Wish::Down,
            PhaseName::Stopped,
            Action::None,
            "unchanged; now in autostart, but disabled by hand by admin; to let the file decide: hubcli disable --default a",
        ),
        (
            listed(true, false, Some(Enabled)),
            Wish::Up,
            PhaseName::Running,
            Action::None,
            "unchanged; no longer in autostart, but enabled by hand by admin; to let the file decide: hubcli enable --default a",
        ),
        (
            listed(false, false, Some(Enabled)),
            Wish::Up,
            PhaseName::Running,
            Action::None,
            "unchanged; not in autostart, but enabled by hand by admin; to let the file decide: hubcli enable --default a",
        ),
        (
            listed(true, true, Some(Enabled)),
            Wish::Up,
            PhaseName::Running,
            Action::None,
            "unchanged",
        ),
        // Stopped with all others: still enabled, and nothing was changed.
        (
            listed(true, true, None),
            Wish::Down,
            PhaseName::Stopped,
            Action::None,
            "unchanged",
        ),
    ];
    for (enabling, wish, phase, action, why) in rows {
        let one = Present {
            enabling,
            wish,
            phase,
            ..running("a")
        };
        assert_eq!(of(one.clone()), (action, why.to_owned()), "{one:?}");
    }
}

#[test]
fn changed_settings_restart_what_runs_or_are_followed_in_place() {
    let args = || changes(&["args", "env"], &[]);
    let stop = || changes(&[], &["stop"]);
    let rows = [
        (
            args(),
            Wish::Up,
            PhaseName::Running,
            Action::Restart,
            "changed: args, env",
        ),
        (
            args(),
            Wish::Up,
            PhaseName::Starting,
            Action::Restart,
            "changed: args, env",
        ),
        (
            args(),
            Wish::Up,
            PhaseName::Backoff,
            Action::Update,
            "changed: args, env; it is tried again at once",
        ),
        (
            stop(),
            Wish::Up,
            PhaseName::Blocked,
            Action::Update,
            "changed: stop; it is tried again at once",
        ),
        (
            stop(),
            Wish::Up,
            PhaseName::Running,
            Action::Update,
            "changed: stop; what runs keeps running",
        ),
        (
            args(),
            Wish::Up,
            PhaseName::Stopping,
            Action::Update,
            "changed: args, env; used when it starts again",
        ),
        (
            args(),
            Wish::Down,
            PhaseName::Stopped,
            Action::Update,
            "changed: args, env; used when it is started next",
        ),
        (
            args(),
            Wish::Down,
            PhaseName::Stopping,
            Action::Update,
            "changed: args, env; used when it is started next",
        ),
    ];
    for (changes, wish, phase, action, why) in rows {
        let one = Present {
            changes,
            wish,
            phase,
            ..running("a")
        };
        assert_eq!(of(one.clone()), (action, why.to_owned()), "{one:?}");
    }
}

#[test]
fn the_core_comes_first_then_the_list_then_the_rest() {
    let core = Present {
        enabling: Enabling::Always,
        ..running("c")
    };
    let core = Present {
        id: PluginId::core(),
        ..core
    };
    let all = [running("b"), running("d"), running("a"), core];
    let planned = plan(&[id("d"), id("b")], &all);
    let ids: Vec<&str> = planned.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["core", "d", "b", "a"]);
}

fn present() -> impl Strategy<Value = Present> {
    let hand = prop::option::of(prop_oneof![Just(Setting::Enabled), Just(Setting::Disabled)]);
    let keys = prop_oneof![
        Just(Changes::default()),
        Just(changes(&["args"], &[])),
        Just(changes(&[], &["stop"]))
    ];
    let wish = prop_oneof![Just(Wish::Up), Just(Wish::Down)];
    (
        "[a-d]",
        any::<bool>(),
        any::<bool>(),
        hand,
        keys,
        wish,
        0..PHASES.len(),
    )
        .prop_map(|(name, was, is, hand, changes, wish, phase)| Present {
            id: id(&name),
            enabling: listed(was, is, hand),
            changes,
            wish,
            phase: PHASES[phase],
        })
}

/// How one is when its part of a plan was done: the file is the new one, and what it says is so.
fn done(one: &Present, action: Action) -> Present {
    let enabling = match &one.enabling {
        Enabling::Always => Enabling::Always,
        Enabling::ByFile { is, hand, .. } => Enabling::ByFile {
            was: *is,
            is: *is,
            hand: hand.clone(),
        },
    };
    let (wish, phase) = match action {
        Action::Start => (Wish::Up, PhaseName::Running),
        Action::Stop => (Wish::Down, PhaseName::Stopped),
        Action::Restart => (one.wish, PhaseName::Running),
        Action::Update | Action::None => (one.wish, one.phase),
    };
    Present {
        id: one.id.clone(),
        enabling,
        changes: Changes::default(),
        wish,
        phase,
    }
}

proptest! {
    #[test]
    fn what_was_planned_and_done_leaves_nothing_to_plan(all in prop::collection::vec(present(), 0..8)) {
        let planned = plan(&[], &all);
        let after: Vec<Present> = planned
            .iter()
            .map(|one| done(all.iter().rev().find(|before| before.id == one.id).unwrap(), one.action))
            .collect();
        for one in plan(&[], &after) {
            prop_assert_eq!(one.action, Action::None, "{}", one.why);
        }
    }

    #[test]
    fn whatever_is_changed(all in prop::collection::vec(present(), 0..8)) {
        let planned = plan(&[], &all);
        prop_assert_eq!(&planned, &plan(&[], &all), "the same gives the same");
        let ids: BTreeSet<&PluginId> = planned.iter().map(|one| &one.id).collect();
        prop_assert_eq!(ids.len(), planned.len());
        prop_assert_eq!(ids, all.iter().map(|one| &one.id).collect());
        for one in &planned {
            let before = all.iter().rev().find(|before| before.id == one.id).unwrap();
            let Enabling::ByFile { was, is, hand } = &before.enabling else { unreachable!() };
            prop_assert!(!one.why.is_empty());
            match one.action {
                Action::Start => prop_assert!(!was && *is && hand.is_none()),
                Action::Stop => {
                    prop_assert!(*was && !is && hand.is_none() && before.wish == Wish::Up);
                }
                Action::Restart => {
                    prop_assert!(!before.changes.respawn.is_empty() && before.wish == Wish::Up);
                }
                Action::Update => prop_assert!(!before.changes.is_empty() || was != is),
                Action::None => prop_assert!(before.changes.is_empty()),
            }
            let overrides = hand.as_ref().is_some_and(|hand| (hand.setting == Setting::Enabled) != *is);
            prop_assert_eq!(overrides, one.why.contains("by hand by admin"));
        }
    }
}
