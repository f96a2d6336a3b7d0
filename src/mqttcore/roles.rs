//! Who may publish and subscribe what (HP 1.14, spec §7): pure tables and the judgements on them.
//!
//! Invariants:
//! - A filter is allowed only if every topic it can match is: containment, never a match (a filter may hold wildcards).
//! - A topic is allowed only with its sender's login as fifth and last level, inboxes excepted.
//! - An inbox belongs to one MQTT client id, not to every login whose name it begins with (T29).
//! - Tables are never changed by judging (T30); a permission registered again replaces the former one (T31).

use std::collections::{BTreeMap, BTreeSet};

use bus::topics::{INBOX, without_share};
use bus::wire::AUTH;

/// What a client is to the hub; decides what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// None, or a word nobody knows: inboxes only.
    Nobody,
    /// Sees events.
    Viewer,
    /// Sees events, asks for actions.
    Operator,
    /// An operator who also configures.
    Manager,
    /// May ask anything of anybody.
    Admin,
    /// A device or its binding.
    Device,
    /// A service: a device that may also ask anything of anybody.
    Service,
}

impl Role {
    /// Every role, `Nobody` first.
    pub const ALL: [Role; 7] = [
        Role::Nobody,
        Role::Viewer,
        Role::Operator,
        Role::Manager,
        Role::Admin,
        Role::Device,
        Role::Service,
    ];

    /// The role of a word as the original writes it; unknown words have no rights.
    #[must_use]
    pub fn from_word(word: &str) -> Role {
        Role::ALL
            .into_iter()
            .find(|role| role.word() == word)
            .unwrap_or(Role::Nobody)
    }

    /// The roles of these words. A word nobody knows is none: it must not open anything to those who have no role.
    pub fn of_words(words: &[String]) -> impl Iterator<Item = Role> {
        words
            .iter()
            .map(|word| Role::from_word(word))
            .filter(|role| *role != Role::Nobody)
    }

    /// The original's word; `Nobody` is the empty one.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Role::Nobody => "",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Manager => "manager",
            Role::Admin => "admin",
            Role::Device => "device",
            Role::Service => "service",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Publish,
    Subscribe,
}

/// Whose agent level a right covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agent {
    Any,
    Own,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Right {
    direction: Direction,
    kind: &'static str,
    agent: Agent,
}

const fn right(direction: Direction, kind: &'static str, agent: Agent) -> Right {
    Right {
        direction,
        kind,
        agent,
    }
}

const SEE_EVENTS: Right = right(Direction::Subscribe, "event", Agent::Any);
const ASK_ACTIONS: Right = right(Direction::Publish, "action", Agent::Any);
const ASK_CONFIG: Right = right(Direction::Publish, "config", Agent::Any);
const ASK_RPC: Right = right(Direction::Publish, "rpc", Agent::Any);
const SEND_OWN_EVENTS: Right = right(Direction::Publish, "event", Agent::Own);
const SERVE_ACTIONS: Right = right(Direction::Subscribe, "action", Agent::Own);
const SERVE_CONFIG: Right = right(Direction::Subscribe, "config", Agent::Own);
const SERVE_RPC: Right = right(Direction::Subscribe, "rpc", Agent::Own);

/// The table of HP 1.14.
const fn rights(role: Role) -> &'static [Right] {
    match role {
        Role::Nobody => &[],
        Role::Viewer => &[SEE_EVENTS],
        Role::Operator => &[ASK_ACTIONS, SEE_EVENTS],
        Role::Manager => &[ASK_ACTIONS, ASK_CONFIG, SEE_EVENTS],
        Role::Admin => &[ASK_ACTIONS, ASK_CONFIG, ASK_RPC, SEE_EVENTS],
        Role::Device => &[SEND_OWN_EVENTS, SEE_EVENTS, SERVE_ACTIONS, SERVE_CONFIG],
        Role::Service => &[
            ASK_ACTIONS,
            ASK_CONFIG,
            ASK_RPC,
            SEND_OWN_EVENTS,
            SEE_EVENTS,
            SERVE_RPC,
            SERVE_ACTIONS,
            SERVE_CONFIG,
        ],
    }
}

/// Which roles may call which capability of which service, beyond their table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    granted: BTreeMap<(String, String), BTreeSet<Role>>,
}

impl Default for Permissions {
    /// What the auth service grants on itself (HP 1.14).
    fn default() -> Self {
        let everyone = [Role::Viewer, Role::Operator, Role::Manager, Role::Admin];
        let mut permissions = Permissions {
            granted: BTreeMap::new(),
        };
        permissions.set(AUTH, "manageClients", [Role::Admin]);
        permissions.set(AUTH, "roles", [Role::Admin]);
        permissions.set(AUTH, "profile", everyone);
        permissions
    }
}

impl Permissions {
    /// Says who may call `capability` of `service`, instead of what was said before (T31: no doubles).
    /// Tells whether anything changed.
    pub fn set(
        &mut self,
        service: &str,
        capability: &str,
        roles: impl IntoIterator<Item = Role>,
    ) -> bool {
        let roles: BTreeSet<Role> = roles.into_iter().collect();
        let key = (service.to_owned(), capability.to_owned());
        self.granted.insert(key, roles.clone()) != Some(roles)
    }

    /// Forgets all a service granted. Tells whether there was anything.
    pub fn forget(&mut self, service: &str) -> bool {
        let before = self.granted.len();
        self.granted.retain(|(owner, _), _| owner != service);
        self.granted.len() != before
    }

    /// Whether this capability is registered.
    #[must_use]
    pub fn has(&self, service: &str, capability: &str) -> bool {
        let key = (service.to_owned(), capability.to_owned());
        self.granted.contains_key(&key)
    }

    /// How many capabilities of `service` are registered.
    #[must_use]
    pub fn count(&self, service: &str) -> usize {
        self.granted
            .keys()
            .filter(|(owner, _)| owner == service)
            .count()
    }

    /// All that is granted: service, capability and the roles that may call it; ordered, each capability once.
    pub fn granted(&self) -> impl Iterator<Item = (&str, &str, &BTreeSet<Role>)> {
        self.granted
            .iter()
            .map(|((service, capability), roles)| (service.as_str(), capability.as_str(), roles))
    }

    fn allows(&self, service: &str, capability: &str, role: Role) -> bool {
        self.granted
            .get(&(service.to_owned(), capability.to_owned()))
            .is_some_and(|roles| roles.contains(&role))
    }
}

/// A connection, as far as rights go.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Its login.
    pub login: &'a str,
    /// Its MQTT client id, to which its inbox belongs.
    pub mqtt_id: &'a str,
    /// Its role now; from the client table, never from the token.
    pub role: Role,
}

impl Asker<'_> {
    /// Whether this connection may publish on `topic`.
    ///
    /// Inboxes are open to all who are known (HP 1.14); a topic of six or more levels is refused, as its last level
    /// would be taken for a sender that nobody has checked.
    #[must_use]
    pub fn may_publish(&self, topic: &str, permissions: &Permissions) -> bool {
        let levels: Vec<&str> = topic.split('/').collect();
        match levels.as_slice() {
            [INBOX, rest @ ..] => rest.first().is_some_and(|owner| !owner.is_empty()),
            [kind, agent, thing, _name, sender] => {
                *sender == self.login
                    && (self.has(Direction::Publish, kind, agent)
                        || (*kind == "rpc" && permissions.allows(agent, thing, self.role)))
            }
            _ => false,
        }
    }

    /// Whether this connection may subscribe to `filter`, with or without `$share/{group}/` before it.
    ///
    /// Fewer than four levels are refused even where they would be contained, as the original does (HP 1.14).
    #[must_use]
    pub fn may_subscribe(&self, filter: &str) -> bool {
        let Some(filter) = without_share(filter) else {
            return false;
        };
        let levels: Vec<&str> = filter.split('/').collect();
        match levels.as_slice() {
            [INBOX, owner, ..] => *owner == self.mqtt_id && !is_wildcard(owner),
            [kind, agent, _thing, _name, ..] => self.has(Direction::Subscribe, kind, agent),
            _ => false,
        }
    }

    /// Whether the table gives the right. A wildcard as kind or own agent equals no word, so it passes only where
    /// the right covers every agent.
    fn has(&self, direction: Direction, kind: &str, agent: &str) -> bool {
        // `#` as agent would end the filter before four levels; inside a filter it is malformed anyway.
        rights(self.role).iter().any(|right| {
            right.direction == direction
                && right.kind == kind
                && match right.agent {
                    Agent::Any => true,
                    Agent::Own => agent == self.login && !is_wildcard(agent),
                }
        })
    }
}

fn is_wildcard(level: &str) -> bool {
    level == "+" || level == "#"
}

/// Whether a connection of `login` may call itself `mqtt_id`: the login, or the login, `-` and more (spec §7).
///
/// An id the broker has made up because the client gave none is fine too: `auto-` and 32 hexadecimal digits.
#[must_use]
pub fn fits_login(mqtt_id: &str, login: &str) -> bool {
    let assigned = mqtt_id.strip_prefix("auto-").is_some_and(|digits| {
        digits.len() == 32
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    let own = mqtt_id.strip_prefix(login).is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('-').is_some_and(|more| !more.is_empty())
    });
    assigned || own
}

/// Whether `id` can be a login: it is one level of a topic and part of a file name (T46).
#[must_use]
pub fn is_login(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 100
        && !id.starts_with(['.', '$'])
        && !id
            .chars()
            .any(|letter| letter.is_control() || matches!(letter, '/' | '\\' | '+' | '#'))
}

#[cfg(test)]
mod tests;
