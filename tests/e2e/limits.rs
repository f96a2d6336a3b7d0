//! Limits on what plugins use: what exceeds them is told and restarted, and the reason is kept.

use crate::hub::{Home, eventually};
use std::fs;

#[test]
fn a_memory_eater_is_restarted_and_what_it_did_is_kept() {
    let home = Home::new(
        "corebin: mqttcore\nautostart: [unseen, eater]\nmonitor: {interval: 1h}\nrestart: {firstDelay: 1h}\n\
         plugins:\n  eater: {limits: {memory: 24MiB, strikes: 2}, monitor: {interval: 200ms}}\n  \
         unseen: {monitor: {interval: 0}}\n",
    );
    home.plugin("unseen", "exec sleep 1000");
    // A shell that keeps a word of some 60 MiB.
    home.plugin(
        "eater",
        "echo hungry; x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo fed; while :; do sleep 1; done",
    );
    let hub = home.up();
    let info = eventually("the end of the first run", || {
        let info = hub.info("eater");
        (info["Phase"] == "backoff").then_some(info)
    });
    let cause = info["Cause"].as_str().unwrap();
    assert!(
        cause.contains("memory ") && cause.contains("limit 24 MiB"),
        "{cause}"
    );
    assert_eq!(info["Limits"]["memory"], 24 << 20);
    let evidence = fs::read_to_string(hub.path("logs/eater.limit-1.txt")).unwrap();
    for wanted in [
        "eater run 1",
        "limit 24 MiB, 2 samples in a row; action: restart",
        "Rss ",
        "biggest mappings",
        "descriptors by kind",
        "hungry",
    ] {
        assert!(evidence.contains(wanted), "{wanted} in {evidence}");
    }
    // One whose interval is zero is left out, also of the first look.
    assert_eq!(hub.info("unseen")["OpenFDs"], -1);
    hub.down();
}

#[test]
fn a_cpu_eater_is_told_of_and_lives_on() {
    let home = Home::new(
        "corebin: mqttcore\nautostart: [eater]\nmonitor: {interval: 200ms}\n\
         limits: {cpu: 10%, strikes: 2, action: event}\n",
    );
    home.plugin("eater", "while :; do :; done");
    let hub = home.up();
    let evidence = hub.path("logs/eater.limit-1.txt");
    let text = eventually("the evidence", || fs::read_to_string(&evidence).ok());
    assert!(
        text.contains("limit 10 %, 2 samples in a row; action: event"),
        "{text}"
    );
    let info = hub.info("eater");
    assert_eq!(
        (&info["Phase"], &info["Run"]),
        (&"running".into(), &1.into())
    );
    assert!(info["CPUTimeMS"].as_i64().unwrap() > 0 && info["OpenFDs"].as_i64().unwrap() > 2);
    assert!(info["PeakRSS"].as_i64() >= info["RSS"].as_i64(), "{info}");
    assert_eq!(info["Children"], 0);
    let core = hub.info("mqttcore");
    assert!(core["CPUTimeMS"].as_i64().unwrap() > 0, "{core}");
    hub.down();
}

#[test]
fn without_an_interval_nothing_is_measured() {
    let home = Home::new(
        "corebin: mqttcore\nautostart: [eater]\nmonitor: {interval: 0}\nlimits: {cpu: 1%, strikes: 1}\n",
    );
    home.plugin("eater", "exec sleep 1000");
    let hub = home.up();
    hub.pid("eater");
    let info = hub.info("eater");
    for field in ["Children", "OpenFDs", "CPUTimeMS", "PeakRSS"] {
        assert_eq!(info[field], -1, "{field}");
    }
    assert_eq!((&info["CPU"], &info["RSS"]), (&0.into(), &0.into()));
    hub.down();
}

#[test]
fn a_hard_limit_that_is_not_in_force_is_said() {
    let home = Home::new(
        "corebin: mqttcore\nautostart: [calm]\ncgroups: off\n\
         plugins:\n  calm: {limits: {memory: 1GiB, hard: true, pids: 50}}\n",
    );
    home.plugin("calm", "exec sleep 1000");
    let hub = home.up();
    hub.pid("calm");
    let why = hub.ok(&["why", "calm"]);
    for wanted in [
        "it runs, run 1; the hard limit of memory is not in force: ",
        "; the hard limit of pids is not in force: ",
        "cgroups: off",
    ] {
        assert!(why.contains(wanted), "{wanted} in {why}");
    }
    let own = hub.ok(&["why", "launcher"]);
    let wanted =
        "; runs are known by process group and mark, as the configuration says cgroups: off";
    assert!(own.contains(wanted), "{own}");
    hub.wait_log("launcher", "calm: the hard limit of pids is not in force: ");
    hub.down();
}
