mod elsewhere;
mod plain;
mod renewal;

use super::*;
use crate::link::Link;
use crate::ports::Unanswered;
use bus::wire::ClientProfile;
use creds::token::{Claims, sign};
use creds::{KeyPair, keys};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use supervision::lifecycle::Rules;
use supervision::policy::LogPolicy;
use tokio::sync::watch;

/// An auth service that counts what it is asked.
struct FakeAccounts {
    link: watch::Sender<Link>,
    hub: KeyPair,
    clients: Mutex<BTreeMap<String, ClientProfile>>,
    asked: AtomicUsize,
    added: AtomicUsize,
    adding: AtomicUsize,
    most_adding: AtomicUsize,
    failure: Mutex<Option<String>>,
    /// Whether there is none.
    absent: AtomicBool,
    validity: Mutex<Duration>,
    /// The hub's key, when it got a new one.
    rekeyed: Mutex<Option<KeyPair>>,
    /// Our own, once there is one.
    own_key: Mutex<Option<String>>,
}

impl FakeAccounts {
    fn new() -> Arc<Self> {
        Arc::new(FakeAccounts {
            link: watch::Sender::new(Link::Up { generation: 1 }),
            hub: KeyPair::generate().unwrap(),
            clients: Mutex::default(),
            asked: AtomicUsize::new(0),
            added: AtomicUsize::new(0),
            adding: AtomicUsize::new(0),
            most_adding: AtomicUsize::new(0),
            failure: Mutex::default(),
            absent: AtomicBool::default(),
            validity: Mutex::new(Duration::from_secs(365 * 24 * 3600)),
            rekeyed: Mutex::default(),
            own_key: Mutex::default(),
        })
    }

    fn counts(&self) -> (usize, usize) {
        (
            self.asked.load(Ordering::SeqCst),
            self.added.load(Ordering::SeqCst),
        )
    }

    fn token(&self, id: &str, key: &str) -> String {
        let validity = *self.validity.lock().unwrap();
        let now = UnixTime::from(SystemTime::now());
        let rekeyed = self.rekeyed.lock().unwrap();
        let hub = rekeyed.as_ref().unwrap_or(&self.hub);
        let claims = Claims::new(id, "service", "service", key, hub.public(), now, validity);
        sign(hub, &claims).unwrap().expose().to_owned()
    }

    fn profile(id: &str, kind: &str, key: &str) -> ClientProfile {
        ClientProfile {
            client_id: id.to_owned(),
            client_type: kind.to_owned(),
            pub_key: key.to_owned(),
            ..ClientProfile::default()
        }
    }
}

/// The trait is foreign to an `Arc`, hence a holder.
struct Holder(Arc<FakeAccounts>);

impl Accounts for Holder {
    fn links(&self) -> watch::Receiver<Link> {
        self.0.link.subscribe()
    }

    fn profiles(&self) -> BoxFuture<Result<Vec<ClientProfile>, Unanswered>> {
        let fake = self.0.clone();
        Box::pin(async move {
            fake.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if fake.absent.load(Ordering::SeqCst) {
                return Err(Unanswered::NoService);
            }
            match &*fake.failure.lock().unwrap() {
                Some(why) => Err(Unanswered::Failed(why.clone())),
                None => Ok(fake.clients.lock().unwrap().values().cloned().collect()),
            }
        })
    }

    fn add_service(&self, id: &PluginId, key: &str) -> BoxFuture<Result<String, Unanswered>> {
        let (fake, id, key) = (self.0.clone(), id.to_string(), key.to_owned());
        Box::pin(async move {
            fake.added.fetch_add(1, Ordering::SeqCst);
            let now = fake.adding.fetch_add(1, Ordering::SeqCst) + 1;
            fake.most_adding.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            fake.adding.fetch_sub(1, Ordering::SeqCst);
            if let Some(why) = &*fake.failure.lock().unwrap() {
                return Err(Unanswered::Failed(why.clone()));
            }
            let profile = FakeAccounts::profile(&id, "service", &key);
            fake.clients.lock().unwrap().insert(id.clone(), profile);
            Ok(fake.token(&id, &key))
        })
    }

    fn refresh(&self) -> BoxFuture<Result<String, Unanswered>> {
        let key = self.0.own_key.lock().unwrap().clone();
        let token = key.map(|key| self.0.token("launcher", &key));
        Box::pin(
            async move { token.ok_or_else(|| Unanswered::Failed("nobody knows us".to_owned())) },
        )
    }
}

#[derive(Default)]
struct FakeFinder {
    copies: BTreeMap<String, i32>,
    looks: AtomicUsize,
}

impl FindForeign for FakeFinder {
    fn find(&self, sought: &[Sought]) -> Vec<Option<i32>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        // As long as a real one takes: in this time others come, who share the next.
        std::thread::sleep(Duration::from_millis(5));
        sought
            .iter()
            .map(|s| self.copies.get(s.id.as_str()).copied())
            .collect()
    }
}

/// Nothing is to be made ready.
struct Nothing;

impl MakeReady for Nothing {
    fn make_ready(&self, _id: &PluginId) {}
}

struct World {
    dir: tempfile::TempDir,
    accounts: Arc<FakeAccounts>,
    finder: Arc<FakeFinder>,
    preparer: Arc<DiskPreparer>,
}

impl World {
    fn new() -> Self {
        Self::with(true, FakeFinder::default())
    }

    fn with(make: bool, finder: FakeFinder) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["plugins", "certs"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let (accounts, finder) = (FakeAccounts::new(), Arc::new(finder));
        let mut world = World {
            preparer: Arc::new(preparer(dir.path(), make, &accounts, finder.clone())),
            dir,
            accounts,
            finder,
        };
        for name in ["a", "b"] {
            world.program(name);
        }
        if !make {
            world.accounts.link.send_replace(Link::default());
        }
        world.forget();
        world
    }

    /// As after a restart of the launcher.
    fn forget(&mut self) {
        let make = self.preparer.inner.shelf.is_some();
        let (accounts, finder) = (&self.accounts, self.finder.clone());
        self.preparer = Arc::new(preparer(self.dir.path(), make, accounts, finder));
    }

    fn program(&self, name: &str) {
        let path = self.dir.path().join("plugins").join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn certs(&self) -> std::path::PathBuf {
        self.dir.path().join("certs")
    }

    fn token(&self, name: &str) -> String {
        std::fs::read_to_string(self.certs().join(format!("{name}.token"))).unwrap()
    }

    async fn prepare(&self, name: &str) -> Preparation {
        self.prepare_as(name, plan(), Look::Again).await
    }

    async fn prepare_as(&self, name: &str, plan: Plan, look: Look) -> Preparation {
        let id = PluginId::new(name).unwrap();
        self.preparer.prepare(id, Kind::Plugin, plan, look).await
    }

    async fn blocked(&self, name: &str) -> String {
        let found = self.prepare(name).await;
        let Preparation::Blocked(BlockReason::Credentials(text)) = found else {
            panic!("{found:?}");
        };
        text
    }

    async fn ready(&self, name: &str) {
        let found = self.prepare(name).await;
        assert!(matches!(found, Preparation::Ready { .. }), "{found:?}");
    }
}

fn preparer(
    dir: &Path,
    make: bool,
    accounts: &Arc<FakeAccounts>,
    finder: Arc<FakeFinder>,
) -> DiskPreparer {
    let credentials = if make {
        Credentials::Made {
            certs: dir.join("certs"),
            renew_at: 0.66,
            tokens: true,
            certificates: Some(ClientCertificates {
                life: Duration::from_secs(24 * 3600),
                renew_at: 0.5,
                after_server: true,
            }),
        }
    } else {
        Credentials::AreThere
    };
    let config = PrepareConfig {
        plugins: dir.join("plugins"),
        core: Some(dir.join("bin/mqttcore")),
        home: dir.to_owned(),
        credentials,
        plain_core: None,
        own: OwnLogin {
            certs: dir.join("certs"),
            login: "launcher".to_owned(),
            renew_at: 0.66,
        },
        written: Vec::new(),
        stuck: Vec::new(),
    };
    DiskPreparer::new(
        config,
        Arc::new(Holder(accounts.clone())),
        finder,
        Arc::new(Nothing),
        Desk::default(),
    )
}

fn plan() -> Plan {
    Plan {
        rules: Rules::default(),
        logs: LogPolicy::default(),
        limits: supervision::limits::Limits::default(),
        args: Vec::new(),
        env: BTreeMap::new(),
        env_file: None,
        cwd: None,
        instance_of: None,
        requires: Vec::new(),
        needs: Vec::new(),
        teller: crate::ports::Teller::default(),
        sampling: None,
        on_core_restart: crate::ports::OnCoreRestart::Keep,
    }
}

#[tokio::test]
async fn new_plugins_get_a_pair_and_a_token() {
    let world = World::new();
    world.ready("a").await;
    assert_eq!(world.accounts.counts(), (1, 1));
    let mode = |file: &str| {
        let meta = std::fs::metadata(world.certs().join(file)).unwrap();
        meta.permissions().mode() & 0o7777
    };
    assert_eq!(
        (mode("a.key"), mode("a.pub"), mode("a.token")),
        (0o400, 0o444, 0o400)
    );
    let key = keys::load(&world.certs().join("a.key"))
        .unwrap()
        .public_text();
    assert_eq!(world.accounts.clients.lock().unwrap()["a"].pub_key, key);
    // And again, with what is known, without another request.
    world.ready("a").await;
    assert_eq!(world.accounts.counts(), (1, 1));
}

#[tokio::test]
async fn many_known_plugins_cost_one_request() {
    let mut world = World::new();
    let names: Vec<String> = (0..60).map(|n| format!("p{n}")).collect();
    for name in &names {
        world.program(name);
    }
    let all = async |world: &World| {
        let mut asked = Vec::new();
        for name in &names {
            let id = PluginId::new(name).unwrap();
            let prepared = world
                .preparer
                .prepare(id, Kind::Plugin, plan(), Look::Thorough);
            asked.push(tokio::spawn(prepared));
        }
        for asked in asked {
            let found = asked.await.unwrap();
            assert!(matches!(found, Preparation::Ready { .. }), "{found:?}");
        }
    };
    all(&world).await;
    assert_eq!(world.accounts.counts(), (1, 60));
    assert!(world.accounts.most_adding.load(Ordering::SeqCst) <= 16);
    world.forget();
    let looks = world.finder.looks.load(Ordering::SeqCst);
    all(&world).await;
    assert_eq!(world.accounts.counts(), (2, 60));
    assert!(
        world.finder.looks.load(Ordering::SeqCst) - looks < 60,
        "looks are shared"
    );
    // Another connection: asked once more, as the core may have lost them.
    world.accounts.link.send_replace(Link::Up { generation: 2 });
    world.accounts.clients.lock().unwrap().remove("p7");
    all(&world).await;
    assert_eq!(world.accounts.counts(), (3, 61));
}

#[tokio::test]
async fn a_token_that_does_not_serve_is_fetched_anew() {
    let world = World::new();
    world.ready("a").await;
    let token = world.certs().join("a.token");
    let good = world.token("a");
    let other = KeyPair::generate().unwrap().public_text();
    let bad = [
        String::new(),
        "half.".to_owned(),
        good[..good.len() - 9].to_owned(),
        world.accounts.token("b", &other),
        world.accounts.token("a", &other),
    ];
    for (number, bad) in bad.iter().enumerate() {
        creds::atomic::write(&token, bad.as_bytes(), 0o400).unwrap();
        world.ready("a").await;
        assert_eq!(world.accounts.counts(), (1, 2 + number));
        assert_eq!(world.token("a").len(), good.len());
    }
    std::fs::remove_file(&token).unwrap();
    world.ready("a").await;
    assert_eq!(world.accounts.counts(), (1, 2 + bad.len()));
}

#[tokio::test]
async fn a_token_that_is_due_is_renewed_if_that_is_possible() {
    let world = World::new();
    world.ready("a").await;
    // Issued now for no time at all would be invalid; one that began long ago is due.
    let key = keys::load(&world.certs().join("a.key"))
        .unwrap()
        .public_text();
    let now = UnixTime::from(SystemTime::now());
    let began = now.before(Duration::from_secs(9_000));
    let hub = &world.accounts.hub;
    let life = Duration::from_secs(10_000);
    let claims = Claims::new("a", "service", "service", &key, hub.public(), began, life);
    let old = sign(hub, &claims).unwrap().expose().to_owned();
    creds::atomic::write(&world.certs().join("a.token"), old.as_bytes(), 0o400).unwrap();
    *world.accounts.failure.lock().unwrap() = Some("no".to_owned());
    world.ready("a").await;
    assert_eq!(world.token("a"), old);
    *world.accounts.failure.lock().unwrap() = None;
    world.ready("a").await;
    assert_ne!(world.token("a"), old);
}

#[tokio::test]
async fn without_a_bus_who_was_known_starts_and_others_are_blocked_with_file_cause_and_way_out() {
    let world = World::new();
    world.ready("a").await;
    let down = Link::Down {
        since_mse: 0,
        retry: crate::link::Retry::default(),
        generation: 1,
        told: false,
        reason: "the core is gone".to_owned(),
    };
    world.accounts.link.send_replace(down);
    // Whom the hub knew with the key and token it has is started again; a newcomer, or who lost its token, is not.
    world.ready("a").await;
    std::fs::remove_file(world.certs().join("a.token")).unwrap();
    let text = world.blocked("a").await;
    assert_eq!(
        text,
        format!(
            "its token {} cannot be checked or fetched: the core is gone; it is tried again when the bus is there",
            world.certs().join("a.token").display()
        )
    );
    // A bus that comes back while it waits is soon enough.
    let link = world.accounts.link.clone();
    let up = tokio::spawn(async move {
        while link.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        link.send_replace(Link::Up { generation: 2 });
    });
    world.ready("a").await;
    up.await.unwrap();
}

#[tokio::test]
async fn a_failure_is_shared_by_those_who_waited_and_not_kept() {
    let world = World::new();
    *world.accounts.failure.lock().unwrap() = Some("getProfiles failed: refused".to_owned());
    let (a, b) = tokio::join!(world.blocked("a"), world.blocked("b"));
    assert!(
        a.contains("getProfiles failed: refused; it is tried again"),
        "{a}"
    );
    assert!(b.contains("b.token"), "{b}");
    let asked = world.accounts.counts().0;
    assert!(asked <= 2);
    *world.accounts.failure.lock().unwrap() = None;
    world.ready("a").await;
    assert_eq!(world.accounts.counts().0, asked + 1);
}

#[tokio::test]
async fn files_that_cannot_be_used_or_written_block_and_stay() {
    let world = World::new();
    std::fs::write(
        world.certs().join("a.key"),
        "-----BEGIN PRIVATE KEY-----\nAA",
    )
    .unwrap();
    let text = world.blocked("a").await;
    assert!(
        text.contains("a.key") && text.contains("half-written"),
        "{text}"
    );
    assert_eq!(world.accounts.counts(), (0, 0));
    // A folder in the token's place cannot be replaced, root or not.
    std::fs::create_dir(world.certs().join("b.token")).unwrap();
    let text = world.blocked("b").await;
    assert!(
        text.contains("b.token") && text.contains("unchanged"),
        "{text}"
    );
}

#[tokio::test]
async fn a_persons_account_is_not_taken_over() {
    let world = World::new();
    let person = FakeAccounts::profile("a", "user", "");
    world
        .accounts
        .clients
        .lock()
        .unwrap()
        .insert("a".to_owned(), person);
    let text = world.blocked("a").await;
    assert!(text.starts_with("a person has the account 'a'"), "{text}");
    assert_eq!(world.accounts.counts(), (1, 0));
}

#[tokio::test]
async fn without_credentials_of_ours_nothing_is_asked() {
    let world = World::with(false, FakeFinder::default());
    world.ready("a").await;
    assert_eq!(world.accounts.counts(), (0, 0));
    assert_eq!(std::fs::read_dir(world.certs()).unwrap().count(), 0);
}

#[tokio::test]
async fn copies_of_others_are_found_when_looked_for() {
    let finder = FakeFinder {
        copies: BTreeMap::from([("a".to_owned(), 77)]),
        ..FakeFinder::default()
    };
    let world = World::with(true, finder);
    let found = world.prepare_as("a", plan(), Look::Thorough).await;
    assert_eq!(found, Preparation::Foreign { pid: 77 });
    assert_eq!(std::fs::read_dir(world.certs()).unwrap().count(), 0);
    world.ready("a").await;
}

#[tokio::test]
async fn executable_folder_and_environment_file_are_looked_at() {
    let world = World::with(false, FakeFinder::default());
    let blocked = async |name: &str, plan: Plan| {
        let found = world.prepare_as(name, plan, Look::Again).await;
        let Preparation::Blocked(reason) = found else {
            panic!("{found:?}");
        };
        reason
    };
    let reason = blocked("gone", plan()).await;
    assert!(
        matches!(&reason, BlockReason::Executable(t) if t.starts_with("no such file in plugins"))
    );
    let cwd = Plan {
        cwd: Some("stores/a".into()),
        ..plan()
    };
    let reason = blocked("a", cwd.clone()).await;
    let folder = world.dir.path().join("stores/a");
    let text = format!(
        "its working folder {} does not exist; create it or change plugins.a.cwd",
        folder.display()
    );
    assert_eq!(reason, BlockReason::Settings(text));
    std::fs::create_dir_all(folder).unwrap();
    let file = world.dir.path().join("a.env");
    let plan = Plan {
        env_file: Some(file.clone()),
        instance_of: Some("b".to_owned()),
        ..cwd
    };
    let text = blocked("a", plan.clone()).await.text().to_owned();
    assert!(
        text.contains("a.env does not exist") && text.ends_with("plugins.a.envFile"),
        "{text}"
    );
    std::fs::write(&file, "X=1\nbad\n").unwrap();
    let text = blocked("a", plan.clone()).await.text().to_owned();
    assert!(
        text.contains("a.env:2: the line is not NAME=VALUE"),
        "{text}"
    );
    std::fs::write(&file, "X=1\n").unwrap();
    let found = world.prepare_as("a", plan, Look::Again).await;
    let Preparation::Ready { file, env_file } = found else {
        panic!("{found:?}");
    };
    assert_eq!(env_file, [("X".to_owned(), "1".to_owned())]);
    let binary = world.dir.path().join("plugins/b");
    assert_eq!((file.name.as_str(), file.path), ("a", binary));
}

#[tokio::test]
async fn the_core_is_only_looked_at() {
    let world = World::new();
    let core = async || {
        world
            .preparer
            .prepare(PluginId::core(), Kind::Core, plan(), Look::Thorough)
            .await
    };
    assert!(matches!(
        core().await,
        Preparation::Blocked(BlockReason::Executable(_))
    ));
    std::fs::create_dir(world.dir.path().join("bin")).unwrap();
    let plugin = world.dir.path().join("plugins/a");
    std::fs::copy(plugin, world.dir.path().join("bin/mqttcore")).unwrap();
    let found = core().await;
    assert!(
        matches!(&found, Preparation::Ready { file, .. } if file.name == "mqttcore"),
        "{found:?}"
    );
    assert_eq!(world.accounts.counts(), (0, 0));
    assert_eq!(world.finder.looks.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn plugins_get_client_certificates_while_the_ca_can_sign() {
    let world = World::new();
    world.program("b");
    let cert = |id: &str| {
        let text = std::fs::read_to_string(world.certs().join(format!("{id}Cert.pem"))).ok()?;
        Some(creds::check::Certificate::from_pem(&text).unwrap())
    };
    // Without a CA there are none, and nobody is blocked.
    world.ready("a").await;
    assert_eq!(cert("a"), None);
    let now = UnixTime::from(SystemTime::now());
    let ca = creds::ca::load_or_create_ca(&world.certs(), now).unwrap();
    world.ready("a").await;
    let first = cert("a").unwrap();
    let key = keys::load(&world.certs().join("a.key")).unwrap();
    assert_eq!(
        (first.common_name(), first.unit()),
        (Some("a"), Some("service"))
    );
    assert!(first.is_signed_by(&ca.cert) && first.is_of_key(key.public()));
    let mode = std::fs::metadata(world.certs().join("aCert.pem")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o7777, 0o444);
    // One that serves is left alone, whoever looks.
    world.ready("a").await;
    assert_eq!(cert("a").unwrap(), first);
    // Another's, damaged, or of another CA: made anew.
    world.ready("b").await;
    let path = world.certs().join("aCert.pem");
    let replace = |text: &[u8]| creds::atomic::write(&path, text, 0o444).unwrap();
    replace(&std::fs::read(world.certs().join("bCert.pem")).unwrap());
    world.ready("a").await;
    assert_eq!(cert("a").unwrap().common_name(), Some("a"));
    replace(b"-----BEGIN CERTIFICATE-----\nMIIB");
    world.ready("a").await;
    for file in ["caCert.pem", "caKey.pem"] {
        std::fs::remove_file(world.certs().join(file)).unwrap();
    }
    let other = creds::ca::load_or_create_ca(&world.certs(), now).unwrap();
    world.ready("a").await;
    assert!(cert("a").unwrap().is_signed_by(&other.cert));
    // Without the CA's key what is there stays.
    std::fs::remove_file(world.certs().join("caKey.pem")).unwrap();
    let last = cert("a").unwrap();
    world.ready("a").await;
    assert_eq!(cert("a").unwrap(), last);
}

#[tokio::test]
async fn a_new_ca_is_used_when_the_core_shows_a_certificate_of_it() {
    let world = World::new();
    let now = UnixTime::from(SystemTime::now());
    let names = creds::ca::ServerNames::new("box", &[]);
    let cert = || {
        let text = std::fs::read_to_string(world.certs().join("aCert.pem")).unwrap();
        creds::check::Certificate::from_pem(&text).unwrap()
    };
    let first = creds::ca::load_or_create_ca(&world.certs(), now).unwrap();
    let key = world.accounts.hub.to_pem();
    let path = world.certs().join("hubKey.pem");
    creds::atomic::write(&path, key.expose().as_bytes(), 0o400).unwrap();
    creds::ca::load_or_create_server(&world.certs(), &first, &names, now).unwrap();
    world.ready("a").await;
    assert!(cert().is_signed_by(&first.cert));
    let before = world.token("a");
    let life = Duration::from_secs(24 * 3600);
    let second = creds::ca::replace_ca(&world.certs(), "Hub CA", life, now).unwrap();
    world.ready("a").await;
    world.ready("b").await;
    assert!(
        cert().is_signed_by(&first.cert) && !world.certs().join("bCert.pem").exists(),
        "a core that knows only the first would refuse one of the second"
    );
    creds::ca::load_or_create_server(&world.certs(), &second, &names, now).unwrap();
    world.ready("a").await;
    world.ready("b").await;
    assert!(cert().is_signed_by(&second.cert));
    assert_eq!(world.token("a"), before, "the hub's key is the same");
}
