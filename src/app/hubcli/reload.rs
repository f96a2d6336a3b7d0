//! `hubcli reload`: the plan is shown before it is done (spec §4).
//!
//! Invariant: nothing is said to be done that the launcher did not answer for.

use super::ask::Ask;
use super::exit::Failure;
use super::say::{Said, escaped};
use super::table::padded;
use super::view::{View, line, unexpected};
use bus::golang::encode;
use bus::rpc::{Reply, Request};
use bus::wire::{PlanReply, PlanStep, ReloadArgs};

/// Reloads, or only shows what that would do.
pub(super) async fn perform(
    launcher: &impl Ask,
    dry_run: bool,
    view: &View,
) -> Result<Said, Failure> {
    let planned = ask(launcher, true, view.json).await?;
    if dry_run {
        return Ok(Said::done(if view.json {
            line(&encode(&planned))
        } else {
            shown(&planned.plan)
        }));
    }
    if !view.json {
        show_at_once(&shown(&planned.plan));
    }
    let done = ask(launcher, false, view.json).await?;
    if view.json {
        return Ok(Said::done(line(&encode(&done))));
    }
    let mut out = String::new();
    if done != planned {
        out.push_str("meanwhile something else was changed; this is what was done:\n");
        out.push_str(&shown(&done.plan));
    }
    out.push_str("Configuration reloaded\n");
    Ok(Said::done(out))
}

async fn ask(launcher: &impl Ask, dry_run: bool, json: bool) -> Result<PlanReply, Failure> {
    let request = Request::Reload(ReloadArgs { dry_run });
    match launcher.ask(&request).await {
        Ok(Reply::Plan(plan)) => Ok(plan),
        Ok(Reply::List(_) | Reply::Info(_) | Reply::Plugin(_) | Reply::Empty) => Err(unexpected()),
        Err(failure) => Err(if json { failure } else { lined(failure) }),
    }
}

/// The problems of a file, a line each.
fn lined(mut failure: Failure) -> Failure {
    if failure.text.contains('\n') {
        failure.more.details = failure.text.lines().map(str::to_owned).collect();
        "the configuration was not reloaded".clone_into(&mut failure.text);
        "mend what is named, then: hubcli reload; launcher --check shows all there is to mend"
            .clone_into(&mut failure.hint);
    }
    failure
}

/// Before it is done, not with its end.
#[expect(
    clippy::print_stdout,
    reason = "the plan is to be seen while it is carried out"
)]
fn show_at_once(text: &str) {
    print!("{text}");
}

/// What is done, and what somebody should know of; that nothing is done for most is not worth a line each.
fn shown(plan: &[PlanStep]) -> String {
    let is_told = |step: &&PlanStep| step.action != "none" || step.why != "unchanged";
    let told: Vec<&PlanStep> = plan.iter().filter(is_told).collect();
    let mut out = String::new();
    for step in &told {
        let (action, id) = (
            padded(&escaped(&step.action), 8),
            padded(&escaped(&step.id), 20),
        );
        out.push_str(&format!("{action} {id} {}\n", escaped(&step.why)));
    }
    if told.iter().all(|step| step.action == "none") {
        out.push_str("Nothing changes\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: &str, action: &str, why: &str) -> PlanStep {
        PlanStep {
            id: id.to_owned(),
            action: action.to_owned(),
            why: why.to_owned(),
        }
    }

    #[test]
    fn problems_of_a_file_have_a_line_each() {
        let failure = lined(Failure::failed("f.yaml:1:1: x\nit stays", "h"));
        assert_eq!(failure.more.details, ["f.yaml:1:1: x", "it stays"]);
        assert!(failure.hint.contains("hubcli reload"));
        let other = Failure::failed("busy", "h");
        assert_eq!(lined(other.clone()), other);
    }

    #[test]
    fn the_plan_shows_what_is_done_and_what_is_worth_knowing() {
        let quiet = step("a", "none", "unchanged");
        assert_eq!(shown(std::slice::from_ref(&quiet)), "Nothing changes\n");
        let hand = step(
            "b",
            "none",
            "unchanged; in autostart, but disabled by hand by admin",
        );
        let told = shown(&[quiet.clone(), hand.clone()]);
        assert!(told.starts_with("none     b "), "{told}");
        assert!(told.ends_with("by admin\nNothing changes\n"), "{told}");
        let told = shown(&[quiet, hand, step("c\u{1b}", "restart", "changed: args")]);
        assert!(told.contains("restart  c\\u{1b}"), "{told}");
        assert!(
            !told.contains("Nothing") && told.lines().count() == 2,
            "{told}"
        );
    }
}
