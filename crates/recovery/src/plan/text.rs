//! A plan for people: on a terminal, and the few lines at night.

use std::fmt::Write as _;

use super::{Plan, Stage, Target, confirmation};
use crate::inventory::Inventory;

/// Seconds as people say them: `45 s`, `12 min`, `1 h 29 min`, `3 d 4 h`.
#[must_use]
pub fn duration_text(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => match (seconds / 3600, seconds % 3600 / 60) {
            (hours, 0) => format!("{hours} h"),
            (hours, minutes) => format!("{hours} h {minutes} min"),
        },
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `0:17`: hours and minutes on a clock.
fn clock(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 3600, seconds % 3600 / 60)
}

/// What the operator sees at night: what is damaged, what is proposed, what it costs, what to type.
#[must_use]
pub fn night_screen(plan: &Plan, inventory: &Inventory, elapsed_s: u64) -> String {
    let name = plan.service.to_uppercase();
    let damage = match &inventory.damage {
        Some(damage) => format!("{name} damaged · {}, {}", damage.what, damage.at),
        None => format!("{name} is {}", inventory.condition.text()),
    };
    let ready = inventory.now.as_second().saturating_add_unsigned(plan.predicted_rto_s());
    let ready = jiff::Timestamp::from_second(ready).unwrap_or(inventory.now);
    // A dump is older than what was counted.
    let is_dump = matches!(plan.target, Target::Dump(_));
    let lost = match (&inventory.damage, plan.predicted_loss_s) {
        (Some(damage), _) if damage.transactions_lost.is_some() && !is_dump => {
            let since = inventory.now.duration_since(damage.at).as_secs().unsigned_abs();
            let count = damage.transactions_lost.unwrap_or_default();
            format!("lost: {} of work ({count} transactions)", duration_text(since))
        }
        (_, Some(seconds)) => format!("lost: {}", duration_text(seconds)),
        _ => "lost: not known".into(),
    };
    let way_back = plan
        .way_back_until()
        .map_or_else(|| "no way back".into(), |step| format!("way back until step {step}"));
    let typed = type_to_start(plan, inventory);
    let mut text = format!(
        "{damage} │ RTO {} of {}\nProposal: {} to {}, ready ≈ {} │ {lost} │ {way_back}\n",
        clock(elapsed_s),
        clock(plan.objectives.rto.as_secs()),
        plan.method.to_uppercase(),
        plan.target,
        ready.strftime("%H:%M UTC"),
    );
    for warning in &plan.warnings {
        let _ = writeln!(text, "! {warning}");
    }
    let _ = write!(text, "Type \"{typed}\" to start · p plan · a alternatives · q nothing happens");
    text
}

/// What starts the run when it is typed: the service and the moment.
#[must_use]
pub fn type_to_start(plan: &Plan, inventory: &Inventory) -> String {
    let moment = inventory.damage.as_ref().map_or(inventory.now, |damage| damage.at);
    format!("{} {}", plan.service, moment.strftime("%H:%M"))
}

/// The whole plan.
#[must_use]
pub fn plan_text(plan: &Plan) -> String {
    let mut text = format!(
        "plan {} for {} of service '{}'{}\nmethod {} ({}), target: {}\n",
        confirmation(plan),
        plan.mode.text(),
        plan.service,
        plan.site.as_ref().map_or_else(String::new, |site| format!(" at site '{site}'")),
        plan.method,
        plan.reason,
        plan.target
    );
    let _ = writeln!(
        text,
        "predicted: {} of {}; loss {} (objective {})",
        duration_text(plan.predicted_rto_s()),
        duration_text(plan.objectives.rto.as_secs()),
        plan.predicted_loss_s.map_or_else(|| "not known".into(), duration_text),
        duration_text(plan.objectives.rpo.as_secs())
    );
    for warning in &plan.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    steps_text(plan, &mut text);
    text.push_str("\nways to restore, in order:\n");
    for (at, candidate) in plan.candidates.iter().enumerate() {
        let loss = match candidate.is_same_target {
            true => "same target".to_owned(),
            false => format!("loses {} more", duration_text(candidate.extra_loss_s)),
        };
        let _ = writeln!(text, "  {}. {}: {} ({loss})", at + 1, candidate.name, candidate.reason);
    }
    text.push_str("\nalternatives:\n");
    for alternative in &plan.alternatives {
        let seconds = |value: Option<u64>| value.map_or_else(|| "–".into(), duration_text);
        let _ = writeln!(
            text,
            "  {} {}: {}, ready in {}, loses {}: {}",
            if alternative.is_chosen { "→" } else { " " },
            alternative.method,
            alternative.what,
            seconds(alternative.rto_s),
            seconds(alternative.loss_s),
            alternative.reason
        );
    }
    text
}

fn steps_text(plan: &Plan, text: &mut String) {
    let mut stage: Option<Stage> = None;
    for (at, step) in plan.steps.iter().enumerate() {
        if stage != Some(step.stage) {
            stage = Some(step.stage);
            let _ = writeln!(text, "\n{}", step.stage.text());
        }
        let _ = writeln!(
            text,
            "  {:>2}. {} [{}] ≈ {}\n      {}\n      undo: {}",
            at + 1,
            step.id,
            step.class.text(),
            duration_text(step.predicted_s),
            step.effect,
            step.undo
        );
        if let Some(host) = &step.host {
            let _ = writeln!(text, "      on host {host}");
        }
        if Some(at + 1) == plan.way_back_until() {
            let _ = writeln!(text, "      ── here the way back ends ──");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{clock, duration_text};

    #[test]
    fn durations_read_as_people_say_them() {
        let check = |seconds: u64, expect: &str| assert_eq!(duration_text(seconds), expect);
        check(0, "0 s");
        check(119, "119 s");
        check(120, "2 min");
        check(7200, "2 h");
        check(5340, "89 min");
        check(8940, "2 h 29 min");
        check(200_000, "2 d 7 h");
        assert_eq!(clock(14_400 - 60), "3:59");
    }
}
