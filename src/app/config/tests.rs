use super::*;
use crate::app::paths::{Overrides, Surroundings};
use nix::sys::stat::Mode;
use proptest::prelude::*;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Instant;
use supervision::limits::{LimitAction, Limits};
use supervision::policy::RestartMode;

fn good(text: &str) -> Config {
    parse(text.as_bytes(), "launcher").unwrap_or_else(|problems| {
        panic!("{text}\n{}", Problems::new(Path::new("l.yaml"), problems));
    })
}

fn lines_of(bytes: &[u8]) -> Vec<String> {
    let problems = parse(bytes, "launcher").expect_err("a problem");
    Problems::new(Path::new("l"), problems).lines().collect()
}

fn id(name: &str) -> PluginId {
    PluginId::new(name).expect("id")
}

fn folders(home: &Path, over: Overrides) -> Folders {
    let around = Surroundings {
        exe: home.join("bin/launcher"),
        argv0: "launcher".into(),
        cwd: home.to_owned(),
        user_home: Some(PathBuf::from("/home/bob")),
    };
    Folders::resolve(&around, &over).expect("folders")
}

const TOP_KEYS: &str = "expected one of attachstderr attachstdout autorestart autostart cgroups corebin createPluginCred creds events \
                        limits logLevel logplugins logPlugins logs logtofile monitor plugins restart runtime start stop";
const PLUGIN_KEYS: &str = "expected one of args cwd env envFile instanceOf limits logs monitor needs onCoreRestart ready requires restart start stop watchdog";
const ID: &str = "expected an id of 1 to 64 of A-Z a-z 0-9 _ and - (a program with another file name runs under such an \
                  id by instanceOf, in autostart by 'id: filename')";
const ENTRY: &str = "expected the id of a plugin, or 'id: filename' for a program under another id";
const YAML: &str = "expected key: value lines, indented by spaces, with quotes and brackets closed";
const LONG: &str = "a duration like 250ms, 5s, 2m or 1h, from 0s to 8760h";

/// Files that are wrong, with all the operator is told.
#[test]
fn every_problem_is_told_with_its_place() {
    let table: Vec<(&str, Vec<String>)> = vec![
        (
            "logLevle: info\nrestart:\n  dealy: 1s\nadopt: true\nvolume: 11\nplugins:\n  ow:\n    arg: [a]\n    user: bob\n",
            vec![
                format!("l:1:1: logLevle: is no known key; {TOP_KEYS}; did you mean logLevel?"),
                "l:3:3: restart.dealy: is no known key; expected one of delay factor firstDelay jitter maxDelay on policy \
                 stableAfter; did you mean delay?".to_owned(),
                format!("l:4:1: adopt: is not supported by this version; {TOP_KEYS}"),
                format!("l:5:1: volume: is no known key; {TOP_KEYS}"),
                format!("l:8:5: plugins.ow.arg: is no known key; {PLUGIN_KEYS}; did you mean args?"),
                format!("l:9:5: plugins.ow.user: is not supported by this version; {PLUGIN_KEYS}"),
            ],
        ),
        (
            "restart: {policy: on-failur, delay: 5 sec, factor: 0.5, jitter: 2, maxDelay: 1d}\n",
            vec![
                "l:1:19: restart.policy: has the value 'on-failur'; expected one of always on-failure never; did you mean \
                 on-failure?".to_owned(),
                format!("l:1:37: restart.delay: has the value '5 sec'; expected {LONG}"),
                "l:1:52: restart.factor: has the value '0.5'; expected a number from 1 to 100".to_owned(),
                "l:1:65: restart.jitter: has the value '2'; expected a number from 0 to 1".to_owned(),
                format!("l:1:78: restart.maxDelay: has the value '1d'; expected {LONG}"),
            ],
        ),
        (
            "stop: {signal: SIGSTOP, grace: 2h}\nstart: {timeout: 0s, parallel: many}\nlogs: {maxSize: 10, keep: -1}\n",
            vec![
                "l:1:16: stop.signal: has the value 'SIGSTOP'; expected the name of a signal that can end a program, like \
                 SIGTERM or SIGINT".to_owned(),
                "l:1:32: stop.grace: has the value '2h'; expected a duration like 250ms, 5s, 2m or 1h, from 0s to 1h".to_owned(),
                "l:2:18: start.timeout: has the value '0s'; expected a duration like 250ms, 5s, 2m or 1h, from 200ms to 1h"
                    .to_owned(),
                "l:2:32: start.parallel: has the value 'many'; expected a whole number from 0 to 1000".to_owned(),
                "l:3:17: logs.maxSize: has the value '10'; expected a size like 64KiB, 10MiB or 1GiB, from 1KiB to 1024GiB, \
                 or 0 for never".to_owned(),
                "l:3:27: logs.keep: has the value '-1'; expected a whole number from 0 to 999".to_owned(),
            ],
        ),
        (
            "limits: {memory: 20 MiB, cpu: 90, strikes: 0, action: kill, hard: maybe, pids: -1, disk: 1}\nmonitor: {interval: 10ms, of: x}\n\
             plugins:\n  a: {limits: {memory: 1B}}\ncorebin: {bin: x, limits: {cpu: 90.5%}}\n",
            vec![
                "l:1:18: limits.memory: has the value '20 MiB'; expected a size like 512KiB, 200MiB or 1GiB, from 64KiB to \
                 1048576GiB, or 0 for no limit".to_owned(),
                "l:1:31: limits.cpu: has the value '90'; expected percent of one processor like 90% or 150%, up to 100000%, or 0 \
                 for no limit".to_owned(),
                "l:1:44: limits.strikes: has the value '0'; expected a whole number from 1 to 1000".to_owned(),
                "l:1:55: limits.action: has the value 'kill'; expected one of restart event".to_owned(),
                "l:1:67: limits.hard: has the value 'maybe'; expected true or false".to_owned(),
                "l:1:80: limits.pids: has the value '-1'; expected a whole number from 0 to 4194304".to_owned(),
                "l:1:84: limits.disk: is no known key; expected one of action cpu hard memory pids strikes".to_owned(),
                "l:2:21: monitor.interval: has the value '10ms'; expected a duration like 500ms, 5s or 1m, from 100ms to 1h, or 0 \
                 for no sampling".to_owned(),
                "l:2:27: monitor.of: is no known key; expected one of interval".to_owned(),
                "l:4:24: plugins.a.limits.memory: has the value '1B'; expected a size like 512KiB, 200MiB or 1GiB, from 64KiB to \
                 1048576GiB, or 0 for no limit".to_owned(),
                "l:5:33: corebin.limits.cpu: has the value '90.5%'; expected percent of one processor like 90% or 150%, up to \
                 100000%, or 0 for no limit".to_owned(),
            ],
        ),
        (
            "creds: {clientCert: 1, certDays: 0, renewAt: 1.5}\n",
            vec![
                "l:1:21: creds.clientCert: has the value '1'; expected true or false".to_owned(),
                "l:1:34: creds.certDays: has the value '0'; expected a whole number from 1 to 36500".to_owned(),
                "l:1:46: creds.renewAt: has the value '1.5'; expected a number from 0.1 to 0.95".to_owned(),
            ],
        ),
        (
            "logLevel: inf\nlogtofile: maybe\nattachstderr: \"true\"\nautorestart: 1\ncreatePluginCred: [yes]\ncorebin: [x]\n",
            vec![
                "l:1:11: logLevel: has the value 'inf'; expected one of debug info warning warn error; did you mean info?".to_owned(),
                "l:2:12: logtofile: has the value 'maybe'; expected true or false".to_owned(),
                "l:3:15: attachstderr: has the value 'true'; expected true or false".to_owned(),
                "l:4:14: autorestart: has the value '1'; expected true or false".to_owned(),
                "l:5:19: createPluginCred: has a list; expected true or false".to_owned(),
                "l:6:10: corebin: has a list; expected the file name of a program in the bin folder, like mqttcore, or for another \
                 broker a map with bin, args, url, auth, ready and limits".to_owned(),
            ],
        ),
        (
            "autostart: [a, b, a]\nautostart: [c]\nlogplugins: true\nlogPlugins: false\ncorebin: ../x\nruntime: y\n",
            vec![
                "l:1:19: autostart[2]: lists 'a' again, first in line 1; expected each plugin once".to_owned(),
                "l:2:1: autostart: is written twice, first in line 1; expected each key once".to_owned(),
                "l:4:1: logPlugins: means the same as logplugins in line 3; expected one of the two".to_owned(),
                "l:5:10: corebin: has the value '../x'; expected the file name of a program in the bin folder, like mqttcore, or for another \
                 broker a map with bin, args, url, auth, ready and limits".to_owned(),
                "l:6:1: runtime: means the same as corebin in line 5; expected one of the two".to_owned(),
            ],
        ),
        (
            "corebin: mqttcore\nautostart:\n  - admin\n  - a.b\n  - launcher\n  - mqttcore\n  -\n  - [x]\n  - p: q/r\n  \
             - {p: q, r: s}\n  - p: q\n  - ow: other\nplugins:\n  core: {}\n  ow: {instanceOf: owserver}\n  mqttcore:\n",
            vec![
                format!("l:3:5: autostart[0]: the name 'admin' is reserved for the hub itself; {ID}"),
                format!("l:4:5: autostart[1]: the name has the character '.'; allowed are A-Z a-z 0-9 _ and -; {ID}"),
                format!("l:5:5: autostart[2]: 'launcher' is the launcher's own client id; {ID}"),
                "l:6:5: autostart[3]: 'mqttcore' is the core, which is started first anyway; expected the id of a plugin".to_owned(),
                format!("l:7:4: autostart[4]: has no value; {ENTRY}"),
                format!("l:8:5: autostart[5]: has a list; {ENTRY}"),
                "l:9:8: autostart[6].p: has the value 'q/r'; expected the file name of a program in the plugins folder".to_owned(),
                format!("l:10:5: autostart[7]: has a map; {ENTRY}"),
                "l:12:9: autostart[9]: runs 'other' as 'ow', but plugins.ow.instanceOf says 'owserver'; expected the same \
                 file name in both, or in one only".to_owned(),
                format!("l:14:3: plugins.core: the name 'core' is reserved for the hub itself; {ID}"),
                "l:16:3: plugins.mqttcore: 'mqttcore' is the core, which is started first anyway; expected the id of a plugin"
                    .to_owned(),
            ],
        ),
        (
            "plugins:\n  a:\n    args: -x\n    env: {A=B: 1, LOGLEVEL: debug, C: [1], D: , E: null}\n    envFile: ~bob/x\n    \
             cwd: \"\"\n    instanceOf: ../x\n  b: 5\n  c: {args: [null, [1]]}\n  c: {}\n",
            vec![
                "l:3:11: plugins.a.args: has the value '-x'; expected a list of arguments".to_owned(),
                "l:4:11: plugins.a.env.'A=B': has a name with '=' or a zero byte; expected the name of a variable".to_owned(),
                "l:4:19: plugins.a.env.LOGLEVEL: is a variable that the launcher itself sets; expected another variable".to_owned(),
                "l:4:39: plugins.a.env.C: has a list; expected text; \"\" for an empty value".to_owned(),
                "l:4:44: plugins.a.env.D: has no value; expected text; \"\" for an empty value".to_owned(),
                "l:4:52: plugins.a.env.E: has no value; expected text; \"\" for an empty value".to_owned(),
                "l:5:14: plugins.a.envFile: has the value '~bob/x'; expected a path; ~ only alone or before a /".to_owned(),
                "l:6:10: plugins.a.cwd: has the value ''; expected a path; ~ only alone or before a /".to_owned(),
                "l:7:17: plugins.a.instanceOf: has the value '../x'; expected the file name of a program in the plugins folder"
                    .to_owned(),
                "l:8:6: plugins.b: has the value '5'; expected key: value lines".to_owned(),
                "l:9:14: plugins.c.args[0]: has no value; expected text; \"\" for an empty argument".to_owned(),
                "l:9:20: plugins.c.args[1]: has a list; expected text; \"\" for an empty argument".to_owned(),
                "l:10:3: plugins.c: is written twice, first in line 9; expected each key once".to_owned(),
            ],
        ),
        (
            "plugins:\n  a: {ready: now, watchdog: 1s}\n  b: {ready: {}}\n  c: {ready: [bus], start: {timeout: 1ms, parallel: 2}}\n  \
             d: {ready: {log: x, connect: h:1}}\n  e: {ready: {log: (}}\n  f: {ready: {connect: x}}\n  g: {ready: notify, watchdog: 1}\n",
            vec![
                "l:2:14: plugins.a.ready: has the value 'now'; expected one of started notify bus".to_owned(),
                "l:2:29: plugins.a.watchdog: is given, but nobody listens for its signs; expected ready: notify beside it".to_owned(),
                "l:3:14: plugins.b.ready: has a map; expected started, notify, bus, {log: \"a regular expression\"} or \
                 {connect: \"host:port or path\"}".to_owned(),
                "l:4:14: plugins.c.ready: has a list; expected started, notify, bus, {log: \"a regular expression\"} or \
                 {connect: \"host:port or path\"}".to_owned(),
                "l:4:38: plugins.c.start.timeout: has the value '1ms'; expected a duration like 250ms, 5s, 2m or 1h, from 200ms to 1h"
                    .to_owned(),
                "l:4:43: plugins.c.start.parallel: is no known key; expected one of timeout".to_owned(),
                "l:5:14: plugins.d.ready: has both log and connect; expected one of the two".to_owned(),
                "l:6:20: plugins.e.ready.log: is no regular expression: unclosed group; expected a regular expression that a line \
                 of its output has when it is ready, of at most 1 KiB".to_owned(),
                "l:7:24: plugins.f.ready.connect: has the value 'x'; expected host:port, or the path of a socket, with a / in it"
                    .to_owned(),
                "l:8:32: plugins.g.watchdog: has the value '1'; expected a duration like 250ms, 5s, 2m or 1h, from 100ms to 24h"
                    .to_owned(),
            ],
        ),
        (
            "plugins:\n  a: {requires: [b, b, a b]}\n  c: {needs: x}\n  b: {requires: [d]}\n  d: {requires: [b]}\n  e: {requires: [e]}\n",
            vec![
                "l:2:24: plugins.a.requires[2]: the name has the character ' '; allowed are A-Z a-z 0-9 _ and -; expected an id of 1 \
                 to 64 of A-Z a-z 0-9 _ and - (a program with another file name runs under such an id by instanceOf, in \
                 autostart by 'id: filename')".to_owned(),
                "l:3:14: plugins.c.needs: has the value 'x'; expected a list of paths".to_owned(),
                "l:4:7: plugins.b.requires: is a circle, so that none could ever start: b -> d -> b; expected an order in which \
                 they can start".to_owned(),
                "l:6:7: plugins.e.requires: is a circle, so that none could ever start: e -> e; expected an order in which they \
                 can start".to_owned(),
            ],
        ),
        (
            "plugins:\n  a: {args: [\"x\\0y\"], env: {A: \"\\0\"}, cwd: \"\\0\"}\n",
            vec![
                "l:2:14: plugins.a.args[0]: has a zero byte in it; expected text; \"\" for an empty argument".to_owned(),
                "l:2:32: plugins.a.env.A: has a zero byte in it; expected text; \"\" for an empty value".to_owned(),
                "l:2:44: plugins.a.cwd: has a zero byte in it; expected a path; ~ only alone or before a /".to_owned(),
            ],
        ),
        (
            "restart: {on: {crash: {policy: perhaps, delay: 1}, boom: {}, credential: {policy: never}}}\n",
            vec![
                "l:1:32: restart.on.crash.policy: has the value 'perhaps'; expected one of always on-failure never".to_owned(),
                "l:1:48: restart.on.crash.delay: has the value '1'; expected a duration like 250ms, 5s, 2m or 1h, from 0s to 8760h"
                    .to_owned(),
                "l:1:52: restart.on.boom: is no known key; expected one of couldNotStart crash credential dependencyLost earlyExit \
                 limit notReady outOfMemory watchdog".to_owned(),
                "l:1:83: restart.on.credential.policy: has the value 'never'; expected no policy here: who has no valid \
                 credential is always looked at again".to_owned(),
            ],
        ),
        (
            "corebin: {bin: a/b, args: x, url: mqtt://h:1, auth: password, ready: now, user: me}\n",
            vec![
                "l:1:16: corebin.bin: has the value 'a/b'; expected the file name of a program in the bin folder or in PATH, \
                 or its whole path".to_owned(),
                "l:1:27: corebin.args: has the value 'x'; expected a list of arguments".to_owned(),
                "l:1:35: corebin.url: has the value 'mqtt://h:1'; expected where the broker listens, mqtts://host:port or \
                 unix:///path".to_owned(),
                "l:1:53: corebin.auth: has the value 'password'; expected one of token certificate".to_owned(),
                "l:1:70: corebin.ready: has the value 'now'; expected one of bus notify".to_owned(),
                "l:1:75: corebin.user: is no known key; expected one of args auth bin limits ready url".to_owned(),
            ],
        ),
        (
            "corebin: {args: [x], auth: certificate}\n",
            vec![
                "l:1:10: corebin.bin: is missing; expected the file name of a program in the bin folder or in PATH, or its whole \
                 path".to_owned(),
                "l:1:10: corebin.url: is missing, but needed with auth: certificate; expected an address with TLS, \
                 mqtts://host:port: certificates serve nowhere else".to_owned(),
            ],
        ),
        (
            "creds: {clientCert: false}\ncorebin: {bin: /x/y, url: \"h:1\", auth: certificate}\n",
            vec![
                "l:1:8: creds.clientCert: is false, but corebin has auth: certificate: no plugin could log in; expected true, or \
                 createPluginCred: false when the certificates are there".to_owned(),
            ],
        ),
        (
            "corebin: {bin: /x/y, url: unix:///s, auth: certificate}\n",
            vec![
                "l:1:27: corebin.url: has the value 'unix:///s'; expected an address with TLS, mqtts://host:port: certificates \
                 serve nowhere else".to_owned(),
            ],
        ),
        (
            "corebin: &x a\nruntime: *x\nlogLevel: !!str info\n",
            vec![
                "l:1:10: corebin: anchors (&name) are not supported; expected the value alone".to_owned(),
                "l:2:1: runtime: means the same as corebin in line 1; expected one of the two".to_owned(),
                "l:2:10: runtime: aliases (*name) are not supported; expected the value itself".to_owned(),
                "l:3:11: logLevel: tags (!name) are not supported; expected the value alone, in quotes when it is text".to_owned(),
            ],
        ),
        (
            "? [a]\n: b\n? {c: d}\n: e\n: f\n",
            vec![
                "l:1:3: (file): has a list as key; expected the name of a key".to_owned(),
                "l:3:3: (file): has a map as key; expected the name of a key".to_owned(),
                "l:5:1: (file): has a key without name; expected the name of a key".to_owned(),
            ],
        ),
        (
            "autostart:\n- a\n- a\nstop: {grace: 1s\n",
            vec![
                "l:3:3: autostart[1]: lists 'a' again, first in line 2; expected each plugin once".to_owned(),
                format!("l:5:1: stop: is not YAML: while parsing a flow mapping, did not find expected ',' or '}}'; {YAML}"),
            ],
        ),
    ];
    for (text, wanted) in table {
        assert_eq!(lines_of(text.as_bytes()), wanted, "{text}");
    }
}

#[test]
fn files_that_are_no_documents_are_told_as_such() {
    let yaml = |place: &str, why: &str| format!("l:{place}: is not YAML: {why}; {YAML}");
    for (bytes, wanted) in [
        (&b"- a\n- b\n"[..], "l:1:1: (file): has a list; expected key: value lines".to_owned()),
        (b"text\n", "l:1:1: (file): has the value 'text'; expected key: value lines".to_owned()),
        (b"stop:\n\tgrace: 5s\n", "l:2:1: stop: is indented by a tab; expected indentation by spaces".to_owned()),
        (b"logLevel: info\n\tcorebin: x\n", "l:2:1: logLevel: is indented by a tab; expected indentation by spaces".to_owned()),
        (b"logLevel: \"info\nautostart: [a]\n", yaml("1:11: logLevel", "invalid indentation in quoted scalar")),
        (b"corebin: a: b\n", yaml("1:11: (file)", "mapping values are not allowed in this context")),
        (b"logLevel: info\n---\n", "l:2:1: (file): a second document begins here; expected one document".to_owned()),
        (b"a: \xff\n", "l:1:4: (file): is not UTF-8: byte 0xff; expected text in UTF-8".to_owned()),
        (b"\xff\xfea\0", "l:1:1: (file): is not UTF-8: byte 0xff; expected text in UTF-8".to_owned()),
        (
            b"corebin: x\nlogLevel: in\0\0\0",
            "l:2:13: (file): has a zero byte, as a crash leaves it while a file is written; expected text; put back a copy \
             of the file".to_owned(),
        ),
        (b"\x1b[2J: 1\n", "l:1:1: (file): has the control character \\u{1b}; expected text without it".to_owned()),
    ] {
        let found = lines_of(bytes);
        assert!(found.contains(&wanted), "{found:#?}\n{wanted}");
    }
}

#[test]
fn nothing_means_the_defaults() {
    for bytes in [
        &b""[..],
        b"\n",
        b"# only this",
        b"---\n",
        b"~",
        b"{}",
        b"\xef\xbb\xbf# mark\r\n",
        b"restart:\nplugins:\nautostart:\n",
    ] {
        assert_eq!(parse(bytes, "launcher"), Ok(Config::default()), "{bytes:?}");
    }
}

#[test]
fn blocks_are_merged_over_the_defaults_wherever_they_stand() {
    let config = good(
        "plugins:\n  a: {restart: {delay: 5s}, stop: {signal: INT}, logs: {maxSize: 0}}\n  b:\n\
         autorestart: no\nrestart: {maxDelay: 1m}\nstop: {grace: 250ms}\nlogs: {keep: 2}\n",
    );
    let a = &config.plugins[&id("a")];
    assert_eq!(a.restart.mode, RestartMode::Never);
    assert_eq!(a.restart.delay, Duration::from_secs(5));
    assert_eq!(a.restart.max_delay, Duration::from_secs(60));
    assert_eq!(
        (a.stop.signal, a.stop.grace),
        (2, Duration::from_millis(250))
    );
    assert_eq!((a.logs.max_size_bytes, a.logs.keep), (0, 2));
    assert_eq!(config.plugins[&id("b")], config.default_plugin());
    let creds = good("creds: {certDays: 7, clientCert: false}").creds;
    assert_eq!(
        (creds.client_cert, creds.cert_days, creds.renew_at),
        (false, 7, 0.66)
    );
    let explicit = good("restart: {policy: on-failure}\nautorestart: false\n");
    assert_eq!(explicit.restart.mode, RestartMode::OnFailure);
}

#[test]
fn words_are_taken_as_they_are_written() {
    let config = good(
        "corebin: \"\"\nlogLevel: warn\nlogPlugins: off\nautostart: [1wire, b: my.tool, true]\n\
         plugins:\n  b:\n    args: [--poll, 60, no, \"\", 0x1F, 1.50]\n    env: {COUNTRY: no, N: 0o17, EMPTY: \"\"}\n",
    );
    assert_eq!(config.core, None);
    assert!(!config.log_plugins);
    assert_eq!(
        config.log_level.as_ref().map(LogLevel::as_str),
        Some("warn")
    );
    assert_eq!(config.autostart, ["1wire", "b", "true"].map(id));
    let b = &config.plugins[&id("b")];
    assert_eq!(b.args, ["--poll", "60", "no", "", "0x1F", "1.50"]);
    assert_eq!(b.env["COUNTRY"], "no");
    assert_eq!(b.env["N"], "0o17");
    assert_eq!(b.env["EMPTY"], "");
    assert_eq!(b.instance_of.as_deref(), Some("my.tool"));
    assert_eq!(
        good("runtime: mqttcore").core,
        Some(CoreConfig::named("mqttcore"))
    );
}

#[test]
fn plans_have_whole_paths_and_the_core_is_never_long_away() {
    let config = good(
        "start: {timeout: 10s}\nautostart: [b, a]\nplugins:\n  a: {cwd: stores/a, envFile: a.env}\n  b: {cwd: ~/b, envFile: /x/b.env}\n",
    );
    let folders = folders(Path::new("/h"), Overrides::default());
    let plans = config.plans(&folders).expect("plans");
    let (a, b) = (&plans.by_id[&id("a")], &plans.by_id[&id("b")]);
    assert_eq!(a.cwd.as_deref(), Some(Path::new("/h/stores/a")));
    assert_eq!(a.env_file.as_deref(), Some(Path::new("/h/config/a.env")));
    assert_eq!(b.cwd.as_deref(), Some(Path::new("/home/bob/b")));
    assert_eq!(b.env_file.as_deref(), Some(Path::new("/x/b.env")));
    assert_eq!(plans.autostart, ["b", "a"].map(id));
    assert_eq!(plans.default.rules.ready, Rules::default().ready);
    assert_eq!(plans.core.rules.ready, ReadyRule::Told);
    assert_eq!(plans.core.rules.restart.max_delay, CORE_MAX_DELAY);
    assert_eq!(plans.core.rules.start_timeout, Duration::from_secs(10));
    assert_eq!(
        plans.default.rules.restart.max_delay,
        Duration::from_secs(3600)
    );
}

#[test]
fn each_kind_of_readiness_is_read() {
    let config = good(
        "start: {timeout: 20s}\nplugins:\n  a: {ready: started}\n  b: {ready: notify, watchdog: 30s, start: {timeout: 1m}}\n  \
         c: {ready: bus}\n  d: {ready: {log: \"^up$\"}}\n  e: {ready: {connect: \"localhost:80\"}}\n  \
         f: {ready: {connect: stores/x.sock}}\n",
    );
    let folders = folders(Path::new("/h"), Overrides::default());
    let plans = config.plans(&folders).expect("plans");
    let plan = |name: &str| &plans.by_id[&id(name)];
    let tcp = ConnectTarget::Tcp {
        host: "localhost".to_owned(),
        port: 80,
    };
    let unix = ConnectTarget::Unix(PathBuf::from("/h/stores/x.sock"));
    let pattern = logs::LinePattern::new("^up$").expect("pattern");
    for (name, teller, rule) in [
        ("a", Teller::Started, Rules::default().ready),
        ("b", Teller::Itself, ReadyRule::Told),
        ("c", Teller::Login, ReadyRule::ToldByBus),
        ("d", Teller::Log(pattern), ReadyRule::Told),
        ("e", Teller::Connect(tcp), ReadyRule::Told),
        ("f", Teller::Connect(unix), ReadyRule::Told),
    ] {
        assert_eq!(
            (&plan(name).teller, plan(name).rules.ready),
            (&teller, rule)
        );
    }
    assert_eq!(
        config.plugins[&id("b")].watchdog,
        Some(Duration::from_secs(30))
    );
    assert_eq!(plan("a").rules.start_timeout, Duration::from_secs(20));
    assert_eq!(plan("b").rules.start_timeout, Duration::from_secs(60));
}

#[test]
fn limits_are_merged_over_those_of_all() {
    let config = good(
        "corebin: {bin: x, limits: {memory: 1GiB, action: event}}\nlimits: {memory: 200MiB, cpu: 90%, pids: 100}\n\
         monitor: {interval: 0}\nplugins:\n  a: {limits: {memory: 64MiB, hard: true, strikes: 1}}\n  b: {limits: {cpu: 0, pids: 0}, monitor: {interval: 1s}}\n  c: {monitor: {interval: 0}}\n",
    );
    let folders = folders(Path::new("/h"), Overrides::default());
    let plans = config.plans(&folders).expect("plans");
    let all = Limits {
        memory_bytes: NonZeroU64::new(200 << 20),
        cpu_percent: NonZeroU64::new(90),
        pids: NonZeroU64::new(100),
        ..Limits::default()
    };
    assert_eq!(plans.default.limits, all);
    assert_eq!(
        plans.by_id[&id("a")].limits,
        Limits {
            memory_bytes: NonZeroU64::new(64 << 20),
            hard: true,
            strikes: 1,
            ..all
        }
    );
    let b = Limits {
        cpu_percent: None,
        pids: None,
        ..all
    };
    assert_eq!(plans.by_id[&id("b")].limits, b);
    let core = Limits {
        memory_bytes: NonZeroU64::new(1 << 30),
        action: LimitAction::Event,
        ..all
    };
    assert_eq!(plans.core.limits, core);
    assert_eq!(plans.sampling, Duration::ZERO);
    let second = Duration::from_secs(1);
    // What is as for all is nothing of its own.
    for (name, own) in [("a", None), ("b", Some(second)), ("c", None)] {
        assert_eq!(plans.by_id[&id(name)].sampling, own, "{name}");
    }
    assert_eq!(plans.own_intervals(), [second].into());
    let plans = good("limits: {memory: 1MiB}\ncorebin: x\n")
        .plans(&folders)
        .expect("plans");
    assert_eq!(plans.core.limits, plans.default.limits);
    assert_eq!(plans.sampling, Duration::from_secs(5));
}

#[test]
fn files_that_cannot_be_read_are_told() {
    let temp = tempfile::tempdir().expect("temp");
    let path = temp.path().join("x.yaml");
    let by_hand = Overrides {
        config_file: Some(path.clone()),
        ..Overrides::default()
    };
    let folders_by_hand = folders(temp.path(), by_hand);
    let text = || {
        let problems = load(&folders_by_hand).expect_err("a problem");
        let at = format!("{}:1:1: (file): ", path.display());
        let text = problems.to_string();
        text.strip_prefix(&at).map(str::to_owned).unwrap_or(text)
    };
    assert_eq!(
        text(),
        "there is no such file; expected the file that --configFile or LAUNCHER_CONFIGFILE names"
    );
    // The default one may be missing.
    let default = folders(temp.path(), Overrides::default());
    assert_eq!(load(&default), Ok(Config::default()));

    std::fs::create_dir(&path).expect("folder");
    assert_eq!(text(), "is a folder; expected a regular file");
    std::fs::remove_dir(&path).expect("removed");

    // A FIFO without a writer would be waited for.
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("fifo");
    assert_eq!(
        text(),
        "is a device, socket or pipe; expected a regular file"
    );
    std::fs::remove_file(&path).expect("removed");

    std::os::unix::fs::symlink(&path, &path).expect("link");
    assert!(text().starts_with("cannot be read: "), "{}", text());
    std::fs::remove_file(&path).expect("removed");

    let comment = vec![b'#'; 1024 * 1024];
    std::fs::write(&path, &comment).expect("file");
    assert_eq!(load(&folders_by_hand), Ok(Config::default()));
    std::fs::write(&path, [&comment[..], b"#"].concat()).expect("file");
    assert_eq!(text(), "is larger than 1 MiB; expected at most 1 MiB");
}

#[test]
fn bombs_and_endless_nesting_end_soon() {
    let began = Instant::now();
    let aliases: String = (1..10)
        .map(|n| {
            format!(
                "a{n}: &a{n} [{}]\n",
                vec![format!("*a{}", n - 1); 9].join(", ")
            )
        })
        .collect();
    assert!(lines_of(format!("a0: &a0 x\n{aliases}").as_bytes()).len() > 10);
    for open in ["- ", "[", "{a: ", "? "] {
        let lines = lines_of(open.repeat(200_000).as_bytes());
        assert!(lines.len() < 40, "{lines:#?}");
    }
    let many: String = (0..50_000).map(|n| format!("k{n}: {n}\n")).collect();
    let lines = lines_of(many.as_bytes());
    assert_eq!(lines.len(), problem::MAX_PROBLEMS + 1);
    assert!(lines[problem::MAX_PROBLEMS].starts_with("l:201:1: (file): has 49800 more problems"));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn thousands_of_plugins_are_read() {
    let plugins: String = (0..5_000)
        .map(|n| format!("  p{n}: {{args: [-v, {n}], restart: {{delay: 2s}}}}\n"))
        .collect();
    let entries: String = (0..5_000).map(|n| format!("- p{n}\n")).collect();
    let config = good(&format!("plugins:\n{plugins}autostart:\n{entries}"));
    assert_eq!(
        (config.plugins.len(), config.autostart.len()),
        (5_000, 5_000)
    );
}

/// Pieces of YAML that meet each other in every way.
fn soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "restart",
        "stop",
        "plugins",
        "autostart",
        "args",
        "env",
        "logs",
        "corebin",
        "a",
        "core",
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "'",
        "#",
        "&a",
        "*a",
        "!t ",
        "|",
        ">",
        "? ",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "\t",
        "5s",
        "null",
        "\r",
        "é",
        "<<",
        "0",
        "\u{feff}",
        "\u{2028}",
        "@",
        "`",
        "%",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

fn has_places(bytes: &[u8]) {
    if let Err(problems) = parse(bytes, "launcher") {
        assert!(!problems.is_empty());
        let last = bytes.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() + 2;
        for problem in &problems {
            assert!((1..=last).contains(&problem.place.line), "{problem}");
            assert!(problem.place.column >= 1, "{problem}");
            let text = problem.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        has_places(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
        has_places(text.as_bytes());
    }

    #[test]
    fn pieces_of_yaml_never_panic(text in soup()) {
        has_places(text.as_bytes());
    }

    #[test]
    fn a_cut_sample_never_panics(at in 0..sample::SAMPLE.len()) {
        has_places(&sample::SAMPLE.as_bytes()[..at]);
    }
}
