//! The core is killed again and again while plugins ask each other and the auth service at full speed (crates-mqtt §8,
//! check 4).
//!
//! Invariant: each request has a number, so that who is asked knows one that comes twice, and who asks knows whose reply it
//! got.

use crate::checks::bus_options;
use crate::hub::{PATIENCE, eventually};
use crate::server::{Core, Kind};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::client::{CallError, Client, Incoming, Status};
use tokio::task::JoinSet;

const PLUGINS: usize = 20;
const KILLS: usize = 4;
/// How long the core works between two of its ends.
const LIFE: Duration = Duration::from_millis(700);
/// After which all sessions are back, counted from the new core's readiness.
const MOST_BACK: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Default)]
struct Book {
    next: AtomicU64,
    stop: AtomicBool,
    /// Each request that came in, by its number.
    served: Mutex<BTreeMap<u64, usize>>,
    ends: Mutex<BTreeMap<&'static str, usize>>,
    /// Requests that had a reply.
    replied: Mutex<BTreeSet<u64>>,
}

fn name(number: usize) -> String {
    format!("plugin{number}")
}

/// Serves its requests: the reply is the request.
async fn serve(
    client: Client,
    mut incoming: tokio::sync::mpsc::Receiver<Incoming>,
    book: Arc<Book>,
) {
    while let Some(what) = incoming.recv().await {
        match what {
            Incoming::Request(request) => {
                let asked: Value = serde_json::from_slice(&request.payload).unwrap();
                let number = asked["number"].as_u64().unwrap();
                *book.served.lock().unwrap().entry(number).or_default() += 1;
                let client = client.clone();
                // A reply that is lost with the connection is an error for who asked.
                tokio::spawn(async move {
                    let _ = client.reply(&request, Ok(request.payload.to_vec())).await;
                });
            }
            Incoming::Connected { .. }
            | Incoming::Disconnected { .. }
            | Incoming::Message { .. } => {}
        }
    }
}

/// Asks one neighbour after the other, and now and then the auth service.
async fn ask(own: usize, client: Client, book: Arc<Book>) {
    let mut round = own;
    let mut status = client.status();
    while !book.stop.load(Ordering::Relaxed) {
        round += 1;
        let number = book.next.fetch_add(1, Ordering::Relaxed);
        let payload = json!({"number": number}).to_string();
        let is_auth = round.is_multiple_of(7);
        let topic = if is_auth {
            format!("rpc/auth/profile/getProfile/{}", client.login())
        } else {
            format!("rpc/{}/cap/echo/{}", name(round % PLUGINS), client.login())
        };
        let since = Instant::now();
        let end = match client.call(&topic, payload.clone(), TIMEOUT).await {
            Ok(reply) if is_auth => {
                let reply: Value = serde_json::from_slice(&reply).unwrap();
                assert_eq!(reply["profile"]["clientID"], client.login());
                "reply of auth"
            }
            Ok(reply) => {
                assert_eq!(reply, payload.as_bytes(), "another's reply");
                assert!(book.replied.lock().unwrap().insert(number));
                "reply"
            }
            Err(CallError::Disconnected(_)) => "disconnected",
            Err(CallError::Timeout) => "timeout",
            Err(CallError::NotConnected) => {
                // Not accepted. It asks again once it is back.
                let back = status.wait_for(|status| matches!(status, Status::Connected { .. }));
                let _ = tokio::time::timeout(PATIENCE, back).await;
                "not connected"
            }
            Err(error) => panic!("{topic}: {error}"),
        };
        let took = since.elapsed();
        assert!(
            end == "not connected" || took < TIMEOUT + Duration::from_secs(2),
            "{topic}: {end} after {took:?}"
        );
        *book.ends.lock().unwrap().entry(end).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hangs_and_nothing_is_done_twice_when_the_core_is_killed_under_load() {
    let mut core = Core::start();
    for number in 0..PLUGINS {
        core.add(Kind::Service, &name(number), "service");
    }
    core.add(Kind::User, "vera", "viewer");
    let opened = json!({"capability": "cap", "roles": ["viewer"]});
    core.asker(&name(0))
        .ask("rpc/auth/profile/setServicePermissions", &opened);
    let endpoint = format!("unix://{}", core.socket().display());
    let book = Arc::new(Book::default());
    let (mut clients, mut tasks, mut servers) = (Vec::new(), JoinSet::new(), JoinSet::new());
    for number in 0..PLUGINS {
        let options = bus_options(&core, &name(number), &endpoint)
            .subscribe(bus::topics::rpc_filter(&name(number), "cap"));
        let (client, incoming) = bus::client::connect_forever(options);
        servers.spawn(serve(client.clone(), incoming, Arc::clone(&book)));
        clients.push(client);
    }
    all_back(&clients, PATIENCE).await;
    for (number, client) in clients.iter().enumerate() {
        for at in 0..2 {
            tasks.spawn(ask(number + at * 3, client.clone(), Arc::clone(&book)));
        }
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        tokio::time::sleep(LIFE).await;
        core.kill();
        for client in &clients {
            tokio::time::timeout(PATIENCE, client.disconnected())
                .await
                .unwrap();
        }
        core.launch();
        let since = Instant::now();
        all_back(&clients, MOST_BACK).await;
        slowest = slowest.max(since.elapsed());
    }
    tokio::time::sleep(LIFE).await;
    book.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    // What services opened is open again, before any of them has said it anew.
    let mut vera = core.asker("vera");
    let number = book.next.fetch_add(1, Ordering::Relaxed);
    let reply = vera.ask("rpc/plugin0/cap/echo", &json!({"number": number}));
    assert_eq!(reply["number"], number);

    let ends = book.ends.lock().unwrap().clone();
    let served = book.served.lock().unwrap().clone();
    println!(
        "{ends:?}; {} served; all back after {slowest:?} at most",
        served.len()
    );
    let twice: Vec<_> = served.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "delivered more than once: {twice:?}");
    assert!(
        book.replied
            .lock()
            .unwrap()
            .iter()
            .all(|number| served.contains_key(number))
    );
    assert!(
        ends["reply"] > 200 && ends["reply of auth"] > 20 && ends["disconnected"] > 0,
        "{ends:?}"
    );
    // A request that reached the core may wait for one that was not back yet; it is the exception.
    assert!(
        ends.get("timeout").copied().unwrap_or(0) <= PLUGINS * 2 * KILLS,
        "{ends:?}"
    );
    for client in &clients {
        client.close().await;
    }
    while let Some(ended) = servers.join_next().await {
        ended.unwrap();
    }
    assert!(!core.log().contains("panicked"), "{}", core.log());
    eventually("the sessions are gone", || {
        let log = core.descriptors();
        (log < PLUGINS + 20).then_some(())
    });
}

async fn all_back(clients: &[Client], within: Duration) {
    let until = tokio::time::Instant::now() + within;
    for client in clients {
        let mut status = client.status();
        let back = status.wait_for(|status| matches!(status, Status::Connected { .. }));
        let back = tokio::time::timeout_at(until, back).await;
        assert!(
            back.is_ok(),
            "{} is not back after {within:?}",
            client.login()
        );
    }
}
