//! What a core keeps over its end, and what others change in its files.

use super::*;
use std::path::PathBuf;

const GRANT: &str = "rpc/auth/profile/setServicePermissions";

fn table(home: &Home) -> PathBuf {
    home.settings.password_file()
}

fn read(home: &Home) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(table(home)).unwrap()).unwrap()
}

/// As an editor saves.
fn save(home: &Home, text: &str) {
    let part = table(home).with_extension("part");
    std::fs::write(&part, text).unwrap();
    std::fs::rename(&part, table(home)).unwrap();
}

fn is_ended(packet: Option<Packet>) -> bool {
    matches!(packet, Some(Packet::Disconnect(d)) if d.reason_code as u8 == 0x98)
}

#[tokio::test]
async fn permissions_of_services_outlive_the_core_and_are_not_doubled() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let token = add_service(&mut admin, "svc").await;
    let other = add_service(&mut admin, "other").await;
    add_user(&mut admin, "joe", "viewer").await;
    for (id, token) in [("svc", &token), ("other", &other)] {
        let mut service = Client::connect(&core, id, id, token).await.unwrap();
        for _ in 0..2 {
            let grant = r#"{"capability":"cap","roles":["viewer"]}"#;
            service.ask(GRANT, grant).await;
        }
    }
    let remove = r#"{"clientID":"other"}"#;
    admin
        .ask("rpc/auth/manageClients/removeClient", remove)
        .await;
    let file = home
        .settings
        .password_file()
        .with_file_name("permissions.json");
    let written =
        r#"{"version":1,"permissions":[{"service":"svc","capability":"cap","roles":["viewer"]}]}"#;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    // No goodbye, as kill -9 has none.
    drop((core, admin));

    let core = home.start().await;
    let mut joe = user(&core, "joe").await;
    assert_eq!(joe.publish("rpc/svc/cap/x/joe", "").await, 0);
    assert_eq!(joe.publish("rpc/other/cap/x/joe", "").await, DENIED);
    let mut service = Client::connect(&core, "svc", "svc", &token).await.unwrap();
    // Who becomes a user has opened nothing, also once it is a service again.
    let mut admin = home.client(&core, "admin").await;
    for kind in ["user", "service"] {
        let args = format!(r#"{{"clientID":"svc","profile":{{"clientType":"{kind}"}}}}"#);
        admin
            .ask("rpc/auth/manageClients/updateClient", &args)
            .await;
        assert_eq!(joe.publish("rpc/svc/cap/x/joe", "").await, DENIED);
    }
    service
        .ask(GRANT, r#"{"capability":"cap","roles":["viewer"]}"#)
        .await;
    assert_eq!(joe.publish("rpc/svc/cap/x/joe", "").await, 0);
    let none = r#"{"capability":"cap","roles":[]}"#;
    service.ask(GRANT, none).await;
    assert_eq!(joe.publish("rpc/svc/cap/x/joe", "").await, DENIED);
    core.stop().await;
}

#[tokio::test]
async fn what_is_changed_in_the_file_of_clients_takes_effect() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    for id in ["joe", "ann", "eve"] {
        add_user(&mut admin, id, "viewer").await;
    }
    let (mut joe, mut ann, mut eve) = (
        user(&core, "joe").await,
        user(&core, "ann").await,
        user(&core, "eve").await,
    );
    assert_eq!(joe.subscribe("event/+/+/+/#").await, 1);
    let mut clients = read(&home);
    clients["joe"]["role"] = "".into();
    clients["joe"]["note"] = "by hand".into();
    clients["ann"]["PasswordHash"] = clients["eve"]["PasswordHash"].clone();
    clients["launcher"]["role"] = "viewer".into();
    clients["admin"]["displayName"] = "Chief".into();
    let all = clients.as_object_mut().unwrap();
    all.remove("eve");
    all.remove("auth");
    save(&home, &clients.to_string());

    assert!(is_ended(eve.receive().await), "was removed");
    assert!(is_ended(ann.receive().await), "its password is another");
    let again = Client::connect(&core, "ann", "ann-1", "secret-eve").await;
    assert!(again.is_ok());
    // The subscription went before the others were ended, or right after: what is asked now is judged by the new role.
    assert_eq!(joe.subscribe("event/+/+/+/#").await, DENIED);
    let profile = admin.ask("rpc/auth/profile/getProfile", "").await;
    assert_eq!(profile["profile"]["displayName"], "Chief");

    // Nobody takes the hub's own rights away, and what else stands there stays over the next change.
    add_user(&mut admin, "bob", "viewer").await;
    let now = read(&home);
    assert_eq!(now["launcher"]["role"], "service");
    assert_eq!(now["joe"]["note"], "by hand");
    assert!(now["auth"].is_object() && now["bob"].is_object() && now["eve"].is_null());
    core.stop().await;
}

#[tokio::test]
async fn a_broken_edit_changes_nothing_and_is_not_lost() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    let mut joe = user(&core, "joe").await;
    let whole = std::fs::read_to_string(table(&home)).unwrap();
    for broken in [&whole[..whole.len() / 2], ""] {
        save(&home, broken);
        // The next change is written beside it.
        add_user(&mut admin, "ann", "viewer").await;
        let aside = table(&home).with_file_name("hub.passwd.bad");
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), broken);
        assert!(read(&home)["ann"].is_object());
        let remove = r#"{"clientID":"ann"}"#;
        admin
            .ask("rpc/auth/manageClients/removeClient", remove)
            .await;
    }
    // Removed by mistake: it comes back by itself.
    std::fs::remove_file(table(&home)).unwrap();
    let until = Instant::now() + std::time::Duration::from_secs(20);
    while !table(&home).exists() {
        assert!(Instant::now() < until, "the file did not come back");
        tokio::task::yield_now().await;
    }
    assert_eq!(joe.subscribe("event/+/+/+/#").await, 1);
    core.stop().await;
}

#[tokio::test]
async fn changes_from_both_sides_are_kept() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    let mut clients = read(&home);
    clients["joe"]["role"] = "operator".into();
    // Whichever of the two is seen first.
    save(&home, &clients.to_string());
    add_user(&mut admin, "ann", "viewer").await;
    let now = read(&home);
    assert_eq!(now["joe"]["role"], "operator");
    assert!(now["ann"].is_object());
    core.stop().await;
}
