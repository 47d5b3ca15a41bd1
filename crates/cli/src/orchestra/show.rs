//! A run as it is shown while it goes.

use std::sync::Mutex;

use recovery::journal::Entry;
use recovery::machine::{Awaited, State};
use recovery::plan::duration_text;
use recovery::runner::{Event, Observer};

use crate::output::Printer;

/// Prints what a driver tells: a line for each thing that counts.
#[derive(Debug)]
pub(crate) struct Lines {
    printer: Printer,
    last: Mutex<String>,
}

impl Lines {
    pub(crate) fn new(printer: &Printer) -> Self {
        Self { printer: printer.clone(), last: Mutex::default() }
    }
}

impl Observer for Lines {
    fn event(&self, state: &State, event: &Event<'_>) {
        if let Some(line) = line(state, event) {
            let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // Progress repeats itself; everything else counts.
            if *last != line {
                self.printer.note(&line);
                *last = line;
            }
        }
    }
}

fn line(state: &State, event: &Event<'_>) -> Option<String> {
    match event {
        Event::Recorded(entry) => entry_line(state, entry),
        Event::Progress { step, text } => Some(format!("  … {step}: {text}")),
        Event::Waiting(awaited) => Some(waiting(state, awaited)),
        Event::CopyFailed { name, reason } => {
            Some(format!("warning: the copy of the journal in '{name}' is behind: {reason}"))
        }
        Event::Refused { person, reason } => {
            Some(format!("a message of '{person}' does not count: {reason}"))
        }
    }
}

/// What a run waits for, and what to type.
pub(crate) fn waiting(state: &State, awaited: &Awaited) -> String {
    let run = &state.run;
    match awaited {
        Awaited::Resume { by } => {
            format!("paused by {by}\nnext: rollforward run resume {run}")
        }
        Awaited::Approval { gate, missing, text } => format!(
            "{gate} waits for {missing} more approval(s): {text}\nnext: rollforward run approve {run} --gate {gate}"
        ),
        Awaited::Decision { reason } => format!(
            "halted: {reason}\nnext: rollforward run retry|skip|abort {run}; rollforward run show {run}"
        ),
    }
}

/// One entry as a line.
pub(crate) fn entry_line(state: &State, entry: &Entry) -> Option<String> {
    let number = |step: &str| {
        let at = state.plan.steps.iter().position(|it| it.id.as_str() == step);
        at.map_or_else(String::new, |at| format!("{:>2}/{} ", at + 1, state.plan.steps.len()))
    };
    Some(match entry {
        Entry::Intent { step, attempt, .. } => {
            let effect = state.plan.steps.iter().find(|it| it.id.as_str() == step);
            let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            format!("{}{step}{again}: {}", number(step), effect.map_or("", |it| &it.effect))
        }
        Entry::Done { step, was_there, .. } => {
            let how = if *was_there { "was there" } else { "done" };
            format!(
                "{}{step} {how} · {} to go",
                number(step),
                duration_text(state.predicted_rest_s())
            )
        }
        Entry::Failed { step, code, message, hint, class, .. } => {
            let mut text =
                format!("{}{step} failed ({}, {code}): {message}", number(step), class.text());
            if !hint.is_empty() {
                text.push_str(&format!("\n  hint: {hint}"));
            }
            text
        }
        Entry::Undone { step, note, .. } => format!("{}{step} undone: {note}", number(step)),
        Entry::UndoFailed { step, message, .. } => {
            format!("{}{step} could not be undone: {message}", number(step))
        }
        Entry::Fallback { candidate, reason } => {
            let name = state.plan.candidates.get(*candidate as usize);
            format!("falls back to {}: {reason}", name.map_or("?", |it| &it.name))
        }
        Entry::RollbackBegun { reason, went_through } => match went_through {
            true => format!("cleans up: {reason}"),
            false => format!("rolls back: {reason}"),
        },
        Entry::Halted { reason } => format!("halted: {reason}"),
        Entry::Warned { text } => format!("warning: {text}"),
        Entry::Told { channel, what, outcome, .. } => match outcome.as_str() {
            "told" => format!("told '{channel}': {what}"),
            why => format!("warning: '{channel}' was not told of '{what}': {why}"),
        },
        Entry::Closed { verdict, service, .. } => {
            format!("{}; service: {}", verdict.text(), service.text())
        }
        Entry::Heard { by, obeys: Some(entry), .. } => format!("{by}: {}", entry.kind()),
        Entry::DriverChanged { by, reason } => format!("taken over by {by}: {reason}"),
        _ => return None,
    })
}
