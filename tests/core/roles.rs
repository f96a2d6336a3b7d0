//! The table of HP 1.14 walked on the wire by clients of other makers: role × direction × topic, and what is beside it.
//!
//! Invariant: the expectations are the document's table, written out below; a grant too many fails as a grant too few does.

use crate::paho::{Paho, python_or_left_out};
use crate::server::{Core, Kind};
use serde_json::json;
use std::process::{Command, Stdio};

/// A role as the document has it: what it may publish and subscribe, `kind/any` or `kind/self`.
struct Row {
    login: &'static str,
    kind: Kind,
    role: &'static str,
    publish: &'static [&'static str],
    subscribe: &'static [&'static str],
    /// Whether auth's capability `profile`, and the state service's `store`, are open to it.
    profile: bool,
    store: bool,
}

const TABLE: [Row; 7] = [
    Row {
        login: "nobody",
        kind: Kind::User,
        role: "",
        publish: &[],
        subscribe: &[],
        profile: false,
        store: false,
    },
    Row {
        login: "vera",
        kind: Kind::User,
        role: "viewer",
        publish: &[],
        subscribe: &["event/any"],
        profile: true,
        store: true,
    },
    Row {
        login: "otto",
        kind: Kind::User,
        role: "operator",
        publish: &["action/any"],
        subscribe: &["event/any"],
        profile: true,
        store: true,
    },
    Row {
        login: "mara",
        kind: Kind::User,
        role: "manager",
        publish: &["action/any", "config/any"],
        subscribe: &["event/any"],
        profile: true,
        store: false,
    },
    Row {
        login: "ada",
        kind: Kind::User,
        role: "admin",
        publish: &["action/any", "config/any", "rpc/any"],
        subscribe: &["event/any"],
        profile: true,
        store: true,
    },
    Row {
        login: "lamp",
        kind: Kind::Device,
        role: "device",
        publish: &["event/self"],
        subscribe: &["event/any", "action/self", "config/self"],
        profile: false,
        store: false,
    },
    Row {
        login: "state",
        kind: Kind::Service,
        role: "service",
        publish: &["action/any", "config/any", "rpc/any", "event/self"],
        subscribe: &["event/any", "rpc/self", "action/self", "config/self"],
        profile: true,
        store: true,
    },
];

/// To whom the service `state` opens its capability `store`: managers are left out, so that it shows.
const STORE: [&str; 3] = ["viewer", "operator", "service"];

fn core_with_everybody() -> Core {
    let core = Core::start();
    for row in &TABLE {
        core.add(row.kind, row.login, row.role);
    }
    // The state service says who may use its store.
    let args = json!({"capability": "store", "roles": STORE});
    core.asker("state")
        .ask("rpc/auth/profile/setServicePermissions", &args);
    core
}

/// Whether a list of the table has the right to `kind` of `agent`.
fn listed(list: &[&str], kind: &str, agent: &str, own: &str) -> bool {
    list.contains(&format!("{kind}/any").as_str())
        || (agent == own && list.contains(&format!("{kind}/self").as_str()))
}

/// Topics to publish, with what the document expects.
fn publications(row: &Row) -> Vec<(String, bool)> {
    let own = row.login;
    let mut all = Vec::new();
    for kind in ["event", "action", "config", "rpc"] {
        for agent in [own, "other", "launcher"] {
            let granted = listed(row.publish, kind, agent, own);
            all.push((format!("{kind}/{agent}/thing/name/{own}"), granted));
            // In the name of another, of nobody, and with one level too few or too many.
            for wrong in [
                format!("{kind}/{agent}/thing/name/admin"),
                format!("{kind}/{agent}/thing/name"),
                format!("{kind}/{agent}/thing"),
                format!("{kind}/{agent}/thing/name/{own}/{own}"),
                format!("{kind}/{agent}/thing/name/"),
            ] {
                all.push((wrong, false));
            }
        }
    }
    let blanket = listed(row.publish, "rpc", "auth", own);
    all.extend([
        (
            format!("rpc/auth/profile/getProfile/{own}"),
            row.profile || blanket,
        ),
        (format!("rpc/auth/manageClients/getCount/{own}"), blanket),
        (format!("rpc/auth/roles/createRole/{own}"), blanket),
        (format!("rpc/state/store/get/{own}"), row.store || blanket),
        (format!("rpc/state/other/get/{own}"), blanket),
        (format!("rpc/state/store/get/{own}x"), false),
        (format!("rpc/other/store/get/{own}"), blanket),
        // Anybody may write to any inbox, but for those who are nobody at all.
        ("_INBOX/admin-hub-1".to_owned(), true),
        (format!("_INBOX/{own}-1"), true),
        (format!("EVENT/{own}/thing/name/{own}"), false),
        (format!("event//{own}/name/{own}"), false),
        (format!("other/{own}/thing/name/{own}"), false),
        (format!("/event/{own}/thing/name/{own}"), false),
        (format!("$SYS/{own}/thing/name/{own}"), false),
        (format!("$share/g/event/{own}/{own}"), false),
    ]);
    all
}

/// Filters to subscribe, with what the document expects.
fn subscriptions(row: &Row) -> Vec<(String, bool)> {
    let own = row.login;
    let mut all = Vec::new();
    for kind in ["event", "action", "config", "rpc"] {
        for agent in [own, "other", "launcher", "+"] {
            let granted = listed(row.subscribe, kind, agent, own);
            for filter in [
                format!("{kind}/{agent}/+/+/#"),
                format!("{kind}/{agent}/thing/name/#"),
                format!("{kind}/{agent}/thing/name/{own}"),
                format!("{kind}/{agent}/+/$td/+"),
                format!("{kind}/{agent}/+/+"),
                format!("$share/group/{kind}/{agent}/+/+/#"),
            ] {
                all.push((filter, granted));
            }
            for short in [
                format!("{kind}/{agent}/#"),
                format!("{kind}/{agent}/+"),
                format!("{kind}/{agent}"),
            ] {
                all.push((short, false));
            }
        }
        all.push((format!("{kind}/#"), false));
        all.push((format!("$share/g/{kind}/#"), false));
    }
    all.extend([
        (format!("_INBOX/{own}-1"), true),
        (format!("_INBOX/{own}-1/#"), true),
        // Of an own connection that is another one, of others, and of all.
        (format!("_INBOX/{own}-2"), false),
        (format!("_INBOX/{own}"), false),
        ("_INBOX/admin-hub-1".to_owned(), false),
        ("_INBOX/+".to_owned(), false),
        ("_INBOX/#".to_owned(), false),
        ("$share/g/_INBOX/+".to_owned(), false),
        ("#".to_owned(), false),
        ("+".to_owned(), false),
        ("+/+/+/+/#".to_owned(), false),
        (format!("+/{own}/+/+/#"), false),
        ("$SYS/#".to_owned(), false),
        ("$SYS/+/+/+/#".to_owned(), false),
        ("/+/+/+/+".to_owned(), false),
    ]);
    all
}

#[test]
fn paho_walks_the_table_over_tls_and_websocket() {
    let Some(python) = python_or_left_out("the role table by paho") else {
        return;
    };
    let core = core_with_everybody();
    let mut paho = Paho::start(python, &core);
    let mut wrong = Vec::new();
    for (number, row) in TABLE.iter().enumerate() {
        let over = ["tcp", "web"][number % 2];
        assert_eq!(paho.connect(&core, row.login, over), 0, "{}", row.login);
        let (topics, expected): (Vec<_>, Vec<_>) = publications(row).into_iter().unzip();
        let codes = paho.publish(row.login, &topics);
        for ((topic, granted), code) in topics.iter().zip(expected).zip(codes) {
            if code != if granted { 0 } else { 0x87 } {
                wrong.push(format!(
                    "{:?} publishes {topic}: {code:#x}, granted should be {granted}",
                    row.role
                ));
            }
        }
        let (filters, expected): (Vec<_>, Vec<_>) = subscriptions(row).into_iter().unzip();
        let codes = paho.subscribe(row.login, &filters);
        for ((filter, granted), code) in filters.iter().zip(expected).zip(codes) {
            if code != if granted { 1 } else { 0x87 } {
                wrong.push(format!(
                    "{:?} subscribes {filter}: {code:#x}, granted should be {granted}",
                    row.role
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of the table:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A program of mosquitto on the core's socket, in the name of a row; what it says with `-d`.
fn mosquitto(core: &Core, program: &str, row: &Row, args: &[String]) -> String {
    let mut command = Command::new(program);
    command.args([
        "-V",
        "mqttv5",
        "-d",
        "-q",
        "1",
        "-u",
        row.login,
        "-P",
        core.token(row.login).trim(),
    ]);
    command
        .args(["-i", &format!("{}-1", row.login)])
        .arg("--unix")
        .arg(core.socket());
    let output = command.args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}; this test needs the package mosquitto-clients")
    });
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn mosquitto_pub_and_sub_walk_the_table() {
    let core = core_with_everybody();
    let mut wrong = Vec::new();
    for row in &TABLE {
        let filters = subscriptions(row);
        let mut args = vec!["-E".to_owned()];
        args.extend(
            filters
                .iter()
                .flat_map(|(filter, _)| ["-t".to_owned(), filter.clone()]),
        );
        let said = mosquitto(&core, "mosquitto_sub", row, &args);
        let (_, codes) = said
            .split_once("Subscribed (mid: 1): ")
            .unwrap_or_else(|| panic!("{said}"));
        let codes: Vec<&str> = codes.lines().next().unwrap().split(", ").collect();
        assert_eq!(codes.len(), filters.len());
        for ((filter, granted), code) in filters.iter().zip(codes) {
            if code != if *granted { "1" } else { "135" } {
                wrong.push(format!(
                    "{:?} subscribes {filter}: {code}, granted should be {granted}",
                    row.role
                ));
            }
        }
        // A process for each: those that differ by their form only are paho's part.
        let formed = |topic: &str| {
            topic.split('/').count() == 5
                && topic.ends_with(row.login)
                && !topic.contains("launcher")
        };
        for (topic, granted) in publications(row) {
            if !formed(&topic) {
                continue;
            }
            let args = ["-t", &topic, "-m", "x"].map(str::to_owned);
            let said = mosquitto(&core, "mosquitto_pub", row, &args);
            let code = if granted { "RC:0)" } else { "RC:135)" };
            if !said.contains(code) {
                wrong.push(format!(
                    "{:?} publishes {topic}, granted should be {granted}: {said}",
                    row.role
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of the table:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What gets through in the end: nobody hears what is not his, whatever was granted.
#[test]
fn what_is_refused_reaches_nobody() {
    let Some(python) = python_or_left_out("messages by paho") else {
        return;
    };
    let core = core_with_everybody();
    let mut paho = Paho::start(python, &core);
    for (login, over) in [
        ("vera", "web"),
        ("lamp", "tcp"),
        ("otto", "tcp"),
        ("state", "web"),
    ] {
        assert_eq!(paho.connect(&core, login, over), 0);
    }
    let all = ["event/+/+/+/#", "action/lamp/+/+/#"].map(str::to_owned);
    assert_eq!(paho.subscribe("lamp", &all), [1, 1]);
    assert_eq!(paho.subscribe("vera", &all), [1, 0x87]);
    // Twice in the same filter's reach: one copy (HP 1.13).
    assert_eq!(
        paho.subscribe(
            "vera",
            &["event/lamp/+/+/#".to_owned(), "event/lamp/t/+/#".to_owned()]
        ),
        [1, 1]
    );
    let sent = [
        ("otto", "action/lamp/t/on/otto", true),
        ("otto", "event/otto/t/x/otto", false),
        ("otto", "action/lamp/t/on/vera", false),
        ("lamp", "event/lamp/t/x/lamp", true),
        ("lamp", "event/otto/t/x/lamp", false),
        ("vera", "action/lamp/t/on/vera", false),
        ("state", "action/lamp/t/off/state", true),
        ("state", "event/state/t/end/state", true),
    ];
    for (who, topic, granted) in sent {
        let code = paho.publish(who, &[topic.to_owned()]);
        assert_eq!(code, [if granted { 0 } else { 0x87 }], "{who} {topic}");
    }
    let end = "event/state/t/end/state";
    assert_eq!(paho.heard("vera", end), ["event/lamp/t/x/lamp"]);
    let expected = [
        "action/lamp/t/on/otto",
        "event/lamp/t/x/lamp",
        "action/lamp/t/off/state",
    ];
    let heard = paho.heard("lamp", end);
    assert_eq!(heard, expected);

    // Wills are judged as publications are.
    for (id, topic) in [
        ("lamp-w1", "event/otto/t/will/lamp"),
        ("lamp-w2", "event/lamp/t/will/lamp"),
    ] {
        let step = json!({"do": "connect", "as": id, "user": "lamp", "password": core.token("lamp"), "id": id,
            "over": "web", "will": [topic, false]});
        assert_eq!(paho.step(&step), 0);
        paho.step(&json!({"do": "drop", "as": id}));
    }
    assert_eq!(paho.heard("vera", "event/lamp/t/will/lamp"), [""; 0]);
    assert_eq!(paho.publish("state", &[end.to_owned()]), [0]);
    assert_eq!(paho.heard("vera", end), [""; 0], "one copy");

    // What is kept is for those only who may have it.
    let kept = json!({"do": "publish", "as": "lamp", "messages": [["event/lamp/t/kept/lamp", "1", true],
        ["event/otto/t/kept/lamp", "1", true]]});
    let codes = paho.step(&kept);
    assert!(
        codes == json!([0, 0x87]) || codes == json!([0x9a, 0x87]),
        "{codes}"
    );
    assert_eq!(paho.connect(&core, "mara", "web"), 0);
    assert_eq!(paho.subscribe("mara", &["event/+/+/+/#".to_owned()]), [1]);
    assert_eq!(paho.publish("state", &[end.to_owned()]), [0]);
    let heard = paho.heard("mara", end);
    assert!(
        heard.is_empty() || heard == ["event/lamp/t/kept/lamp"],
        "{heard:?}"
    );
    assert_eq!(paho.connect(&core, "nobody", "tcp"), 0);
    assert_eq!(
        paho.subscribe(
            "nobody",
            &[
                "event/+/+/+/#".to_owned(),
                "$share/g/event/lamp/+/+/#".to_owned()
            ]
        ),
        [0x87, 0x87]
    );
}

#[test]
fn another_maker_logs_in_by_certificate_and_by_password() {
    let Some(python) = python_or_left_out("logins by paho") else {
        return;
    };
    let core = core_with_everybody();
    let args = json!({"userID": "pam", "password": "a long password", "role": "viewer"});
    core.asker("admin")
        .ask("rpc/auth/manageClients/addUser", &args);
    let mut paho = Paho::start(python, &core);
    let (cert, key) = core.client_certificate("vera");
    let steps = [
        ("vera", "tcp", json!(null), Some((&cert, &key)), 0),
        // A certificate speaks for its own name only.
        ("otto", "tcp", json!(null), Some((&cert, &key)), 0x86),
        ("vera", "tcp", json!(null), None, 0x86),
        ("pam", "web", json!("a long password"), None, 0),
        ("pam", "tcp", json!("a long passworD"), None, 0x86),
        ("pam", "tcp", json!(core.token("vera")), None, 0x86),
    ];
    for (number, (user, over, password, own, expected)) in steps.into_iter().enumerate() {
        let mut step = json!({"do": "connect", "as": format!("{number}"), "user": user, "id": format!("{user}-{number}"),
            "over": over, "password": password});
        if let Some((cert, key)) = own {
            step["cert"] = json!(cert);
            step["key"] = json!(key);
        }
        assert_eq!(paho.step(&step), expected, "{user} {number}");
        if expected == 0 {
            let codes = paho.subscribe(&number.to_string(), &["event/+/+/+/#".to_owned()]);
            assert_eq!(codes, [1]);
        }
    }
}
