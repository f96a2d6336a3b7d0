//! Renewal while plugins run.

use super::*;
use supervision::credential::Outcome;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl World {
    async fn renew(&self, name: &str) -> Outcome {
        self.preparer
            .renew(Whose::Plugin(PluginId::new(name).unwrap()))
            .await
    }

    async fn in_order(&self, name: &str) -> Duration {
        let outcome = self.renew(name).await;
        let Outcome::InOrder(Some(next)) = outcome else {
            panic!("{outcome:?}: {:?}", self.waits_for(name));
        };
        assert_eq!(self.waits_for(name), Vec::<String>::new());
        next
    }

    fn waits_for(&self, name: &str) -> Vec<String> {
        self.preparer.waits_for(&PluginId::new(name).unwrap())
    }

    fn cert(&self, name: &str) -> creds::check::Certificate {
        let path = self.certs().join(format!("{name}Cert.pem"));
        creds::check::Certificate::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn ca(&self) -> creds::ca::Ca {
        creds::ca::load_or_create_ca(&self.certs(), now()).unwrap()
    }

    /// A core that shows a certificate of the present CA.
    fn serve(&self) {
        let path = self.certs().join("hubKey.pem");
        let key = self.accounts.hub.to_pem();
        creds::atomic::write(&path, key.expose().as_bytes(), 0o400).unwrap();
        let names = creds::ca::ServerNames::new("box", &[]);
        creds::ca::load_or_create_server(&self.certs(), &self.ca(), &names, now()).unwrap();
    }

    /// Puts a token of this life in place, as the hub makes them.
    fn put_token(&self, name: &str, began: UnixTime, life: Duration) {
        let key = keys::load(&self.certs().join(format!("{name}.key"))).unwrap();
        let hub = &self.accounts.hub;
        let claims = Claims::new(
            name,
            "service",
            "service",
            &key.public_text(),
            hub.public(),
            began,
            life,
        );
        let token = sign(hub, &claims).unwrap();
        let path = self.certs().join(format!("{name}.token"));
        creds::files::write_token(&path, &token).unwrap();
    }

    fn lose_bus(&self) {
        self.accounts.link.send_replace(Link::Down {
            since_mse: 0,
            retry: crate::link::Retry::default(),
            generation: 1,
            told: false,
            reason: "the core is gone".to_owned(),
        });
    }
}

#[tokio::test]
async fn a_start_tells_when_what_it_found_is_due_and_only_once() {
    let world = World::new();
    world.ready("a").await;
    let found = world.preparer.found_in_order().await;
    assert_eq!(found.len(), 1);
    // It was made just now and is not judged yet.
    assert!(found[0].1 < Duration::from_secs(60), "{found:?}");
    let next = world.in_order("a").await;
    assert!(next > DAY * 200 && next < DAY * 250, "{next:?}");
    world.ready("a").await;
    let found = world.preparer.found_in_order().await;
    assert!(found[0].1 > DAY * 200, "{found:?}");
    world.ready("a").await;
    let more = tokio::time::timeout(Duration::from_millis(50), world.preparer.found_in_order());
    assert!(more.await.is_err(), "that is known");
}

#[tokio::test]
async fn what_is_due_is_renewed_and_what_serves_stays() {
    let world = World::new();
    let ca = world.ca();
    world.ready("a").await;
    let (token, cert) = (world.token("a"), world.cert("a"));
    // Certificates last a day here and are due at half of it.
    let next = world.in_order("a").await;
    assert!(next > DAY / 3 && next < DAY, "{next:?}");
    assert_eq!((world.token("a"), world.cert("a")), (token, cert.clone()));
    assert_eq!(world.accounts.counts(), (1, 1));

    world.put_token("a", now().before(DAY), DAY + DAY / 10);
    world.in_order("a").await;
    assert_eq!(world.accounts.counts(), (1, 2));
    let issuer = ca.issuer().unwrap();
    let subject = creds::ca::ClientSubject {
        client_id: "a",
        unit: "service",
    };
    let key = keys::load(&world.certs().join("a.key")).unwrap();
    let minute = Duration::from_secs(60);
    let ending = issuer.client(subject, key.public(), minute, now()).unwrap();
    let path = world.certs().join("aCert.pem");
    creds::atomic::write(&path, ending.as_bytes(), 0o444).unwrap();
    world.in_order("a").await;
    let renewed = world.cert("a");
    assert!(renewed.not_after() > now().after(DAY / 2) && renewed != cert);
    assert_eq!(world.accounts.counts(), (1, 2), "the token serves");
}

#[tokio::test]
async fn without_a_bus_certificates_are_renewed_and_tokens_wait_for_it() {
    let world = World::new();
    world.ca();
    world.ready("a").await;
    world.in_order("a").await;
    world.lose_bus();
    std::fs::remove_file(world.certs().join("aCert.pem")).unwrap();
    world.in_order("a").await;
    assert!(world.cert("a").not_after() > now());
    // Deleted by hand: made anew as soon as there is somebody to make it.
    std::fs::remove_file(world.certs().join("a.token")).unwrap();
    assert_eq!(world.renew("a").await, Outcome::NeedsBus);
    let waits = world.waits_for("a");
    assert_eq!(waits, ["new credentials: the core is gone"]);
    world.accounts.link.send_replace(Link::Up { generation: 2 });
    world.in_order("a").await;
    assert!(!world.token("a").is_empty());
    assert_eq!(world.accounts.counts(), (2, 2));
}

#[tokio::test]
async fn a_new_hub_key_costs_one_request_and_one_for_each() {
    let world = World::new();
    world.serve();
    for name in ["a", "b"] {
        world.ready(name).await;
        world.in_order(name).await;
    }
    assert_eq!(world.accounts.counts(), (1, 2));
    let before = world.token("a");
    std::fs::remove_file(world.certs().join("hubKey.pem")).unwrap();
    *world.accounts.rekeyed.lock().unwrap() = Some(KeyPair::generate().unwrap());
    let path = world.certs().join("hubKey.pem");
    let pem = world
        .accounts
        .rekeyed
        .lock()
        .unwrap()
        .as_ref()
        .unwrap()
        .to_pem();
    creds::atomic::write(&path, pem.expose().as_bytes(), 0o400).unwrap();
    let names = creds::ca::ServerNames::new("box", &[]);
    creds::ca::load_or_create_server(&world.certs(), &world.ca(), &names, now()).unwrap();
    world.accounts.link.send_replace(Link::Up { generation: 2 });
    for name in ["a", "b", "a"] {
        world.in_order(name).await;
    }
    assert_ne!(world.token("a"), before);
    assert_eq!(world.accounts.counts(), (2, 4));
}

#[tokio::test]
async fn a_hub_that_forgot_a_plugin_is_told_again_and_one_that_knows_another_key_too() {
    let world = World::new();
    world.ready("a").await;
    world.in_order("a").await;
    world.accounts.clients.lock().unwrap().clear();
    world.accounts.link.send_replace(Link::Up { generation: 2 });
    world.in_order("a").await;
    assert_eq!(world.accounts.counts(), (2, 2));
    let other = FakeAccounts::profile("a", "service", "another");
    world
        .accounts
        .clients
        .lock()
        .unwrap()
        .insert("a".to_owned(), other);
    world.accounts.link.send_replace(Link::Up { generation: 3 });
    world.in_order("a").await;
    assert_eq!(world.accounts.counts(), (3, 3));
}

#[tokio::test]
async fn the_key_of_a_plugin_that_runs_is_left_to_its_next_start() {
    let world = World::new();
    world.ready("a").await;
    world.in_order("a").await;
    let key = world.certs().join("a.key");
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(world.renew("a").await, Outcome::InOrder(_)));
    assert!(!key.exists(), "the running one knows the old one");
    assert!(
        world.waits_for("a")[0].contains("a.key is gone"),
        "{:?}",
        world.waits_for("a")
    );
    let other = KeyPair::generate().unwrap();
    creds::atomic::write(&key, other.to_pem().expose().as_bytes(), 0o400).unwrap();
    assert!(matches!(world.renew("a").await, Outcome::InOrder(_)));
    let waits = world.waits_for("a");
    assert!(
        waits[0].contains("a.key was replaced") && waits[0].contains("hubcli restart a"),
        "{waits:?}"
    );
    assert_eq!(world.accounts.counts(), (1, 1));
    world.ready("a").await;
    world.in_order("a").await;
    assert_eq!(world.accounts.counts(), (1, 2));
}

#[tokio::test]
async fn what_cannot_be_written_or_fetched_stays_and_is_told() {
    let world = World::new();
    world.ready("a").await;
    *world.accounts.failure.lock().unwrap() = Some("addService failed: no".to_owned());
    world.put_token("a", now().before(DAY), DAY + DAY / 10);
    let due = world.token("a");
    assert_eq!(world.renew("a").await, Outcome::Failed);
    assert_eq!(world.token("a"), due);
    assert_eq!(
        world.waits_for("a"),
        ["new credentials: addService failed: no"]
    );
    *world.accounts.failure.lock().unwrap() = None;
    // A folder in its place cannot be replaced, root or not.
    let path = world.certs().join("a.token");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(world.renew("a").await, Outcome::Failed);
    let waits = world.waits_for("a");
    assert!(
        waits[0].contains("a.token") && waits[0].contains("unchanged"),
        "{waits:?}"
    );
    std::fs::remove_dir(&path).unwrap();
    world.in_order("a").await;
    let path = world.certs().join("aCert.pem");
    std::fs::create_dir(&path).unwrap();
    assert!(
        matches!(world.renew("a").await, Outcome::InOrder(_)),
        "no CA"
    );
    world.ca();
    assert_eq!(world.renew("a").await, Outcome::Failed);
    let waits = world.waits_for("a");
    assert!(
        waits[0].contains("aCert.pem") && waits[0].contains("unchanged"),
        "{waits:?}"
    );
    world.ready("a").await;
    std::fs::remove_dir(&path).unwrap();
    world.in_order("a").await;
    // Tokens that are due at once are no reason to ask without end.
    *world.accounts.validity.lock().unwrap() = Duration::ZERO;
    std::fs::remove_file(world.certs().join("a.token")).unwrap();
    assert_eq!(world.renew("a").await, Outcome::Failed);
}

#[tokio::test]
async fn certificates_wait_for_the_core_and_say_so() {
    let world = World::new();
    world.ca();
    world.serve();
    world.ready("a").await;
    world.in_order("a").await;
    let second = creds::ca::replace_ca(&world.certs(), "Hub CA", DAY * 9, now()).unwrap();
    let outcome = world.renew("a").await;
    assert!(matches!(outcome, Outcome::InOrder(Some(next)) if next > DAY));
    assert_eq!(
        world.waits_for("a"),
        ["a new client certificate: waits until the core shows a server certificate of the new CA"]
    );
    world.ready("a").await;
    assert_eq!(
        world.waits_for("a").len(),
        1,
        "a start changes nothing of it"
    );
    world.serve();
    world.in_order("a").await;
    assert!(world.cert("a").is_signed_by(&second.cert));
}

#[tokio::test]
async fn near_the_end_of_the_ca_certificates_are_not_made_without_end() {
    let world = World::new();
    let minute = Duration::from_secs(60);
    creds::ca::replace_ca(&world.certs(), "Hub CA", minute, now()).unwrap();
    world.ready("a").await;
    world.in_order("a").await;
    let cert = world.cert("a");
    let next = world.in_order("a").await;
    assert!(next > Duration::from_secs(10) && next <= minute, "{next:?}");
    assert_eq!(world.cert("a"), cert);
}

#[tokio::test]
async fn what_the_clock_judged_is_judged_again_when_it_is_set() {
    let world = World::new();
    let shelf = Shelf::new(world.certs(), "launcher", Some(0.66), None);
    let id = PluginId::new("a").unwrap();
    world.ready("a").await;
    let later = now().after(DAY * 3650);
    let token = |at| shelf.look(&id, at).unwrap().token;
    assert!(matches!(token(later), Token::Useless(_)));
    assert_eq!(token(now()), Token::Serves, "without being told");
    // Due by a clock that is ahead.
    assert_eq!(token(now().after(DAY * 300)), Token::Due);
    shelf.forget_times();
    assert_eq!(token(now()), Token::Serves);
    let far = shelf.next_look(&id, now()).unwrap();
    assert!(far > DAY * 200, "{far:?}");
}

#[tokio::test]
async fn what_others_change_is_noticed_and_our_own_work_is_not() {
    let world = World::new();
    world.ca();
    let watch = world.preparer.watch().unwrap();
    world.ready("a").await;
    world.ready("b").await;
    world.in_order("a").await;
    world.in_order("b").await;
    // Whatever came of that is looked through by now; from here on every change counts.
    let quiet = Duration::from_secs(1);
    while tokio::time::timeout(quiet, world.preparer.changed())
        .await
        .is_ok()
    {}
    world.put_token("a", now().before(DAY), DAY + DAY / 10);
    let id = |name: &str| Whose::Plugin(PluginId::new(name).unwrap());
    let changed = async || {
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, world.preparer.changed())
            .await
            .expect("it is noticed")
    };
    assert_eq!(changed().await, Changed::Some(vec![id("a")]));
    world.in_order("a").await;
    let more = tokio::time::timeout(quiet, world.preparer.changed()).await;
    assert!(more.is_err(), "{more:?}");
    std::fs::remove_file(world.certs().join("b.token")).unwrap();
    assert_eq!(changed().await, Changed::Some(vec![id("b")]));
    creds::ca::replace_ca(&world.certs(), "Hub CA", DAY, now()).unwrap();
    assert_eq!(changed().await, Changed::All);
    keys::load_or_create(&world.certs(), "launcher").unwrap();
    world.put_token("launcher", now(), DAY);
    assert_eq!(changed().await, Changed::All);
    drop(watch);
}

#[tokio::test]
async fn our_own_token_is_renewed_and_its_refusal_explained() {
    let world = World::new();
    let renew = || world.preparer.renew(Whose::Launcher);
    assert_eq!(renew().await, Outcome::InOrder(None), "there is none");
    assert_eq!(world.preparer.explain_refusal().await, None);
    let (pair, _) = keys::load_or_create(&world.certs(), "launcher").unwrap();
    *world.accounts.own_key.lock().unwrap() = Some(pair.public_text());
    world.put_token("launcher", now(), DAY);
    let next = renew().await;
    assert!(matches!(next, Outcome::InOrder(Some(next)) if next < DAY && next > DAY / 2));
    world.put_token("launcher", now().before(DAY), DAY + DAY / 10);
    world.lose_bus();
    assert_eq!(renew().await, Outcome::NeedsBus);
    world.accounts.link.send_replace(Link::Up { generation: 2 });
    let next = renew().await;
    assert!(matches!(next, Outcome::InOrder(Some(next)) if next > DAY * 200));
    world.put_token("launcher", UnixTime(1_700_000_000), DAY);
    let text = world.preparer.explain_refusal().await.unwrap();
    let file = world.certs().join("launcher.token");
    let words = [
        file.to_str().unwrap(),
        "expired at 2023-11-",
        "restart it, or copy",
    ];
    for word in words {
        assert!(text.contains(word), "{text}");
    }
    *world.accounts.own_key.lock().unwrap() = None;
    assert_eq!(renew().await, Outcome::Failed);
}

#[test]
fn ends_are_warned_of_in_time_once_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let (certs, start) = (folder.path(), now());
    let ca = creds::ca::load_or_create_ca(certs, start).unwrap();
    let (pair, _) = keys::load_or_create(certs, "a").unwrap();
    for id in ["a", "gone"] {
        let subject = creds::ca::ClientSubject {
            client_id: id,
            unit: "service",
        };
        let issuer = ca.issuer().unwrap();
        let cert = issuer
            .client(subject, pair.public(), DAY * 60, start)
            .unwrap();
        std::fs::write(certs.join(format!("{id}Cert.pem")), cert).unwrap();
    }
    let ends = Ends::default();
    let at = |days: u32| {
        let now = start.after(DAY * days);
        ends.warnings(certs, |id| id == "a", 0.66, now)
    };
    assert_eq!(at(0), Vec::<String>::new());
    assert_eq!(at(35), Vec::<String>::new(), "it is not even due");
    let said = at(41);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("aCert.pem ends in 19 days"), "{said:?}");
    assert_eq!(at(41), Vec::<String>::new());
    assert_eq!(at(42).len(), 1);
    assert!(at(70)[0].contains("aCert.pem has expired"));
    let said = at(3640);
    assert!(said[0].contains("caCert.pem ends in 10 days"), "{said:?}");
    assert!(said[0].contains("hubcli cca --force"), "{said:?}");
}

#[tokio::test]
async fn at_another_machines_hub_its_key_is_known_by_our_own_token() {
    let world = World::new();
    keys::load_or_create(&world.certs(), "launcher").unwrap();
    world.put_token("launcher", now(), DAY);
    world.ready("a").await;
    world.in_order("a").await;
    assert_eq!(world.accounts.counts(), (1, 1));
    // The hub got a new key, and we its new token.
    *world.accounts.rekeyed.lock().unwrap() = Some(KeyPair::generate().unwrap());
    let key = keys::load(&world.certs().join("launcher.key")).unwrap();
    let token = world.accounts.token("launcher", &key.public_text());
    let path = world.certs().join("launcher.token");
    creds::files::write_token(&path, &creds::Secret::new(token)).unwrap();
    world.accounts.link.send_replace(Link::Up { generation: 2 });
    let before = world.token("a");
    world.in_order("a").await;
    assert_ne!(world.token("a"), before);
    assert_eq!(world.accounts.counts(), (2, 2));
    // A server certificate that no core made says nothing of it.
    let ca = world.ca();
    let subject = creds::ca::ClientSubject {
        client_id: "hub.example.org",
        unit: "service",
    };
    let other = KeyPair::generate().unwrap();
    let issuer = ca.issuer().unwrap();
    let cert = issuer.client(subject, other.public(), DAY, now()).unwrap();
    std::fs::write(world.certs().join("hubCert.pem"), cert).unwrap();
    world.in_order("a").await;
    assert_eq!(world.accounts.counts(), (2, 2));
}
