//! A clock that is set by years while the hub runs (spec §9, §17).

use crate::hub::{Home, Hub, eventually, signal_pid};
use crate::means::{explained, left_out};
use crate::renewal::faketime;
use std::fs;

const SLEEPER: &str = "exec sleep 1000";

/// What is killed is back, what fails is tried again, what waits for an hour waits, and all of it is explained.
fn time_goes_on(hub: &Hub, what: &str) {
    let killed = hub.pid("killed");
    signal_pid(killed, 9);
    eventually(&format!("{what}: it is back"), || {
        (hub.pid("killed") != killed).then_some(())
    });
    let run = || hub.info("fails")["Run"].as_i64().unwrap();
    let before = run();
    eventually(&format!("{what}: it is tried again"), || {
        (run() > before + 1).then_some(())
    });
    explained(hub, "fails", &["code 3", "tried again"]);
    hub.ok(&["restart", "killed"]);
}

#[test]
fn clock_steps_of_ten_years_either_way_change_no_delay_and_lose_nothing() {
    let Some(library) = faketime() else {
        left_out(
            "a clock that is set by ten years",
            "there is no libfaketime",
        );
        return;
    };
    let home = Home::new(
        "logLevel: info\ncorebin: mqttcore\ncreatePluginCred: false\nautostart: [steady, killed, fails]\n\
         restart: {jitter: 0}\nplugins: {fails: {restart: {delay: 500ms, maxDelay: 500ms}}}\n",
    );
    home.plugin("steady", SLEEPER);
    home.plugin("killed", SLEEPER);
    home.plugin("fails", "exit 3");
    let clock = home.path("clock");
    fs::write(&clock, "+0\n").unwrap();
    let mut command = home.launcher();
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_CACHE_DURATION", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let hub = home.launch_by(command);
    hub.wait_for_bus();
    let steady = hub.pid("steady");
    let uptime = || hub.info("steady")["Uptime"].as_i64().unwrap();
    for (step, year) in [("+10y", "203"), ("-10y", "201")] {
        fs::write(&clock, format!("{step}\n")).unwrap();
        // The launcher's own log shows that it has taken it in.
        eventually("the clock is set", || {
            let log = hub.log("launcher");
            log.lines()
                .last()
                .is_some_and(|line| line.starts_with(year))
                .then_some(())
        });
        time_goes_on(&hub, step);
        assert_eq!(hub.pid("steady"), steady);
        assert!((0..3600).contains(&uptime()), "{}", uptime());
    }
    fs::write(&clock, "+0\n").unwrap();
    time_goes_on(&hub, "back");
    // Also on the bus, whose credentials were judged by other times.
    hub.wait_for_bus();
    explained(&hub, "launcher", &["it is connected to the bus"]);
    assert_eq!(hub.pid("steady"), steady);
    hub.down();
}
