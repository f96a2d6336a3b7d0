//! The unit file of systemd is well formed and says what spec §14 wants.

use crate::app::config::Config;
use std::collections::BTreeMap;

const UNIT: &str = include_str!("../../../config/hivehub.service");
const USER_UNIT: &str = include_str!("../../../config/user/hivehub.service");

/// Sections with their settings; a setting may come several times.
fn sections(text: &str) -> BTreeMap<&str, Vec<(&str, &str)>> {
    let mut sections: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let mut section = "";
    for line in text.lines() {
        match line.as_bytes() {
            [] | [b'#' | b';', ..] => {}
            [b'[', .., b']'] => {
                section = line.trim_matches(['[', ']']);
                assert!(
                    sections.insert(section, Vec::new()).is_none(),
                    "{section} comes twice"
                );
            }
            _ => {
                let (key, value) = line.split_once('=').expect(line);
                assert!(key.chars().all(|c| c.is_ascii_alphanumeric()), "{line}");
                assert!(!value.is_empty() && value.trim() == value, "{line}");
                sections.get_mut(section).expect(line).push((key, value));
            }
        }
    }
    sections
}

#[test]
fn it_says_how_the_hub_is_kept() {
    let sections = sections(UNIT);
    assert_eq!(
        sections.keys().copied().collect::<Vec<_>>(),
        ["Install", "Service", "Unit"]
    );
    let service: BTreeMap<&str, &str> = sections["Service"].iter().copied().collect();
    for (key, value) in [
        ("Type", "notify"),
        ("KillMode", "mixed"),
        ("RestartPreventExitStatus", "78"),
        ("RuntimeDirectory", "hiveot"),
        ("RuntimeDirectoryPreserve", "yes"),
        ("ExecStart", "/opt/hiveot/bin/launcher"),
    ] {
        assert_eq!(service.get(key), Some(&value), "{key}");
    }
    assert_eq!(
        sections["Unit"]
            .iter()
            .find(|(key, _)| *key == "StartLimitIntervalSec"),
        Some(&("StartLimitIntervalSec", "0"))
    );
    assert_eq!(sections["Install"], [("WantedBy", "multi-user.target")]);
    // An ordered stop of plugins and then the core must fit (T24).
    let patience: u64 = service["TimeoutStopSec"].parse().expect("seconds");
    assert!(patience >= 3 * Config::default().stop.grace.as_secs());
}

#[test]
fn that_of_a_user_keeps_the_hub_in_the_same_way() {
    let (of_user, of_system) = (sections(USER_UNIT), sections(UNIT));
    let service = &of_user["Service"];
    // All but what belongs to the places of the system.
    for setting in &of_system["Service"] {
        let places = [
            "ExecStartPre",
            "ExecStart",
            "User",
            "Group",
            "WorkingDirectory",
            "StateDirectory",
            "LogsDirectory",
            "RuntimeDirectory",
            "RuntimeDirectoryPreserve",
            "ProtectSystem",
            "ProtectHome",
        ];
        assert_eq!(
            service.contains(setting),
            !places.contains(&setting.0),
            "{setting:?}"
        );
    }
    assert!(service.contains(&("ExecStart", "%h/hiveot/bin/launcher")));
    assert_eq!(of_user["Install"], [("WantedBy", "default.target")]);
    assert!(of_user["Unit"].contains(&("StartLimitIntervalSec", "0")));
}
