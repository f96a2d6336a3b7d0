//! What a plugin is given, and what its own settings change.

use crate::hub::{Home, eventually, signal_pid};
use std::fs;

/// Command line, variables and working folder of a process, as the system has them.
struct Process {
    args: Vec<String>,
    variables: Vec<String>,
    folder: std::path::PathBuf,
}

fn words(pid: i32, file: &str) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    text.trim_end_matches('\0')
        .split('\0')
        .map(str::to_owned)
        .collect()
}

fn process(pid: i32) -> Process {
    Process {
        args: words(pid, "cmdline"),
        variables: words(pid, "environ"),
        folder: fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
    }
}

#[test]
fn arguments_variables_folder_and_name_reach_the_program() {
    let home = Home::new(
        "logLevel: error\ncorebin: mqttcore\nautostart: [plain, east, west: sleep]\n\
         plugins:\n\
         \x20 plain: {args: ['1000']}\n\
         \x20 west: {args: ['1001']}\n\
         \x20 east:\n\
         \x20   instanceOf: sleep\n\
         \x20   args: ['1000', '0.5']\n\
         \x20   env: {TZ: UTC, SHARED: own}\n\
         \x20   envFile: east.env\n\
         \x20   cwd: stores/east\n",
    );
    for file in ["sleep", "plain"] {
        std::os::unix::fs::symlink("/bin/sleep", home.path("plugins").join(file)).unwrap();
    }
    fs::write(
        home.path("config/east.env"),
        "# of the site\nSHARED=file\nPLACE='at the sea'\n",
    )
    .unwrap();
    fs::create_dir_all(home.path("stores/east")).unwrap();
    let hub = home.up();
    let plugins = hub.path("plugins");
    let argv0 = |id: &str| plugins.join(id).to_str().unwrap().to_owned();

    let east = process(hub.pid("east"));
    assert_eq!(east.args, [argv0("east").as_str(), "1000", "0.5"]);
    assert_eq!(east.folder, hub.path("stores/east"));
    let value = |name: &str| {
        let all: Vec<&str> = east
            .variables
            .iter()
            .filter_map(|v| v.strip_prefix(&format!("{name}=")))
            .collect();
        assert!(all.len() <= 1, "{name} is there twice");
        all.first().map(|value| (*value).to_owned())
    };
    let home_text = hub
        .path("")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    for (name, expected) in [
        ("TZ", "UTC"),
        ("SHARED", "own"),
        ("PLACE", "at the sea"),
        ("LOGLEVEL", "error"),
        ("HIVEOT_HOME", home_text.as_str()),
        (
            "HIVEOT_SERVER",
            &format!("unix://{home_text}/run/mqttcore.sock"),
        ),
    ] {
        assert_eq!(value(name).as_deref(), Some(expected), "{name}");
    }
    assert!(value("HIVEOT_RUN").unwrap().starts_with("east.1."));
    assert_eq!(value("NOTIFY_SOCKET"), None);
    let info = hub.info("east");
    assert_eq!(
        info["Path"],
        argv0("sleep"),
        "path and size are the binary's"
    );

    let west = process(hub.pid("west"));
    assert_eq!(west.args, [argv0("west").as_str(), "1001"]);
    let plain = process(hub.pid("plain"));
    assert_eq!(plain.folder, hub.path(""), "the home");
    for id in ["east", "west", "plain"] {
        assert!(
            hub.path(format!("certs/{id}.token")).exists(),
            "{id} has credentials of its own"
        );
    }
    let descriptors: Vec<String> = {
        let mut all: Vec<_> = fs::read_dir(format!("/proc/{}/fd", hub.pid("plain")))
            .unwrap()
            .flatten()
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    };
    assert_eq!(descriptors, ["0", "1", "2"]);
    let stdin = fs::read_link(format!("/proc/{}/fd/0", hub.pid("plain"))).unwrap();
    assert_eq!(stdin.to_str(), Some("/dev/null"));

    // It is read at each start; a mistake in it blocks, and heals.
    fs::write(hub.path("config/east.env"), "SHARED=file\nnonsense\n").unwrap();
    let failed = hub.hubcli(&["restart", "east"]);
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        !failed.status.success() && text.contains("east.env:2: "),
        "{text}"
    );
    fs::write(hub.path("config/east.env"), "PLACE=inland\n").unwrap();
    hub.ok(&["start", "east"]);
    assert!(
        process(hub.pid("east"))
            .variables
            .contains(&"PLACE=inland".to_owned())
    );
    hub.down();
}

#[test]
fn policies_stop_signals_and_log_sizes_are_each_plugins_own() {
    let home = Home::new(
        "corebin: mqttcore\nautostart: [never, onfail-good, onfail-bad, always, polite, chatty]\n\
         restart: {delay: 1h}\nstop: {grace: 1h}\n\
         plugins:\n\
         \x20 never: {restart: {policy: never}}\n\
         \x20 onfail-good: {restart: {policy: on-failure}}\n\
         \x20 onfail-bad: {restart: {policy: on-failure, firstDelay: 1h}}\n\
         \x20 always: {restart: {firstDelay: 1h}}\n\
         \x20 polite: {stop: {signal: SIGUSR1}}\n\
         \x20 hard: {stop: {grace: 200ms}}\n\
         \x20 chatty: {logs: {maxSize: 4KiB, keep: 2}}\n",
    );
    let ends = |code: u8| format!("sleep 0.2; exit {code}");
    home.plugin("never", &ends(7));
    home.plugin("onfail-good", &ends(0));
    home.plugin("onfail-bad", &ends(1));
    home.plugin("always", &ends(0));
    home.plugin(
        "polite",
        "trap 'echo asked politely; exit 0' USR1\ntrap '' TERM\nwhile :; do sleep 0.05; done",
    );
    home.plugin("hard", "trap '' TERM; while :; do sleep 1000; done");
    home.plugin("chatty", "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i of a story that is rather long; done; exec sleep 1000");
    let hub = home.up();
    hub.ok(&["start", "hard"]);
    for (id, phase, code) in [
        ("never", "stopped", 7),
        ("onfail-good", "stopped", 0),
        ("onfail-bad", "backoff", 1),
        ("always", "backoff", 0),
    ] {
        let info = eventually(&format!("{id} has ended\n{}", hub.account()), || {
            let info = hub.info(id);
            (info["ExitCode"] == code && info["Phase"] == phase).then_some(info)
        });
        assert_eq!(info["StartCount"], 1, "{info}");
    }
    for id in ["polite", "hard"] {
        hub.pid(id);
        hub.ok(&["stop", id]);
    }
    hub.wait_log("polite", "asked politely");
    hub.wait_log("polite", "polite run 1 ended: stopped as asked");
    assert_eq!(hub.info("hard")["Signal"], "SIGKILL");

    hub.wait_log("chatty", "line 600 ");
    for (file, there) in [
        ("chatty.log.1", true),
        ("chatty.log.2", true),
        ("chatty.log.3", false),
    ] {
        let path = hub.path("logs").join(file);
        assert_eq!(path.exists(), there, "{file}");
        if there {
            assert!(fs::metadata(&path).unwrap().len() <= 4096, "{file}");
        }
    }
    // What polite caught was its own signal; the launcher's end uses it, too.
    hub.ok(&["start", "polite"]);
    let polite = hub.pid("polite");
    signal_pid(polite, 15);
    assert!(crate::hub::is_alive(polite));
    hub.down();
}

#[test]
fn settings_that_cannot_be_met_block_with_their_key_and_heal() {
    // One string of more than 128 KiB is more than the system takes.
    let huge = "x".repeat(140_000);
    let home = Home::new(&format!(
        "corebin: mqttcore\nautostart: [nowhere, unset, unread]\n\
         plugins:\n\
         \x20 nowhere: {{cwd: stores/nowhere}}\n\
         \x20 unset: {{envFile: unset.env}}\n\
         \x20 unread: {{instanceOf: unread.sh}}\n\
         \x20 long: {{envFile: long.env}}\n\
         \x20 huge: {{args: [{huge}]}}\n"
    ));
    for id in ["nowhere", "unset", "long", "huge"] {
        home.plugin(id, "exec sleep 1000");
    }
    fs::write(
        home.path("config/long.env"),
        format!("LONG={}\n", "x".repeat(140_000)),
    )
    .unwrap();
    let hub = home.up();
    for (id, parts) in [
        (
            "nowhere",
            [
                hub.path("stores/nowhere").to_str().unwrap(),
                "plugins.nowhere.cwd",
            ],
        ),
        (
            "unset",
            [
                hub.path("config/unset.env").to_str().unwrap(),
                "plugins.unset.envFile",
            ],
        ),
        (
            "unread",
            [
                hub.path("plugins/unread.sh").to_str().unwrap(),
                "no such file in plugins; put the executable at",
            ],
        ),
    ] {
        let info = hub.wait_phase(id, "blocked");
        for part in parts {
            assert!(
                info["Cause"].as_str().unwrap().contains(part),
                "no {part} in {info}"
            );
        }
    }
    for (id, way_out) in [
        ("huge", "shorten args, env or envFile"),
        ("long", "plugins.long.envFile"),
    ] {
        let output = hub.hubcli(&["start", id]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains(way_out), "{said}");
    }

    fs::create_dir_all(hub.path("stores/nowhere")).unwrap();
    fs::write(hub.path("config/unset.env"), "A=1\n").unwrap();
    fs::write(hub.path("config/long.env"), "LONG=no\n").unwrap();
    hub.home.plugin("unread.sh", "exec sleep 1000");
    hub.ok(&["start", "long"]);
    for id in ["nowhere", "unset", "unread"] {
        hub.pid(id);
    }
    hub.down();
}

#[test]
fn two_hubs_of_one_machine_may_have_the_same_program_under_the_same_id() {
    let hub = || {
        let home = Home::new(
            "corebin: mqttcore\nautostart: [shared]\nplugins: {shared: {args: ['1000']}}\n",
        );
        std::os::unix::fs::symlink("/bin/sleep", home.path("plugins/shared")).unwrap();
        home.up()
    };
    let (one, other) = (hub(), hub());
    let pids = [one.pid("shared"), other.pid("shared")];
    for hub in [&one, &other] {
        hub.ok(&["restart", "shared"]);
        assert!(!pids.contains(&hub.pid("shared")));
    }

    // A copy that somebody started by hand is another matter.
    one.ok(&["stop", "shared"]);
    let program = one.path("plugins/shared");
    let mut by_hand = std::process::Command::new(&program)
        .arg("1000")
        .spawn()
        .unwrap();
    let refused = one.hubcli(&["start", "shared"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains(&format!("already exists using PID {}", by_hand.id())),
        "{said}"
    );
    assert_eq!(one.info("shared")["Phase"], "foreign");
    by_hand.kill().unwrap();
    by_hand.wait().unwrap();
    one.pid("shared");
    one.down();
    other.down();
}
