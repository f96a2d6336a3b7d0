//! What people set by hand, as against what the configuration says (spec §9, §12).
//!
//! Invariant: a hand overrides the file until it is taken away; both are kept, neither is rewritten into the other.

/// What somebody set for a plugin: starts with the launcher, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setting {
    /// It starts with the launcher.
    Enabled,
    /// It does not.
    Disabled,
}

/// A setting with its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// What was set.
    pub setting: Setting,
    /// The bus login of who did it.
    pub who: String,
    /// When, in Unix milliseconds; for showing.
    pub when_mse: i64,
}

/// Whether a plugin starts with the launcher: as last set by hand, else whether `autostart` lists it (spec §9).
#[must_use]
pub fn enabled(by_hand: Option<&ByHand>, in_autostart: bool) -> Setting {
    match (by_hand, in_autostart) {
        (Some(hand), _) => hand.setting,
        (None, true) => Setting::Enabled,
        (None, false) => Setting::Disabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hand_overrides_the_file() {
        let hand = |setting| ByHand {
            setting,
            who: "admin".to_owned(),
            when_mse: 0,
        };
        assert_eq!(enabled(None, true), Setting::Enabled);
        assert_eq!(enabled(None, false), Setting::Disabled);
        assert_eq!(
            enabled(Some(&hand(Setting::Disabled)), true),
            Setting::Disabled
        );
        assert_eq!(
            enabled(Some(&hand(Setting::Enabled)), false),
            Setting::Enabled
        );
    }
}
