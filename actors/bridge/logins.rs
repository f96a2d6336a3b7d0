//! What the bus tells of plugins that are ready when they have logged in (`ready: bus`, spec §9).
//!
//! Invariant: of a run that is not starting nothing is told, and of one that is, however often, one fact at a time.

use super::greet::prove_ready;
use super::{BridgeArgs, SEND_WITHIN};
use crate::hub::Hub;
use crate::ports::{Kind, Plans, Teller};
use bus::topics::{MessageKind, Topic, filter};
use std::sync::Arc;
use supervision::PluginId;
use supervision::lifecycle::{Event, PhaseName};

/// Where the core tells who has logged in (spec §7).
const LOGINS: &str = "event/auth/clients/connected/auth";

/// What has to be subscribed to when these plugins are ready by the bus: logins, and their own events for a core that
/// tells of none.
#[must_use]
pub fn ready_filters<'a>(ids: impl Iterator<Item = &'a PluginId>) -> Vec<String> {
    let events = ids.map(|id| filter(MessageKind::Event, Some(id.as_str()), None, None));
    let mut filters: Vec<String> = events.collect();
    if !filters.is_empty() {
        filters.push(LOGINS.to_owned());
    }
    filters
}

/// Follows the plans: whoever becomes ready by the bus by a reload is listened to, before the first run of that.
pub(super) async fn follow_plans(hub: Arc<Hub>, args: BridgeArgs) {
    let mut plans = hub.plans_to_come();
    loop {
        let now = plans.borrow_and_update().clone();
        let filters = ready_filters(by_bus(&now));
        match args.client.subscribe(filters, SEND_WITHIN).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(
                "the hub does not let the launcher see who logs in, so that plugins with ready: bus will not be ready: {error}"
            ),
        }
        hub.listens_by(&now);
        if plans.changed().await.is_err() {
            return;
        }
    }
}

/// The plugins of the file that are ready by the bus.
pub fn by_bus(plans: &Plans) -> impl Iterator<Item = &PluginId> {
    let by_id = plans.by_id.iter();
    by_id
        .filter(|(_, plan)| plan.teller == Teller::Login)
        .map(|(id, _)| id)
}

/// Somebody said something: a plugin that did, or of which it tells that it logged in, is ready.
pub(super) fn heard(hub: &Hub, topic: &str, payload: &[u8]) {
    let Some(id) = speaker(topic, payload) else {
        return;
    };
    let Some(seat) = hub.roster.get(&id) else {
        return;
    };
    match seat.state().plan.teller {
        Teller::Login => {}
        Teller::Started | Teller::Itself | Teller::Log(_) | Teller::Connect(_) => return,
    }
    let view = seat.view();
    if seat.kind == Kind::Core || view.phase != PhaseName::Starting {
        return;
    }
    if seat.child().is_some() {
        seat.post(Event::Ready { run: view.run });
    } else {
        // It was faster than we are.
        tokio::spawn(async move { prove_ready(&seat).await });
    }
}

fn speaker(topic: &str, payload: &[u8]) -> Option<PluginId> {
    if topic == LOGINS {
        let login: String = serde_json::from_slice(payload).ok()?;
        return PluginId::new(&login).ok();
    }
    let topic = Topic::parse(topic).ok()?;
    match topic.kind {
        MessageKind::Event => PluginId::new(&topic.agent).ok(),
        MessageKind::Rpc | MessageKind::Action | MessageKind::Config => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_and_an_event_tell_who_it_is() {
        let ow = PluginId::new("ow").unwrap();
        for (topic, payload, whose) in [
            (LOGINS, "\"ow\"", Some(&ow)),
            (LOGINS, "ow", None),
            ("event/ow/thing/$td/ow", "{}", Some(&ow)),
            ("rpc/ow/thing/x/me", "{}", None),
            ("x", "", None),
        ] {
            assert_eq!(
                speaker(topic, payload.as_bytes()).as_ref(),
                whose,
                "{topic}"
            );
        }
        let filters = ready_filters([&ow].into_iter());
        assert_eq!(filters, ["event/ow/+/+/#", LOGINS]);
        assert!(ready_filters(std::iter::empty()).is_empty());
    }
}
