//! Credentials that cannot be written, do not serve, or are another hub's.

use crate::hub::{Home, Hub, eventually, signal_pid};
use crate::means::{complaint, explained, is_root, left_out};
use crate::packets::Wire;
use crate::renewal::token_of;
use creds::UnixTime;
use creds::token::{self, Claims};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

const SLEEPER: &str = "exec sleep 1000";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_stands_where_a_credential_belongs_is_named_and_the_plugin_waits_for_its_end() {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("bound", SLEEPER);
    home.plugin("other", SLEEPER);
    let hub = home.up();
    let token = hub.path("certs/bound.token");
    fs::create_dir(&token).unwrap();
    fs::write(token.join("in the way"), "").unwrap();
    let key = hub.path("certs/other.key");
    fs::write(&key, "this is no key").unwrap();
    for (id, file) in [("bound", &token), ("other", &key)] {
        let started = hub.hubcli(&["start", id]);
        assert_eq!(started.status.code(), Some(1));
        let text = complaint(&started);
        assert!(
            text.contains(file.to_str().unwrap()) && text.contains("\nhint:  "),
            "{text}"
        );
        assert_eq!(hub.info(id)["Phase"], "blocked");
    }
    assert_eq!(
        fs::read_to_string(&key).unwrap(),
        "this is no key",
        "it is not ours to replace"
    );
    fs::remove_dir_all(&token).unwrap();
    fs::remove_file(&key).unwrap();
    for (id, private) in [("bound", &token), ("other", &key)] {
        hub.pid(id);
        assert_eq!(mode(private), 0o400, "{}", private.display());
    }

    if is_root() {
        left_out(
            "a certs folder without write permission",
            "root may write anywhere",
        );
    } else {
        hub.home.plugin("third", SLEEPER);
        let certs = hub.path("certs");
        fs::set_permissions(&certs, fs::Permissions::from_mode(0o555)).unwrap();
        eventually("it is found", || {
            hub.list()
                .iter()
                .any(|info| info["Name"] == "third")
                .then_some(())
        });
        let started = hub.hubcli(&["start", "third"]);
        let text = complaint(&started);
        assert!(
            text.contains(certs.to_str().unwrap()) && text.contains("Permission denied"),
            "{text}"
        );
        fs::set_permissions(&certs, fs::Permissions::from_mode(0o711)).unwrap();
        hub.pid("third");
    }
    hub.down();
}

pub fn now() -> UnixTime {
    SystemTime::now().into()
}

/// Whether the core takes a plugin's token.
pub fn logs_in(hub: &Hub, id: &str) -> bool {
    let token = fs::read(hub.path(format!("certs/{id}.token"))).unwrap();
    let (_wire, answer) = Wire::connect(hub, &format!("{id}-probe"), id, &token);
    (answer.kind(), answer.body[1]) == (2, 0)
}

pub fn replace(path: &Path, text: &str) {
    // It cannot be written to; an editor replaces it, too.
    let _ = fs::remove_file(path);
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
}

#[test]
fn tokens_that_do_not_serve_are_renewed_and_the_others_kept() {
    let ids = ["garbage", "empty", "expired", "swapped", "rekeyed", "sound"];
    let home = Home::new(&format!(
        "corebin: mqttcore\nautostart: [{}]\n",
        ids.join(", ")
    ));
    for id in ids {
        home.plugin(id, SLEEPER);
    }
    let mut hub = home.up();
    for id in ids {
        hub.pid(id);
        assert!(logs_in(&hub, id), "{id}");
    }
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));

    let certs = hub.path("certs");
    let sound = fs::read_to_string(certs.join("sound.token")).unwrap();
    let expired = |id: &str, kind: &str, role: &str| {
        let hub_key = creds::keys::load(&certs.join("hubKey.pem")).unwrap();
        let key = creds::keys::load(&certs.join(format!("{id}.key")))
            .unwrap()
            .public_text();
        let long_ago = UnixTime(1_700_000_000);
        let claims = Claims::new(
            id,
            kind,
            role,
            &key,
            hub_key.public(),
            long_ago,
            Duration::from_secs(60),
        );
        token::sign(&hub_key, &claims).unwrap().expose().to_owned()
    };
    replace(&certs.join("garbage.token"), "nonsense");
    replace(&certs.join("empty.token"), "");
    replace(
        &certs.join("expired.token"),
        &expired("expired", "service", "service"),
    );
    replace(&certs.join("swapped.token"), &sound);
    let other = creds::keys::KeyPair::generate().unwrap();
    replace(&certs.join("rekeyed.key"), other.to_pem().expose());
    replace(
        &certs.join("admin.token"),
        &expired("admin", "user", "admin"),
    );
    replace(&certs.join("launcher.token"), "nonsense");

    hub.relaunch();
    for id in ids {
        hub.pid(id);
        assert!(logs_in(&hub, id), "{id}\n{}", hub.account());
    }
    assert_eq!(
        fs::read_to_string(certs.join("sound.token")).unwrap(),
        sound
    );
    let public = fs::read_to_string(certs.join("rekeyed.pub")).unwrap();
    assert_eq!(public.trim(), other.public_text());
    hub.down();
}

#[test]
fn expired_and_mismatched_credentials_are_told_in_why_until_the_core_renews_them() {
    let home = Home::new("corebin: mqttcore\n");
    let ids = ["expired", "rekeyed"];
    for id in ids {
        home.plugin(id, SLEEPER);
    }
    let hub = home.up();
    for id in ids {
        hub.ok(&["start", id]);
        hub.ok(&["stop", id]);
    }
    // Nobody can renew anything now.
    hub.ok(&["stop", "mqttcore"]);
    let day = Duration::from_secs(24 * 3600);
    let ended = token_of(&hub, "expired", now().before(day * 2), day);
    replace(&hub.path("certs/expired.token"), &ended);
    let other = creds::keys::KeyPair::generate().unwrap();
    replace(&hub.path("certs/rekeyed.key"), other.to_pem().expose());
    for (id, cause) in [("expired", "expired"), ("rekeyed", "key")] {
        let output = hub.hubcli(&["start", id]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let file = hub.path(format!("certs/{id}.token"));
        let parts = ["blocked", file.to_str().unwrap(), cause, "to do"];
        explained(&hub, id, &parts);
    }
    hub.ok(&["start", "mqttcore"]);
    hub.wait_for_bus();
    for id in ids {
        hub.pid(id);
        assert!(logs_in(&hub, id), "{id}");
    }
    hub.down();
}

#[test]
fn a_foreign_ca_is_told_by_its_file_and_nothing_is_made_anew() {
    let home = Home::new("corebin: mqttcore\nautostart: [keeper]\n");
    home.plugin("keeper", SLEEPER);
    let hub = home.up();
    let keeper = hub.pid("keeper");
    let elsewhere = tempfile::tempdir().unwrap();
    creds::ca::load_or_create_ca(elsewhere.path(), now()).unwrap();
    let ca = hub.path("certs/caCert.pem");
    let (own, foreign) = (
        fs::read_to_string(&ca).unwrap(),
        fs::read_to_string(elsewhere.path().join("caCert.pem")).unwrap(),
    );
    let key = fs::read(hub.path("certs/caKey.pem")).unwrap();
    let tls = hub.tls_url();
    hub.ok(&["--server", &tls, "ls"]);

    replace(&ca, &foreign);
    let output = hub.hubcli(&["--server", &tls, "ls"]);
    assert_eq!(output.status.code(), Some(3));
    let text = complaint(&output);
    assert!(
        text.contains("was not signed by this hub's CA") && text.contains("caCert.pem"),
        "{text}"
    );

    // The socket needs no certificate; the next core does.
    hub.ok(&["ls"]);
    signal_pid(hub.pid("mqttcore"), 9);
    eventually(
        &format!("the launcher names the file\n{}", hub.account()),
        || hub.log("launcher").contains("caCert.pem").then_some(()),
    );
    assert!(crate::hub::is_alive(keeper));
    assert_eq!(fs::read_to_string(&ca).unwrap(), foreign);
    assert_eq!(fs::read(hub.path("certs/caKey.pem")).unwrap(), key);

    replace(&ca, &own);
    hub.wait_for_bus();
    assert_eq!(hub.pid("keeper"), keeper);
    hub.ok(&["--server", &hub.tls_url(), "ls"]);
    hub.down();
}
