//! The grammar of topics and filters: `{kind}/{agent}/{thing}/{name}/{sender}` (HP 1.13).
//!
//! Invariants: all functions are pure; a [`Topic`] that was built or parsed holds no wildcard, no separator and no empty
//! level, so that writing it and parsing it again gives the same.

use std::fmt;

/// The first level of a client's own reply topics.
pub const INBOX: &str = "_INBOX";

/// What a message is for; the first level of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageKind {
    /// Something happened.
    Event,
    /// A wish towards a thing.
    Action,
    /// A change of a thing's configuration.
    Config,
    /// A call of a service's method.
    Rpc,
}

impl MessageKind {
    /// All kinds.
    pub const ALL: [MessageKind; 4] = [
        MessageKind::Event,
        MessageKind::Action,
        MessageKind::Config,
        MessageKind::Rpc,
    ];

    /// Its word in topics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            MessageKind::Event => "event",
            MessageKind::Action => "action",
            MessageKind::Config => "config",
            MessageKind::Rpc => "rpc",
        }
    }

    /// The kind of a word, in exactly this spelling.
    #[must_use]
    pub fn from_word(word: &str) -> Option<MessageKind> {
        MessageKind::ALL
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a text is not an address of the hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Four or five levels are an address.
    #[error("invalid address: {found} levels instead of four or five")]
    Levels {
        /// How many there are.
        found: usize,
    },
    /// The first level is none of the kinds.
    #[error("invalid address: '{found}' is none of event, action, config, rpc")]
    Kind {
        /// The first level, at most 64 characters of it.
        found: String,
    },
    /// A level is empty or holds a separator, a wildcard or a NUL.
    #[error("invalid address: '{found}' cannot be a level of a topic")]
    Level {
        /// The level, at most 64 characters of it.
        found: String,
    },
}

/// An address on the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// What it is for.
    pub kind: MessageKind,
    /// Who publishes the event, or who is to serve the request.
    pub agent: String,
    /// The thing, or the capability of a service.
    pub thing: String,
    /// The name of event, action, property or method.
    pub name: String,
    /// The login of the sender; the core enforces it (HP 1.14). None = the four-level form.
    pub sender: Option<String>,
}

impl Topic {
    /// An address with its sender.
    ///
    /// # Errors
    /// A part is empty or holds `/`, `+`, `#` or NUL.
    pub fn new(
        kind: MessageKind,
        agent: &str,
        thing: &str,
        name: &str,
        sender: &str,
    ) -> Result<Topic, TopicError> {
        for part in [agent, thing, name, sender] {
            check_level(part)?;
        }
        Ok(Topic {
            kind,
            agent: agent.to_owned(),
            thing: thing.to_owned(),
            name: name.to_owned(),
            sender: Some(sender.to_owned()),
        })
    }

    /// Reads an address.
    ///
    /// # Errors
    /// It has not four or five levels, an unknown kind, or a level that cannot be one.
    pub fn parse(text: &str) -> Result<Topic, TopicError> {
        let levels: Vec<&str> = text.split('/').collect();
        let (head, sender) = match levels.as_slice() {
            [kind, agent, thing, name] => ([*kind, *agent, *thing, *name], None),
            [kind, agent, thing, name, sender] => {
                ([*kind, *agent, *thing, *name], Some((*sender).to_owned()))
            }
            _ => {
                return Err(TopicError::Levels {
                    found: levels.len(),
                });
            }
        };
        let [kind, agent, thing, name] = head;
        let kind = MessageKind::from_word(kind).ok_or_else(|| TopicError::Kind {
            found: clipped(kind),
        })?;
        for level in &levels {
            check_level(level)?;
        }
        Ok(Topic {
            kind,
            agent: agent.to_owned(),
            thing: thing.to_owned(),
            name: name.to_owned(),
            sender,
        })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}",
            self.kind, self.agent, self.thing, self.name
        )?;
        match &self.sender {
            Some(sender) => write!(f, "/{sender}"),
            None => Ok(()),
        }
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(64).collect()
}

fn check_level(level: &str) -> Result<(), TopicError> {
    if level.is_empty() || level.contains(['/', '+', '#', '\0']) {
        return Err(TopicError::Level {
            found: clipped(level),
        });
    }
    Ok(())
}

/// The filter for addresses of a kind: parts that are none become `+`, the sender becomes `#` (HP 1.13).
#[must_use]
pub fn filter(
    kind: MessageKind,
    agent: Option<&str>,
    thing: Option<&str>,
    name: Option<&str>,
) -> String {
    let any = |part: Option<&str>| part.unwrap_or("+").to_owned();
    format!("{kind}/{}/{}/{}/#", any(agent), any(thing), any(name))
}

/// The filter by which a service gets the calls of one capability: `rpc/launcher/manage/+/#`.
#[must_use]
pub fn rpc_filter(agent: &str, capability: &str) -> String {
    filter(MessageKind::Rpc, Some(agent), Some(capability), None)
}

/// The reply topic of a connection, by its MQTT client id (T29).
#[must_use]
pub fn inbox(mqtt_client_id: &str) -> String {
    format!("{INBOX}/{mqtt_client_id}")
}

/// Whether a text may be published to: not empty, at most 65,535 bytes, no wildcard, no NUL (MQTT 5 §4.7).
#[must_use]
pub fn is_topic(text: &str) -> bool {
    !text.is_empty() && text.len() <= 65_535 && !text.contains(['+', '#', '\0'])
}

/// Whether a text may be subscribed to: wildcards only as whole levels, `#` only as the last (MQTT 5 §4.7).
#[must_use]
pub fn is_filter(text: &str) -> bool {
    if text.is_empty() || text.len() > 65_535 || text.contains('\0') {
        return false;
    }
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let good = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            other => !other.contains(['+', '#']),
        };
        if !good {
            return false;
        }
    }
    true
}

/// The filter inside a shared subscription, `$share/{group}/{filter}`; any other text unchanged.
///
/// None: it begins like a shared subscription but names no group or no filter.
#[must_use]
pub fn without_share(filter: &str) -> Option<&str> {
    let Some(rest) = filter.strip_prefix("$share/") else {
        return Some(filter);
    };
    let (group, inner) = rest.split_once('/')?;
    (!group.is_empty() && !group.contains(['+', '#']) && !inner.is_empty()).then_some(inner)
}

/// Whether a filter lets a topic through (MQTT 5 §4.7). Both must be valid, else the answer is no promise.
///
/// `#` also matches its parent; a wildcard in front matches no topic that begins with `$`.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    contains(filter, topic)
}

/// Whether every topic that `inner` lets through passes `outer` too, so that a right to `outer` covers `inner`.
///
/// A topic is a filter that lets only itself through, hence [`matches()`] is the same question.
#[must_use]
pub fn contains(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    let mut outer_levels = outer.split('/');
    let mut inner_levels = inner.split('/');
    loop {
        match (outer_levels.next(), inner_levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(outer), Some(inner)) if outer == inner => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_and_written() {
        let topic = Topic::parse("rpc/launcher/manage/list/admin").unwrap();
        assert_eq!(topic.kind, MessageKind::Rpc);
        assert_eq!(topic.sender.as_deref(), Some("admin"));
        assert_eq!(topic.to_string(), "rpc/launcher/manage/list/admin");
        let short = Topic::parse("event/launcher/manage/$td").unwrap();
        assert_eq!((short.name.as_str(), short.sender), ("$td", None));
        for bad in [
            "",
            "rpc",
            "rpc/a/b",
            "rpc/a/b/c/d/e",
            "foo/a/b/c/d",
            "rpc//b/c/d",
            "rpc/a/+/c/d",
            "rpc/a/b/c/#",
            "RPC/a/b/c/d",
        ] {
            assert!(Topic::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Topic::new(MessageKind::Event, "a", "b/c", "d", "a").is_err());
    }

    #[test]
    fn filters_are_those_of_the_original() {
        assert_eq!(rpc_filter("launcher", "manage"), "rpc/launcher/manage/+/#");
        assert_eq!(
            filter(MessageKind::Event, None, None, None),
            "event/+/+/+/#"
        );
        assert_eq!(
            filter(MessageKind::Event, None, None, Some("$td")),
            "event/+/+/$td/#"
        );
        assert_eq!(inbox("admin-host-1"), "_INBOX/admin-host-1");
    }

    #[test]
    fn filters_match_as_mqtt_says() {
        for (filter, topic, expected) in [
            (
                "rpc/launcher/manage/+/#",
                "rpc/launcher/manage/list/admin",
                true,
            ),
            ("rpc/launcher/manage/+/#", "rpc/launcher/manage/list", true),
            ("rpc/launcher/manage/+/#", "rpc/launcher/manage", false),
            ("a/#", "a", true),
            ("a/#", "ab", false),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/b", "a/b/c", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn a_filter_contains_another() {
        for (outer, inner, expected) in [
            ("event/#", "event/+/+/+/#", true),
            ("event/+/+/+/#", "event/#", false),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/b", "a/+", false),
            ("a/#", "a/#", true),
            ("#", "+/x/#", true),
            ("+/x/#", "#", false),
            ("#", "$SYS/#", false),
            ("+/+", "+/b", true),
        ] {
            assert_eq!(contains(outer, inner), expected, "{outer} {inner}");
        }
    }

    #[test]
    fn shared_subscriptions_are_unwrapped() {
        assert_eq!(without_share("$share/g/rpc/a/#"), Some("rpc/a/#"));
        assert_eq!(without_share("rpc/a/#"), Some("rpc/a/#"));
        assert_eq!(without_share("$share/g"), None);
        assert_eq!(without_share("$share//a"), None);
        assert_eq!(without_share("$share/+/a"), None);
    }

    #[test]
    fn wildcards_are_whole_levels() {
        for good in ["#", "+", "a/+/#", "/", "$share/g/a"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a#", "a/#/b", "a/b+", "a\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
        assert!(is_topic("a/b") && !is_topic("a/+") && !is_topic(""));
    }

    /// Short texts over few letters, so that levels often meet.
    fn level() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("$c".to_owned()),
            Just(String::new())
        ]
    }

    fn any_filter() -> impl Strategy<Value = String> {
        let middle =
            prop::collection::vec(prop_oneof![3 => level(), 2 => Just("+".to_owned())], 0..4);
        (middle, any::<bool>()).prop_map(|(mut levels, open)| {
            if open || levels.is_empty() {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Topic::parse(&text);
            let _ = (is_topic(&text), is_filter(&text), without_share(&text));
        }

        #[test]
        fn writing_and_reading_agree(text in "(event|rpc|action|config)/[a-c$]{1,3}/[a-c]{1,3}/[a-c]{1,3}(/[a-c]{1,3})?") {
            let topic = Topic::parse(&text).unwrap();
            prop_assert_eq!(topic.to_string(), text);
        }

        #[test]
        fn what_is_contained_matches(
            outer in any_filter(),
            inner in any_filter(),
            topic in prop::collection::vec(level(), 1..5).prop_map(|levels| levels.join("/")),
        ) {
            prop_assume!(!topic.is_empty());
            if contains(&outer, &inner) && matches(&inner, &topic) {
                prop_assert!(matches(&outer, &topic), "{outer} contains {inner} but not {topic}");
            }
        }
    }
}
