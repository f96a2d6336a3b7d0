//! Every open connection: who it is, what it subscribed, and how to be rid of it.
//!
//! Invariants:
//! - An MQTT client id belongs to one login as long as any connection with it lives.
//! - Connections that have not logged in are bounded for each door; the oldest from the network that has most of them
//!   makes room, so that silent ones delay nobody, and no network and no door keeps out another.
//! - No lock is held across an await.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::time::Duration;

use bus::topics;
use tokio::sync::{Notify, broadcast};

use crate::backlog::{Backlog, Room};
use crate::limits::Limits;
use crate::lock::lock;

/// How long a connection that was asked to leave may take before it is cut.
pub const LEAVE_GRACE: Duration = Duration::from_millis(100);

/// MQTT 5 reason codes of a DISCONNECT by the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// The core stops.
    ShuttingDown = 0x8b,
    /// It lets too much wait.
    Quota = 0x97,
    /// The client was removed or replaced.
    Administrative = 0x98,
}

/// Where a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// A socket of this machine.
    Local,
    /// TLS from anywhere.
    Network,
    /// A secure websocket from anywhere.
    Web,
    /// TCP without TLS from this machine.
    Loopback,
}

/// Somebody with IPv6 has a whole /64 of addresses.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Makes a connection's reads and writes fail, from wherever.
#[derive(Debug, Default)]
pub struct Cut {
    done: AtomicBool,
    waker: Mutex<Option<Waker>>,
    notify: Notify,
}

impl Cut {
    /// Cuts. The connection's task is woken.
    pub fn cut(&self) {
        self.done.store(true, Ordering::Release);
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
        self.notify.notify_waiters();
    }

    /// Whether it was cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Has `waker` woken by the cut. To be asked again after it whether that has happened.
    pub fn wake_later(&self, waker: &Waker) {
        let mut slot = lock(&self.waker);
        match &mut *slot {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Waits for the cut.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait(&self) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if !self.is_cut() {
            notified.await;
        }
    }
}

/// What a login adds to a connection.
#[derive(Debug)]
struct Session {
    login: String,
    mqtt_id: String,
    filters: BTreeSet<String>,
}

/// By what a login was proved. While that is what the client table says, the connection may stay.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// A client certificate in its name.
    Certificate,
    /// A token that was issued for this key.
    Token(String),
    /// The password of this hash.
    Password(String),
}

impl Proof {
    /// For the log.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Proof::Certificate => "certificate",
            Proof::Token(_) => "token",
            Proof::Password(_) => "password",
        }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One connection, shared by its task, its stream and the registry.
#[derive(Debug)]
pub struct Connection {
    /// Its number, never used again.
    pub number: u64,
    /// Where it came in.
    pub door: Door,
    /// The common name of its verified client certificate, once the handshake is over.
    pub certificate: OnceLock<String>,
    /// By what it logged in.
    pub proof: OnceLock<Proof>,
    /// Breaks it.
    pub cut: Cut,
    /// Cut when it is forgotten.
    pub ended: Cut,
    /// What it has not taken yet.
    pub backlog: Backlog,
    leave: broadcast::Sender<()>,
    why: AtomicU8,
    session: Mutex<Option<Session>>,
}

impl Connection {
    /// Hears when the connection is asked to leave.
    #[must_use]
    pub fn leave_signal(&self) -> broadcast::Receiver<()> {
        self.leave.subscribe()
    }

    /// The reason the core's next DISCONNECT is to carry, if it is not the library's own.
    #[must_use]
    pub fn why(&self) -> Option<u8> {
        Some(self.why.load(Ordering::Relaxed)).filter(|why| *why != 0)
    }

    /// Asks it to leave: the client gets a DISCONNECT with that reason. A client that does not read goes on until it
    /// is cut.
    pub fn ask_to_leave(&self, why: Why) {
        self.why.store(why as u8, Ordering::Relaxed);
        // Nobody hears it when its task has just ended.
        let _ = self.leave.send(());
    }

    /// Asks it to leave and cuts it when it has not after [`LEAVE_GRACE`].
    ///
    /// # Cancel safety
    /// When dropped, it may stay until its client reads.
    pub async fn throw_out(self: Arc<Self>, why: Why) {
        self.ask_to_leave(why);
        tokio::time::sleep(LEAVE_GRACE).await;
        self.cut.cut();
    }

    /// Whether it has logged in.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        lock(&self.session).is_some()
    }

    /// Its login, once it has one.
    #[must_use]
    pub fn login(&self) -> Option<String> {
        lock(&self.session).as_ref().map(|s| s.login.clone())
    }

    /// Its MQTT client id, once it has logged in.
    #[must_use]
    pub fn mqtt_id(&self) -> Option<String> {
        lock(&self.session).as_ref().map(|s| s.mqtt_id.clone())
    }

    /// Notes a filter it subscribes, to be judged again when rights change.
    pub fn note_filter(&self, filter: &str) {
        if let Some(session) = &mut *lock(&self.session) {
            session.filters.insert(filter.to_owned());
        }
    }

    /// Forgets a filter.
    pub fn drop_filter(&self, filter: &str) {
        if let Some(session) = &mut *lock(&self.session) {
            session.filters.remove(filter);
        }
    }

    /// Whether it subscribes to a filter that fits `topic`.
    #[must_use]
    pub fn wants(&self, topic: &str) -> bool {
        lock(&self.session).as_ref().is_some_and(|session| {
            session.filters.iter().any(|filter| {
                topics::without_share(filter).is_some_and(|filter| topics::matches(filter, topic))
            })
        })
    }

    /// The filters it subscribes.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        lock(&self.session)
            .as_ref()
            .map(|session| session.filters.iter().cloned().collect())
            .unwrap_or_default()
    }
}

/// Why a connection cannot be logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// The id is that of a live connection of another login.
    Taken,
    /// The login has as many connections as it may.
    TooMany,
}

#[derive(Debug, Default)]
struct Known {
    all: BTreeMap<u64, Arc<Connection>>,
    /// Not logged in yet and not cut, oldest first, with the network they come from.
    strangers: BTreeMap<(Door, u64), IpAddr>,
    /// How many connections each login has.
    logins: HashMap<String, usize>,
    /// By MQTT client id.
    ids: HashMap<String, Owner>,
}

impl Known {
    /// Who has to make room when there are more than `most`.
    fn surplus_stranger(&self, door: Door, most: usize) -> Option<u64> {
        let of_door = self.strangers.range((door, 0)..=(door, u64::MAX));
        // The number of those of a network, and its oldest.
        let mut networks: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        let mut all = 0;
        for ((_, number), network) in of_door {
            networks.entry(*network).or_insert((0, *number)).0 += 1;
            all += 1;
        }
        let fullest = networks
            .into_values()
            .max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)));
        fullest.filter(|_| all > most).map(|(_, oldest)| oldest)
    }
}

/// Who has an MQTT client id.
#[derive(Debug)]
struct Owner {
    login: String,
    /// Two during a takeover.
    connections: usize,
    /// The number of the one that logged in last.
    latest: u64,
}

/// All open connections.
#[derive(Debug)]
pub struct Connections {
    /// The most connections of one door that may be between accept and login.
    most_strangers: usize,
    /// The most connections of one login.
    most_of_login: usize,
    /// For what has not been taken yet.
    pub room: Arc<Room>,
    known: Mutex<Known>,
    next: AtomicU64,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Connections {
            most_strangers: limits.not_logged_in,
            most_of_login: limits.connections,
            room: Arc::new(Room::new(limits)),
            known: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Registers a connection that was just accepted. When too many of its door have not logged in yet, the oldest of
    /// those is cut that come from where most come from.
    #[must_use]
    pub fn open(&self, door: Door, address: IpAddr) -> Arc<Connection> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            number,
            door,
            certificate: OnceLock::new(),
            proof: OnceLock::new(),
            cut: Cut::default(),
            ended: Cut::default(),
            backlog: Backlog::new(Arc::clone(&self.room)),
            leave: broadcast::Sender::new(1),
            why: AtomicU8::new(0),
            session: Mutex::new(None),
        });
        let mut known = lock(&self.known);
        known.all.insert(number, Arc::clone(&connection));
        known.strangers.insert((door, number), network_of(address));
        if let Some(surplus) = known.surplus_stranger(door, self.most_strangers) {
            known.strangers.remove(&(door, surplus));
            if let Some(surplus) = known.all.get(&surplus) {
                surplus.cut.cut();
            }
        }
        connection
    }

    /// Logs `connection` in.
    ///
    /// # Errors
    /// `mqtt_id` is in use by another login, or the login has no more connections; nothing has changed.
    pub fn log_in(
        &self,
        connection: &Connection,
        login: &str,
        mqtt_id: &str,
    ) -> Result<(), NoRoom> {
        let mut known = lock(&self.known);
        // Who takes over his own id has one connection more for a moment only.
        let takes_over = known.ids.contains_key(mqtt_id);
        let count = known.logins.get(login).copied().unwrap_or(0);
        if count >= self.most_of_login && !takes_over {
            return Err(NoRoom::TooMany);
        }
        match known.ids.get_mut(mqtt_id) {
            Some(owner) if owner.login != login => return Err(NoRoom::Taken),
            Some(owner) => {
                owner.connections += 1;
                owner.latest = connection.number;
            }
            None => {
                let owner = Owner {
                    login: login.to_owned(),
                    connections: 1,
                    latest: connection.number,
                };
                known.ids.insert(mqtt_id.to_owned(), owner);
            }
        }
        *known.logins.entry(login.to_owned()).or_default() += 1;
        known
            .strangers
            .remove(&(connection.door, connection.number));
        *lock(&connection.session) = Some(Session {
            login: login.to_owned(),
            mqtt_id: mqtt_id.to_owned(),
            filters: BTreeSet::new(),
        });
        Ok(())
    }

    /// Forgets a connection whose task ends, and frees its id.
    pub fn close(&self, connection: &Connection) {
        let mut known = lock(&self.known);
        if known.all.remove(&connection.number).is_none() {
            return;
        }
        connection.ended.cut();
        known
            .strangers
            .remove(&(connection.door, connection.number));
        let (Some(login), Some(mqtt_id)) = (connection.login(), connection.mqtt_id()) else {
            return;
        };
        if let Some(count) = known.logins.get_mut(&login) {
            *count -= 1;
            if *count == 0 {
                known.logins.remove(&login);
            }
        }
        let last = match known.ids.get_mut(&mqtt_id) {
            Some(owner) => {
                owner.connections -= 1;
                owner.connections == 0
            }
            None => false,
        };
        if last {
            known.ids.remove(&mqtt_id);
        }
    }

    /// All, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Connection>> {
        lock(&self.known).all.values().cloned().collect()
    }

    /// Those that `which` says, oldest first; it must not ask for any.
    #[must_use]
    pub fn those(&self, which: impl Fn(&Connection) -> bool) -> Vec<Arc<Connection>> {
        let known = lock(&self.known);
        let those = known.all.values().filter(|one| which(one));
        those.cloned().collect()
    }

    /// Those of one login, oldest first.
    #[must_use]
    pub fn of_login(&self, login: &str) -> Vec<Arc<Connection>> {
        let mut found = self.all();
        found.retain(|connection| connection.login().as_deref() == Some(login));
        found
    }

    /// The one that logged in last with that MQTT client id.
    #[must_use]
    pub fn of_mqtt_id(&self, mqtt_id: &str) -> Option<Arc<Connection>> {
        let known = lock(&self.known);
        let owner = known.ids.get(mqtt_id)?;
        known.all.get(&owner.latest).cloned()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.known).all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(not_logged_in: usize, connections: usize) -> Connections {
        Connections::new(&Limits {
            not_logged_in,
            connections,
            ..Limits::default()
        })
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_id_belongs_to_one_login_while_any_connection_has_it() {
        let connections = connections(8, 8);
        let [first, second, thief] = [(); 3].map(|()| connections.open(Door::Local, HERE));
        assert_eq!(connections.log_in(&first, "a", "a-b-1"), Ok(()));
        assert_eq!(
            connections.log_in(&thief, "a-b", "a-b-1"),
            Err(NoRoom::Taken)
        );
        assert!(!thief.is_logged_in());
        assert_eq!(connections.log_in(&second, "a", "a-b-1"), Ok(()));
        connections.close(&first);
        connections.close(&first);
        assert_eq!(
            connections.log_in(&thief, "a-b", "a-b-1"),
            Err(NoRoom::Taken)
        );
        connections.close(&second);
        assert_eq!(connections.log_in(&thief, "a-b", "a-b-1"), Ok(()));
        assert_eq!(connections.of_login("a-b").len(), 1);
        assert_eq!(connections.count(), 1);
    }

    #[test]
    fn a_login_has_so_many_connections_and_no_more() {
        let connections = connections(8, 2);
        let [first, second, third] = [(); 3].map(|()| connections.open(Door::Local, HERE));
        assert_eq!(connections.log_in(&first, "a", "a-1"), Ok(()));
        assert_eq!(connections.log_in(&second, "a", "a-2"), Ok(()));
        assert_eq!(connections.log_in(&third, "a", "a-3"), Err(NoRoom::TooMany));
        assert_eq!(connections.log_in(&third, "b", "a-2"), Err(NoRoom::Taken));
        let again = connections.open(Door::Local, HERE);
        assert_eq!(connections.log_in(&again, "a", "a-1"), Ok(()));
        connections.close(&again);
        connections.close(&first);
        assert_eq!(connections.log_in(&third, "a", "a-3"), Ok(()));
        connections.close(&second);
        connections.close(&third);
        assert!(lock(&connections.known).logins.is_empty());
    }

    #[test]
    fn the_oldest_stranger_of_a_door_makes_room() {
        let connections = connections(16, 8);
        let local = connections.open(Door::Local, HERE);
        let known = connections.open(Door::Network, HERE);
        connections.log_in(&known, "a", "a").unwrap();
        let strangers: Vec<_> = (0..=16)
            .map(|_| connections.open(Door::Network, HERE))
            .collect();
        let cut: Vec<bool> = strangers.iter().map(|s| s.cut.is_cut()).collect();
        assert_eq!(cut.iter().filter(|cut| **cut).count(), 1);
        assert!(cut[0]);
        assert!(!local.cut.is_cut() && !known.cut.is_cut());
    }

    #[test]
    fn who_comes_in_crowds_makes_room_for_others() {
        let connections = connections(16, 8);
        let single = connections.open(Door::Network, "10.0.0.1".parse().unwrap());
        let crowd: Vec<_> = (1..100)
            .map(|n| {
                let address = format!("2001:db8::{n}").parse().unwrap();
                connections.open(Door::Network, address)
            })
            .collect();
        let other = connections.open(Door::Network, "10.0.0.2".parse().unwrap());
        assert!(!single.cut.is_cut() && !other.cut.is_cut());
        assert_eq!(crowd.iter().filter(|one| !one.cut.is_cut()).count(), 14);
        assert!(crowd[0].cut.is_cut() && !crowd[98].cut.is_cut());
    }

    #[test]
    fn one_network_is_one_address() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }

    #[tokio::test]
    async fn a_cut_is_heard_before_and_after() {
        let cut = Arc::new(Cut::default());
        let waiting = tokio::spawn({
            let cut = Arc::clone(&cut);
            async move { cut.wait().await }
        });
        tokio::task::yield_now().await;
        cut.cut();
        waiting.await.unwrap();
        cut.wait().await;
    }
}
