//! Ends of certificates, and being reminded of them (spec §6).
//!
//! Invariants: pure; of each certificate at most one reminder a day, and one more when it fares otherwise than before.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check::{Certificate, Validity};
use crate::time::UnixTime;

/// How long before its end a certificate is warned of.
pub const WARNED_BEFORE: Duration = Duration::from_secs(30 * DAY.as_secs());
/// How long a reminder is not repeated.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How far a certificate is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More than 30 days.
    Far,
    /// Less; so many whole days.
    Near {
        /// 0 to 29.
        days: i64,
    },
    /// It is over.
    Over,
    /// Its time has not come: most often the clock is wrong.
    Early,
}

impl End {
    /// How far `cert` is from its end at `now`.
    #[must_use]
    pub fn of(cert: &Certificate, now: UnixTime) -> End {
        let left = cert.not_after().since(now);
        match cert.validity(now) {
            Validity::NotYet => End::Early,
            Validity::Expired => End::Over,
            Validity::Valid if left < WARNED_BEFORE => End::Near {
                days: i64::try_from(left.as_secs() / DAY.as_secs()).unwrap_or(i64::MAX),
            },
            Validity::Valid => End::Far,
        }
    }

    /// Completes "{file} …", for people; none when there is nothing to say.
    #[must_use]
    pub fn in_words(self) -> Option<String> {
        match self {
            End::Far => None,
            End::Near { days: 0 } => Some("ends within a day".to_owned()),
            End::Near { days: 1 } => Some("ends in a day".to_owned()),
            End::Near { days } => Some(format!("ends in {days} days")),
            End::Over => Some("has expired".to_owned()),
            End::Early => Some(
                "is not valid yet: check the clock of this machine, its date above all".to_owned(),
            ),
        }
    }

    fn is_like(self, other: End) -> bool {
        match (self, other) {
            (End::Near { .. }, End::Near { .. }) => true,
            (End::Far | End::Near { .. } | End::Over | End::Early, _) => self == other,
        }
    }
}

/// Which ends were reminded of, and when.
#[derive(Debug, Default)]
pub struct Reminders {
    said: HashMap<PathBuf, (End, UnixTime)>,
}

impl Reminders {
    /// Whether it is to be said now that the certificate at `path` fares so; then it counts as said.
    pub fn is_due(&mut self, path: &Path, end: End, now: UnixTime) -> bool {
        if end == End::Far {
            self.said.remove(path);
            return false;
        }
        let is_said = self
            .said
            .get(path)
            .is_some_and(|(before, at)| before.is_like(end) && now >= *at && now.since(*at) < DAY);
        if !is_said {
            self.said.insert(path.to_owned(), (end, now));
        }
        !is_said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca;

    #[test]
    fn a_month_before_its_end_one_is_reminded_daily() {
        let folder = tempfile::tempdir().unwrap();
        let now = UnixTime(1_800_000_000);
        let cert = ca::replace_ca(folder.path(), "CA", DAY * 100, now)
            .unwrap()
            .cert;
        let mut reminders = Reminders::default();
        let mut due = |at: UnixTime| {
            let end = End::of(&cert, at);
            (reminders.is_due(Path::new("c"), end, at), end.in_words())
        };
        assert_eq!(due(now), (false, None));
        let near = now.after(DAY * 70 + Duration::from_secs(1));
        assert_eq!(due(near), (true, Some("ends in 29 days".to_owned())));
        assert!(!due(near.after(DAY / 2)).0);
        let text = Some("ends in 28 days".to_owned());
        assert_eq!(due(near.after(DAY)), (true, text));
        // The clock was set back.
        assert!(due(near).0);
        assert_eq!(due(now.after(DAY * 101)).1.as_deref(), Some("has expired"));
        assert!(due(UnixTime(0)).1.unwrap().contains("check the clock"));
        assert!(!due(now).0 && due(near).0);
    }
}
