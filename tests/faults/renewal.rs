//! What ends, is lost or replaced while plugins run is made anew, and the plugins run on.

use crate::certs::{logs_in, now, replace};
use crate::hub::{Home, Hub, eventually};
use crate::means::left_out;
use crate::packets::{Wire, request};
use creds::ca::{self, ClientSubject};
use creds::check::Certificate;
use creds::token::{self, Claims};
use creds::{UnixTime, keys};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const SLEEPER: &str = "exec sleep 1000";
const MINUTE: Duration = Duration::from_secs(60);

fn read(hub: &Hub, file: &str) -> Option<String> {
    fs::read_to_string(hub.path("certs").join(file)).ok()
}

fn certificate(hub: &Hub, file: &str) -> Option<Certificate> {
    Certificate::from_pem(&read(hub, file)?).ok()
}

/// Waits until a file of the certs folder is there and another one than before.
fn renewed(hub: &Hub, file: &str, before: &str) -> String {
    eventually(&format!("{file} is made anew\n{}", hub.account()), || {
        read(hub, file).filter(|now| now != before)
    })
}

/// What a plugin waits for.
fn waits_for(hub: &Hub, id: &str) -> String {
    let name = format!("{{\"name\":\"{id}\"}}");
    let topic = "rpc/launcher/manage/getPlugin/admin";
    let reply = Wire::admin(hub).ask(&request(topic, name.as_bytes(), 7));
    let reply: Value = serde_json::from_str(&reply.text()).unwrap();
    reply["why"]["waitsFor"].to_string()
}

/// A token of this hub for a plugin, of this life.
pub fn token_of(hub: &Hub, id: &str, began: UnixTime, life: Duration) -> String {
    let hub_key = keys::load(&hub.path("certs/hubKey.pem")).unwrap();
    let key = keys::load(&hub.path(format!("certs/{id}.key"))).unwrap();
    let public = key.public_text();
    let claims = Claims::new(
        id,
        "service",
        "service",
        &public,
        hub_key.public(),
        began,
        life,
    );
    token::sign(&hub_key, &claims).unwrap().expose().to_owned()
}

#[test]
fn token_and_certificate_are_renewed_while_their_plugin_runs() {
    let home = Home::new("corebin: mqttcore\nlogLevel: info\nautostart: [keeper, other]\n");
    home.plugin("keeper", SLEEPER);
    home.plugin("other", SLEEPER);
    let hub = home.up();
    let pids = ["keeper", "other"].map(|id| hub.pid(id));
    let untouched = read(&hub, "other.token").unwrap();
    assert_eq!(waits_for(&hub, "keeper"), "[]");

    // One that ends within the minute.
    let ca = ca::load_ca(&hub.path("certs"), now()).unwrap();
    let key = keys::load(&hub.path("certs/keeper.key")).unwrap();
    let subject = ClientSubject {
        client_id: "keeper",
        unit: "service",
    };
    let issuer = ca.issuer().unwrap();
    let ending = issuer.client(subject, key.public(), MINUTE, now()).unwrap();
    replace(&hub.path("certs/keeperCert.pem"), &ending);
    let cert = renewed(&hub, "keeperCert.pem", &ending);
    let cert = Certificate::from_pem(&cert).unwrap();
    assert!(cert.is_signed_by(&ca.cert) && cert.is_of_key(key.public()));
    assert!(cert.not_after() > now().after(MINUTE * 60 * 24 * 300));

    // One that is due, one that has expired, and none at all.
    let began = now().before(MINUTE * 9);
    let due = token_of(&hub, "keeper", began, MINUTE * 10);
    let expired = token_of(&hub, "keeper", began, MINUTE * 8);
    for token in [due, expired] {
        replace(&hub.path("certs/keeper.token"), &token);
        renewed(&hub, "keeper.token", &token);
    }
    fs::remove_file(hub.path("certs/keeper.token")).unwrap();
    renewed(&hub, "keeper.token", "");
    assert!(logs_in(&hub, "keeper"));

    // Nothing that others are in the way of is lost, and why it waits is told.
    let token = hub.path("certs/keeper.token");
    fs::remove_file(&token).unwrap();
    fs::create_dir(&token).unwrap();
    eventually(&format!("it is told\n{}", hub.account()), || {
        waits_for(&hub, "keeper")
            .contains("keeper.token")
            .then_some(())
    });
    fs::remove_dir(&token).unwrap();
    renewed(&hub, "keeper.token", "");
    assert_eq!(read(&hub, "other.token").unwrap(), untouched);
    assert_eq!(["keeper", "other"].map(|id| hub.pid(id)), pids);
    eventually("nothing is waited for", || {
        (waits_for(&hub, "keeper") == "[]").then_some(())
    });

    // What serves stays, what is lost is not made, and why is said once.
    let key = hub.path("certs/caKey.pem");
    let kept = hub.path("caKey.pem");
    fs::rename(&key, &kept).unwrap();
    fs::remove_file(hub.path("certs/otherCert.pem")).unwrap();
    hub.wait_log("launcher", "caKey.pem is missing");
    for id in ["keeper", "other", "keeper", "other"] {
        hub.ok(&["restart", id]);
    }
    let said = hub.log("launcher").matches("caKey.pem is missing").count();
    assert_eq!(said, 1, "{}", hub.account());
    assert!(certificate(&hub, "otherCert.pem").is_none());
    assert_eq!(certificate(&hub, "keeperCert.pem").unwrap(), cert);
    fs::rename(&kept, &key).unwrap();
    eventually("it is made", || certificate(&hub, "otherCert.pem"));
    hub.down();
}

#[test]
fn a_new_ca_and_a_new_hub_key_are_followed_by_all_that_hang_on_them() {
    let home = Home::new("corebin: mqttcore\nautostart: [keeper, other]\n");
    home.plugin("keeper", SLEEPER);
    home.plugin("other", SLEEPER);
    let hub = home.up();
    let pids = ["keeper", "other"].map(|id| hub.pid(id));
    let core = hub.pid("mqttcore");
    let token = fs::read(hub.path("certs/keeper.token")).unwrap();
    let (mut wire, answer) = Wire::connect(&hub, "keeper-1", "keeper", &token);
    assert_eq!((answer.kind(), answer.body[1]), (2, 0));
    let before = read(&hub, "caCert.pem").unwrap();
    hub.ok(&["cca", "--force"]);
    assert_ne!(read(&hub, "caCert.pem").unwrap(), before);
    let ca = certificate(&hub, "caCert.pem").unwrap();
    for file in ["hubCert.pem", "keeperCert.pem", "otherCert.pem"] {
        eventually(
            &format!("{file} is of the new CA\n{}", hub.account()),
            || certificate(&hub, file).filter(|cert| cert.is_signed_by(&ca)),
        );
    }
    hub.ok(&["--server", &hub.tls_url(), "ls"]);
    // Who was connected still is.
    wire.send(&[0xC0, 0]);
    assert_eq!(wire.receive().kind(), 13);
    assert_eq!(hub.pid("mqttcore"), core);

    // All tokens hang on this one.
    let tokens = ["keeper.token", "other.token"].map(|file| read(&hub, file).unwrap());
    fs::remove_file(hub.path("certs/hubKey.pem")).unwrap();
    hub.ok(&["restart", "core"]);
    renewed(&hub, "keeper.token", &tokens[0]);
    renewed(&hub, "other.token", &tokens[1]);
    hub.wait_for_bus();
    assert!(logs_in(&hub, "keeper") && logs_in(&hub, "other"));
    assert_eq!(["keeper", "other"].map(|id| hub.pid(id)), pids);
    hub.down();
}

#[test]
fn a_launcher_at_another_machines_hub_renews_its_own_token() {
    let home = Home::new("corebin: mqttcore\n");
    let hub = home.up();
    let server = hub.tls_url();
    let away = Home::new("logLevel: info\n");
    fs::create_dir(away.path("certs")).unwrap();
    for file in ["caCert.pem", "launcher.key", "launcher.pub"] {
        fs::copy(hub.path("certs").join(file), away.path("certs").join(file)).unwrap();
    }
    let expired = token_of(&hub, "launcher", now().before(MINUTE * 10), MINUTE * 9);
    replace(&away.path("certs/launcher.token"), &expired);
    let mut command = away.launcher();
    command.args(["--server", &server]);
    let launcher_token = away.path("certs/launcher.token");
    let mut away = away.launch_by(command);
    let said = format!("its token {} expired at ", launcher_token.display());
    away.wait_log("launcher", &said);
    assert!(away.log("launcher").contains("restart it, or copy"));

    // The first look at one that is due is when there is a bus; one that becomes due later is seen likewise.
    for minutes in [18, 19] {
        let due = token_of(
            &hub,
            "launcher",
            now().before(MINUTE * minutes),
            MINUTE * 20,
        );
        replace(&launcher_token, &due);
        let renewed = renewed(&away, "launcher.token", &due);
        let claims = token::peek(&renewed).unwrap();
        assert!(claims.exp > now().after(MINUTE * 60 * 24).0);
    }
    assert!(away.log("launcher").contains("connected to the bus"));
    away.signal_launcher(15);
    assert_eq!(away.ended().code(), Some(0));
    hub.down();
}

/// Lets a program have a clock of its own.
pub fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists())
}

#[test]
fn what_was_made_before_the_clock_was_set_is_made_anew_then() {
    let Some(library) = faketime() else {
        left_out("a clock that starts in 1970", "there is no libfaketime");
        return;
    };
    let home = Home::new("corebin: mqttcore\nautostart: [keeper, late]\n");
    home.plugin("keeper", SLEEPER);
    let clock = home.path("clock");
    fs::write(&clock, "@1970-01-01 00:01:00\n").unwrap();
    let mut command = home.launcher();
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_CACHE_DURATION", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let hub = home.launch_by(command);
    let claims = |id: &str| {
        let text = read(&hub, &format!("{id}.token"))?;
        token::peek(&text).ok()
    };
    eventually(&format!("keeper has a token\n{}", hub.account()), || {
        claims("keeper")
    });
    let year = 365 * 24 * 3600;
    assert!(claims("keeper").unwrap().exp < 2 * year);
    // Nobody whose clock is right could log in to say what runs.
    let running = || {
        let processes = hub.processes();
        let sleeps = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim() == "sleep")
        };
        processes.into_iter().find(sleeps)
    };
    let pid = eventually("it runs", running);

    fs::write(&clock, "+0\n").unwrap();
    let now = now();
    eventually(&format!("it is made anew\n{}", hub.account()), || {
        claims("keeper").filter(|claims| claims.iat >= now.0)
    });
    let in_time = |file| {
        certificate(&hub, file).filter(|cert| cert.not_after() > now.after(MINUTE * 60 * 24 * 99))
    };
    for file in ["keeperCert.pem", "hubCert.pem"] {
        eventually(&format!("{file} is made anew"), || in_time(file));
    }
    hub.wait_for_bus();
    assert_eq!(hub.pid("keeper"), pid);
    hub.home.plugin("late", SLEEPER);
    hub.pid("late");
    hub.down();
}
