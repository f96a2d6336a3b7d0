//! What a disk, a crash or an administrator may do to the core: files that are damaged, requests to auth that are.
//!
//! Invariant: the core ends in words or works; it never panics, and what it has taken it can start with again.

use crate::chance::Chance;
use crate::hub::{PATIENCE, eventually};
use crate::packets::request_from;
use crate::server::{Core, Kind};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// So many starts with a damaged file.
const STARTS: usize = 60;
/// So many requests to auth.
const REQUESTS: usize = 1_500;

/// The files of a core that is down, by their path in its home.
fn files(core: &Core) -> Vec<PathBuf> {
    let mut all = vec![core.path("config/mqttcore.yaml")];
    for folder in ["certs", "stores/auth"] {
        for entry in fs::read_dir(core.path(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

fn put(path: &PathBuf, bytes: &[u8]) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_start_with_a_damaged_file_ends_in_words_or_works() {
    let seed = Chance::seed("DAMAGE_SEED");
    let mut core = Core::start();
    core.add(Kind::Service, "svc", "service");
    let opened = json!({"capability": "cap", "roles": ["viewer"]});
    core.asker("svc")
        .ask("rpc/auth/profile/setServicePermissions", &opened);
    core.stop();
    let files = files(&core);
    assert!(
        files.iter().any(|file| file.ends_with("hub.passwd")),
        "{files:?}"
    );
    let good: Vec<(PathBuf, Vec<u8>)> = files
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    for start in 0..STARTS {
        let mut chance = Chance::new(seed.wrapping_add(u64::try_from(start).unwrap() << 24));
        let (path, bytes) = chance.of(&good);
        let mut broken = bytes.clone();
        match chance.below(8) {
            0 => broken.clear(),
            1 => broken = vec![0; broken.len()],
            2 => broken = chance.of(&good).1.clone(),
            _ => chance.mutate(&mut broken),
        }
        put(path, &broken);
        let what = format!(
            "DAMAGE_SEED={seed}, start {start}, {}: {}",
            path.display(),
            broken.escape_ascii()
        );
        fs::write(core.path("core.log"), "").unwrap();
        let mut child = Command::new(core.path("bin/mqttcore"))
            .arg("--home")
            .arg(core.path(""))
            .env("HIVEOT_HOME", core.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(core.path("core.log")).unwrap())
            .spawn()
            .unwrap();
        let url = core.path("run/mqttcore.url");
        let until = Instant::now() + PATIENCE;
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if url.exists() {
                break None;
            }
            assert!(Instant::now() < until, "neither up nor ended: {what}");
            std::thread::sleep(Duration::from_millis(3));
        };
        let log = core.log();
        assert!(!log.contains("panicked"), "{what}\n{log}");
        match ended {
            // Bad configuration, or anything else; what it is about is named.
            Some(status) => {
                assert!(
                    [Some(1), Some(78)].contains(&status.code()),
                    "{status:?}: {what}\n{log}"
                );
                let name = path.file_name().unwrap().to_str().unwrap();
                let stem = name.split('.').next().unwrap();
                assert!(log.contains(stem), "{name} is not named: {log}\n{what}");
            }
            None => {
                crate::hub::signal_pid(child.id().try_into().unwrap(), 15);
                let status = child.wait().unwrap();
                assert_eq!(status.code(), Some(0), "{what}\n{}", core.log());
            }
        }
        // As it was.
        for entry in ["certs", "stores/auth"] {
            for entry in fs::read_dir(core.path(entry)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() && !good.iter().any(|(known, _)| *known == path) {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        for (path, bytes) in &good {
            put(path, bytes);
        }
    }
    core.launch();
    core.asker("admin")
        .ask("rpc/auth/profile/getProfile", &Value::Null);
}

const METHODS: [&str; 19] = [
    "manageClients/addDevice",
    "manageClients/addService",
    "manageClients/addUser",
    "manageClients/getCount",
    "manageClients/getClientProfile",
    "manageClients/getProfiles",
    "manageClients/removeClient",
    "manageClients/updateClient",
    "manageClients/updateClientPassword",
    "manageClients/updateRole",
    "manageClients/updatePassword",
    "profile/getProfile",
    "profile/newToken",
    "profile/refresh",
    "profile/setServicePermissions",
    "profile/updateName",
    "roles/createRole",
    "roles/deleteRole",
    "other/thing",
];

#[test]
fn auth_answers_whatever_it_is_asked_and_its_file_can_be_read_again() {
    let seed = Chance::seed("DAMAGE_SEED");
    let mut core = Core::start();
    core.add(Kind::Service, "svc", "service");
    core.add(Kind::User, "vera", "viewer");
    let key = fs::read_to_string(core.path("certs/admin.pub")).unwrap();
    let arguments = [
        json!({"userID": "u1", "DisplayName": "U", "role": "viewer", "pubKey": key}),
        json!({"deviceID": "d1", "displayName": "D", "pubKey": key}),
        json!({"serviceID": "s1", "displayName": "S", "pubKey": "MFk="}),
        json!({"clientID": "u1"}),
        json!({"clientID": "u1", "role": "manager"}),
        json!({"clientID": "svc", "profile": {"clientID": "svc", "role": "service", "clientType": "service"}}),
        json!({"clientID": "vera", "profile": {"role": "", "tokenValidityDays": -5, "updatedMSE": 9_007_199_254_740_993_i64}}),
        json!({"capability": "c", "roles": ["viewer", "nobody", ""]}),
        json!({"newName": "x"}),
        json!({"role": "r"}),
        Value::Null,
    ];
    let words: [&[u8]; 12] = [
        b"\"userID\":\"..\"",
        b"\"\\u0000\"",
        b"\"auth\"",
        b"\"launcher\"",
        b"\"admin\"",
        b"null",
        b"[]",
        b"{}",
        b"1e400",
        b"\"/\"",
        b"\"+\"",
        b"\"\\ud800\"",
    ];
    let mut asker = core.asker("admin");
    let since = Instant::now();
    let mut answers = [0; 2];
    for round in 0..REQUESTS {
        let mut chance = Chance::new(seed.wrapping_add(u64::try_from(round).unwrap() << 24));
        let mut payload = chance.of(&arguments).to_string().into_bytes();
        match chance.below(6) {
            0 | 1 => chance.mutate(&mut payload),
            2 => {
                let at = chance.below(payload.len());
                let to = (at + chance.below(9)).min(payload.len());
                let word = *chance.of(&words);
                drop(payload.splice(at..to, word.iter().copied()));
            }
            3 => {
                // Another id, as hostile as they come.
                let text = String::from_utf8(payload).unwrap();
                let id = chance.of(&[
                    "", ".", "..", "a/b", "+", "#", "auth", "launcher", "admin", "\\u0000",
                    "e\u{301}",
                ]);
                payload = text
                    .replace("u1", id)
                    .replace("d1", id)
                    .replace("vera", id)
                    .into_bytes();
            }
            _ => {}
        }
        let method = chance.of(&METHODS);
        // The admin must be able to go on.
        let kills = payload.windows(5).any(|part| part == b"admin");
        if kills && (method.contains("remove") || method.contains("update")) {
            continue;
        }
        let topic = format!("rpc/auth/{method}/admin");
        let reply = asker
            .wire
            .ask(&request_from(&asker.id, &topic, &payload, 9));
        assert!(
            ["json", "error"].contains(&reply.content_type.as_str()),
            "{topic} {reply:?}"
        );
        assert!(
            reply.content_type == "json" || !reply.payload.is_empty(),
            "{topic}: an empty error"
        );
        answers[usize::from(reply.content_type == "error")] += 1;
    }
    println!("{answers:?} replies and errors in {:?}", since.elapsed());
    assert!(
        answers.iter().all(|count| *count > REQUESTS / 10),
        "{answers:?}"
    );
    let before = core
        .asker("admin")
        .ask("rpc/auth/manageClients/getProfiles", &Value::Null);
    core.stop();
    core.launch();
    let after = core
        .asker("admin")
        .ask("rpc/auth/manageClients/getProfiles", &Value::Null);
    let ids = |reply: &Value| -> Vec<String> {
        let mut all: Vec<String> = reply["profiles"]
            .as_array()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        all.retain(|profile| {
            !profile.contains("\"clientID\":\"auth\"")
                && !profile.contains("\"clientID\":\"launcher\"")
        });
        all.sort();
        all
    };
    let (before, after) = (ids(&before), ids(&after));
    assert_eq!(before.len(), after.len());
    for profile in &after {
        let profile: Value = serde_json::from_str(profile).unwrap();
        let id = profile["clientID"].as_str().unwrap();
        assert!(
            !id.is_empty() && !id.contains(['/', '+', '#', '\\', '\0']) && !id.starts_with('.'),
            "{id:?} is a client"
        );
    }
    assert!(!core.log().contains("panicked"), "{}", core.log());
}

/// The file is written by somebody else while the core runs (HP 1.16), and not always well.
#[test]
fn a_password_file_that_is_written_badly_while_it_runs_harms_nobody() {
    let seed = Chance::seed("DAMAGE_SEED");
    let core = Core::start();
    core.add(Kind::User, "vera", "viewer");
    let file = core.path("stores/auth/hub.passwd");
    let good = fs::read(&file).unwrap();
    let mut asker = core.asker("admin");
    let part = core.path("stores/auth/hub.passwd.part");
    for round in 0..60 {
        let mut chance = Chance::new(seed.wrapping_add(round << 24));
        let mut broken = good.clone();
        match chance.below(4) {
            0 => broken.truncate(chance.below(good.len())),
            1 => broken.clear(),
            _ => chance.mutate(&mut broken),
        }
        if chance.once_in(2) {
            fs::write(&file, &broken).unwrap();
        } else {
            fs::write(&part, &broken).unwrap();
            fs::rename(&part, &file).unwrap();
        }
        std::thread::sleep(Duration::from_millis(
            u64::try_from(chance.below(80)).unwrap(),
        ));
        let reply = asker.wire.ask(&request_from(
            &asker.id,
            "rpc/auth/profile/getProfile/admin",
            b"",
            9,
        ));
        assert!(
            reply.text().contains("\"role\":\"admin\""),
            "{}",
            reply.text()
        );
    }
    fs::write(&part, &good).unwrap();
    fs::rename(&part, &file).unwrap();
    eventually("vera is let in again", || {
        let (_, answer) = crate::packets::Wire::log_in(
            core.dial(),
            "vera-1",
            "vera",
            core.token("vera").as_bytes(),
        );
        (answer.body[1] == 0).then_some(())
    });
    assert!(!core.log().contains("panicked"), "{}", core.log());
}
