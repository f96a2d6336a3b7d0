//! Points in time as the original writes them.
//!
//! Invariant: the wall clock is shown here, never decided by.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::SystemTime;

/// RFC 3339 in the local zone with whole seconds, `Z` for UTC: how `ModifiedTime` is written (HP 1.5).
///
/// Empty for a time outside of years -9999 to 9999.
#[must_use]
pub fn local_time(time: SystemTime) -> String {
    in_zone(time, TimeZone::system())
}

fn in_zone(time: SystemTime, zone: TimeZone) -> String {
    let Ok(timestamp) = Timestamp::try_from(time) else {
        return String::new();
    };
    let zoned = timestamp.to_zoned(zone);
    if zoned.offset().seconds() == 0 {
        zoned.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

/// The form of thing descriptions: up to three digits of a second, zone without colon (HP 1.21).
///
/// Empty for a time outside of years -9999 to 9999.
#[must_use]
pub fn td_time(time: SystemTime) -> String {
    td_in_zone(time, TimeZone::system())
}

fn td_in_zone(time: SystemTime, zone: TimeZone) -> String {
    let Ok(timestamp) = Timestamp::try_from(time) else {
        return String::new();
    };
    let zoned = timestamp.to_zoned(zone);
    let millis = zoned.subsec_nanosecond() / 1_000_000;
    let mut fraction = format!(".{millis:03}");
    let kept = fraction.trim_end_matches('0').trim_end_matches('.').len();
    fraction.truncate(kept);
    format!(
        "{}{fraction}{}",
        zoned.strftime("%Y-%m-%dT%H:%M:%S"),
        zoned.strftime("%z")
    )
}

/// The local zone, found without a look through the whole database of zones, for programs that live for a moment.
#[must_use]
pub fn local_zone() -> TimeZone {
    if std::env::var_os("TZ").is_some() {
        return TimeZone::system();
    }
    std::fs::read("/etc/localtime")
        .ok()
        .and_then(|data| TimeZone::tzif("Local", &data).ok())
        .unwrap_or_else(TimeZone::system)
}

/// Unix milliseconds, the unit of every `…MSE`; 0 for times before 1970.
#[must_use]
pub fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_have_the_forms_of_the_original() {
        let time = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let west = TimeZone::fixed(jiff::tz::offset(-7));
        let at = time(1_698_434_810_456);
        assert_eq!(in_zone(at, west.clone()), "2023-10-27T12:26:50-07:00");
        assert_eq!(in_zone(at, TimeZone::UTC), "2023-10-27T19:26:50Z");
        assert_eq!(td_in_zone(at, west.clone()), "2023-10-27T12:26:50.456-0700");
        assert_eq!(
            td_in_zone(time(1_698_434_810_450), west.clone()),
            "2023-10-27T12:26:50.45-0700"
        );
        assert_eq!(
            td_in_zone(time(1_698_434_810_000), west),
            "2023-10-27T12:26:50-0700"
        );
        assert_eq!(unix_ms(at), 1_698_434_810_456);
        assert_eq!(unix_ms(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
