//! A plan as Markdown that a person can follow when the tool itself is gone.

use std::fmt::Write as _;

use super::{Class, Plan, confirmation, duration_text, without_secrets};

/// The runbook of a plan: every step with what to type, what to see, and how to go back. It leaves
/// the house, so passwords that somebody wrote into addresses or commands are taken out.
#[must_use]
pub fn runbook(plan: &Plan) -> String {
    let mut text = format!(
        "# Recovery of {}\n\nPlan `{}`, method {}: {}.\n\n",
        plan.service,
        confirmation(plan),
        plan.method,
        plan.reason
    );
    let _ = writeln!(
        text,
        "- target: {}\n- objectives: RTO {}, RPO {}\n- predicted: {}, loss {}\n- the way back ends at step {}",
        plan.target,
        duration_text(plan.objectives.rto.as_secs()),
        duration_text(plan.objectives.rpo.as_secs()),
        duration_text(plan.predicted_rto_s()),
        plan.predicted_loss_s.map_or_else(|| "not known".into(), duration_text),
        plan.way_back_until().map_or_else(|| "–".into(), |step| step.to_string()),
    );
    for warning in &plan.warnings {
        let _ = writeln!(text, "- **{warning}**");
    }
    text.push_str(
        "\nThis page holds no secrets. Tick each step, note the time, and stop at the first one that \
         does not show what it should.\n",
    );
    text.push_str(&names(plan));
    let mut stage = None;
    for (at, step) in plan.steps.iter().enumerate() {
        if stage != Some(step.stage) {
            stage = Some(step.stage);
            let _ = writeln!(text, "\n## {}", capital(step.stage.text()));
        }
        let _ = writeln!(
            text,
            "\n{}. [ ] `{}` ≈ {}{}  \n   {}",
            at + 1,
            step.id,
            duration_text(step.predicted_s),
            if step.class == Class::Final { " · **final**" } else { "" },
            sentence(&step.effect)
        );
        if let Some(host) = &step.host {
            let _ = writeln!(text, "   On host `{host}`.");
        }
        for (name, value) in &step.identity {
            let _ = writeln!(text, "   First compare: {name} is `{value}`.");
        }
        match &step.command {
            Some(command) => {
                let lines = command.lines().map(|line| format!("   $ {line}\n"));
                let lines = lines.collect::<String>();
                let _ = writeln!(text, "\n   ```console\n{lines}   ```\n");
            }
            None => {
                for (name, value) in &step.parameters {
                    let _ = writeln!(text, "   - {name}: `{value}`");
                }
            }
        }
        let _ = writeln!(text, "   Back: {}", sentence(&step.undo));
    }
    without_secrets(&text)
}

/// What the commands of a plan leave to whoever types them.
const NAMES: [(&str, &str); 6] = [
    ("PORT", "the port that `restore` prints"),
    ("REPLICAS", "how many the workload has before it is stopped, as `get … -o wide` shows"),
    ("SELECTOR", "the labels of its pods, the last column of `get … -o wide`"),
    ("OLD", "host and port of the old database as they stand in the setting: `Port=5432;`"),
    ("NEW", "the same of the restored one"),
    ("DOOR_TOKEN", "the secret that moves the door: see `login` of the service's `door`"),
];

fn names(plan: &Plan) -> String {
    let commands = || plan.steps.iter().filter_map(|step| step.command.as_deref());
    let used = |name: &str| {
        let name = format!("${name}");
        commands().any(|command| command.contains(&name))
    };
    let lines = NAMES.iter().filter(|(name, _)| used(name));
    let lines = lines.map(|(name, meaning)| format!("- `{name}=…`: {meaning}\n"));
    let lines: String = lines.collect();
    match lines.is_empty() {
        true => lines,
        false => {
            format!("\nSet these in the shell before the first command that has them:\n\n{lines}")
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

fn sentence(text: &str) -> String {
    format!("{}.", capital(text))
}
