//! What a plugin waits for: others that it requires, devices and files that it needs.

use crate::hub::{Home, eventually, signal_pid};
use serde_json::Value;

const CORE: &str = "corebin: mqttcore\n";

fn since(info: &Value) -> i64 {
    info["StartTimeMSE"].as_i64().unwrap()
}

#[test]
fn a_plugin_starts_after_those_it_requires_are_ready_and_ends_before_them() {
    let home = Home::new(&format!(
        "{CORE}autostart: [top, middle, base]\nplugins:\n  top: {{requires: [middle]}}\n  \
         middle: {{requires: [base]}}\n  base: {{needs: [open]}}\n"
    ));
    // Each says when it ends; base is started when it is let.
    let script =
        "trap 'date +%s%N > ended.$(basename $0); exit 0' TERM; while :; do sleep 0.02; done";
    home.plugin("top", script);
    home.plugin("middle", script);
    home.plugin("base", script);
    let hub = home.up();
    let top = eventually("top to wait", || {
        let info = hub.info("top");
        (info["Phase"] == "blocked").then_some(info)
    });
    assert!(
        top["Cause"]
            .as_str()
            .unwrap()
            .starts_with("requires 'middle'"),
        "{top}"
    );
    hub.wait_phase("base", "blocked");
    assert_eq!(hub.info("middle")["Run"], 0);
    std::fs::write(hub.path("open"), "").unwrap();
    let top = hub.wait_phase("top", "running");
    let (middle, base) = (hub.info("middle"), hub.info("base"));
    assert!(since(&base) <= since(&middle) && since(&middle) <= since(&top));

    hub.ok(&["stop", "all"]);
    let ended = |id: &str| -> u128 {
        let text = std::fs::read_to_string(hub.path(format!("ended.{id}"))).unwrap();
        text.trim().parse().unwrap()
    };
    assert!(ended("top") < ended("middle") && ended("middle") < ended("base"));
    hub.down();
}

#[test]
fn a_dependant_goes_on_without_or_follows_the_one_it_requires_as_configured() {
    let home = Home::new(&format!(
        "{CORE}autostart: [base, keeps, follows]\nplugins:\n  keeps: {{requires: [base]}}\n  \
         follows: {{requires: [base], restart: {{on: {{dependencyLost: {{policy: always}}}}}}}}\n"
    ));
    for id in ["base", "keeps", "follows"] {
        home.plugin(id, "exec sleep 1000");
    }
    let hub = home.up();
    hub.wait_phase("keeps", "running");
    hub.wait_phase("follows", "running");
    let (base, keeps, follows) = (hub.pid("base"), hub.pid("keeps"), hub.pid("follows"));
    signal_pid(base, 9);
    let info = eventually("the follower to follow", || {
        let info = hub.info("follows");
        (info["Phase"] == "running" && info["PID"] != follows).then_some(info)
    });
    assert!(since(&info) >= since(&hub.info("base")), "{info}");
    hub.wait_log(
        "follows",
        "was stopped as 'base', which it requires, went away",
    );
    assert_eq!(hub.pid("keeps"), keeps);
    // Stopped by hand it is stopped; whoever is started then is told why it has to wait.
    hub.ok(&["stop", "base"]);
    hub.ok(&["stop", "keeps"]);
    let said = hub.hubcli(&["start", "keeps"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("requires 'base', which is stopped"), "{text}");
    hub.ok(&["start", "base"]);
    hub.wait_phase("keeps", "running");
    hub.down();
}

#[test]
fn a_plugin_that_needs_a_device_is_blocked_until_it_appears_and_started_at_once() {
    let home = Home::new(&format!(
        "{CORE}autostart: [zwave]\nplugins:\n  zwave: {{needs: [dev/ttyACM0]}}\n"
    ));
    home.plugin("zwave", "exec sleep 1000");
    let hub = home.up();
    let blocked = hub.wait_phase("zwave", "blocked");
    let cause = blocked["Cause"].as_str().unwrap();
    assert!(cause.contains("dev/ttyACM0, which is not there"), "{cause}");
    std::fs::create_dir(hub.path("dev")).unwrap();
    std::fs::write(hub.path("dev/ttyACM0"), "").unwrap();
    hub.wait_phase("zwave", "running");
    hub.down();
}
