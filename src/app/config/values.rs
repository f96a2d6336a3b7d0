//! Values of the configuration that are written as words: durations, sizes, signals (spec §4).
//!
//! Invariant: only the spellings of the specification; nothing is rounded, and what does not fit is refused.

use std::time::Duration;

/// Units of durations with their milliseconds.
const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Units of sizes with their bytes. MB is 10^6: the original's users are not assumed to mean MiB.
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// `250ms`, `5s`, `2m`, `1h`: a whole number and one unit.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    with_unit(text, &DURATIONS).map(Duration::from_millis)
}

/// `0`, `512B`, `64KiB`, `10MiB`, `1GiB`, `1MB`: bytes.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    match text {
        "0" => Some(0),
        _ => with_unit(text, &SIZES),
    }
}

/// `90%`, `150%`, `0`: percent of one processor.
#[must_use]
pub fn percent(text: &str) -> Option<u64> {
    match text {
        "0" => Some(0),
        _ => with_unit(text, &[("%", 1)]),
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, worth) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*worth)
}

/// A duration as it is written in the configuration.
#[must_use]
pub fn shown_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    DURATIONS
        .iter()
        .rev()
        .find(|(_, worth)| {
            millis >= u128::from(*worth) && millis.is_multiple_of(u128::from(*worth))
        })
        .map_or_else(
            || "0s".to_owned(),
            |(unit, worth)| format!("{}{unit}", millis / u128::from(*worth)),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_spellings_of_the_specification() {
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            let wanted = Duration::from_millis(millis);
            assert_eq!(duration(text), Some(wanted));
            assert_eq!(shown_duration(wanted), text);
        }
        for bad in [
            "",
            "5",
            "s",
            "-5s",
            "5 s",
            "1.5s",
            "5S",
            "1d",
            "1h30m",
            "99999999999999999999s",
            "18446744073709551615h",
            "5é",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_say_what_their_unit_is() {
        for (text, bytes) in [
            ("0", 0),
            ("512B", 512),
            ("64KiB", 65_536),
            ("10MiB", 10_485_760),
            ("1GiB", 1_073_741_824),
            ("10MB", 10_000_000),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in [
            "",
            "10",
            "10M",
            "10mb",
            "1TiB",
            "1.5MiB",
            "-1B",
            "18446744073709551615GiB",
        ] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn percents_have_their_sign() {
        for (text, value) in [("0", 0), ("0%", 0), ("90%", 90), ("250%", 250)] {
            assert_eq!(percent(text), Some(value), "{text}");
        }
        for bad in [
            "",
            "90",
            "%",
            "-1%",
            "1.5%",
            "90 %",
            "99999999999999999999%",
        ] {
            assert_eq!(percent(bad), None, "{bad}");
        }
    }
}
