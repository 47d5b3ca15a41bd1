//! What happened, from the journal alone: figures, phases, what is left to do; signed.

mod html;
mod markdown;
mod sign;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use html::html;
pub use markdown::markdown;
pub use sign::{Signed, VerifyError, sign, verify};

use crate::journal::{Entry, Loaded, Record, ServiceState, Verdict};
use crate::machine::{ApplyError, Phase, State};
use crate::method::Method;
use crate::plan::{Mode, Stage, Target, wire::parameters_value};

/// A step as it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepLine {
    /// Its id.
    pub id: String,
    /// Its stage.
    pub stage: &'static str,
    /// When its first attempt began.
    pub began: Timestamp,
    /// When it ended; `None`: it did not.
    pub ended: Option<Timestamp>,
    /// `done`, `failed`, `skipped`, `undone`, `undo failed`.
    pub outcome: &'static str,
    /// The last failure.
    pub failure: Option<String>,
    /// Attempts that failed.
    pub failures: u32,
    /// Seconds that were predicted.
    pub predicted_s: u64,
}

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The run.
    pub run: String,
    /// Its state at the end of the journal.
    pub state: State,
    /// How it ended; `None`: it has not.
    pub ended: Option<(Verdict, ServiceState, Timestamp)>,
    /// Its steps, in the order they began.
    pub steps: Vec<StepLine>,
    /// RPO reached: failure to newest commit present, in milliseconds.
    pub rpo_ms: Option<i64>,
    /// Work lost: writes stopped to newest commit present, in milliseconds.
    pub work_lost_ms: Option<i64>,
    /// RTO: alert to health green, in milliseconds.
    pub rto_ms: Option<i64>,
    /// Approvals, refusals, warnings and changes of drivers, as sentences.
    pub remarks: Vec<(Timestamp, String)>,
    /// SHA-256 of the last record's stored bytes, in hexadecimal.
    pub head: String,
}

impl Report {
    /// A report of a journal.
    ///
    /// # Errors
    /// The journal is not one that this machine wrote.
    pub fn of(loaded: &Loaded) -> Result<Self, ApplyError> {
        let state = State::replay(&loaded.records)?;
        let mut report = Self {
            run: state.run.clone(),
            ended: None,
            steps: Vec::new(),
            rpo_ms: None,
            work_lost_ms: None,
            rto_ms: None,
            remarks: Vec::new(),
            head: loaded.end.head().to_owned(),
            state,
        };
        for record in &loaded.records {
            report.take(record, &record.entry);
        }
        report.measure();
        Ok(report)
    }

    fn take(&mut self, record: &Record, entry: &Entry) {
        let at = record.wall;
        match entry {
            Entry::Intent { step, .. } => self.began(step, at),
            Entry::Done { step, .. } => {
                self.began(step, at);
                self.ended(step, at, "done");
            }
            Entry::Failed { step, message, .. } => {
                self.began(step, at);
                if let Some(line) = self.line(step) {
                    line.failures += 1;
                    line.failure = Some(message.clone());
                }
                self.ended(step, at, "failed");
            }
            Entry::Skipped { step, by, reason } => {
                self.began(step, at);
                self.ended(step, at, "skipped");
                self.remarks.push((at, format!("{by} left out {step}: {reason}")));
            }
            Entry::Undone { step, .. } => self.ended(step, at, "undone"),
            Entry::UndoFailed { step, .. } => self.ended(step, at, "undo failed"),
            Entry::Closed { verdict, service, .. } => self.ended = Some((*verdict, *service, at)),
            Entry::Heard { by, refused, obeys, .. } => {
                if let Some(reason) = refused {
                    self.remarks.push((at, format!("a message of {by} did not count: {reason}")));
                }
                if let Some(entry) = obeys {
                    self.take(record, entry);
                }
            }
            other => self.remark(at, other),
        }
    }

    fn remark(&mut self, at: Timestamp, entry: &Entry) {
        let text = match entry {
            Entry::Approved { gate, by, is_break_glass, reason } => match is_break_glass {
                true => format!("{by} broke the glass at {gate}: {reason}; a review is open"),
                false => format!("{by} approved {gate}"),
            },
            Entry::DriverChanged { by, reason } => format!("{by} took the run over: {reason}"),
            Entry::Fallback { candidate, reason } => {
                format!("fell back to candidate {}: {reason}", candidate + 1)
            }
            Entry::RollbackBegun { reason, .. } => format!("rolled back: {reason}"),
            Entry::Halted { reason } => format!("halted: {reason}"),
            Entry::Paused { by } => format!("paused by {by}"),
            Entry::Resumed { by } => format!("resumed by {by}"),
            Entry::Warned { text } => text.clone(),
            Entry::Told { channel, what, outcome, .. } if outcome != "told" => {
                format!("'{channel}' was not told of '{what}': {outcome}")
            }
            _ => return,
        };
        self.remarks.push((at, text));
    }

    fn line(&mut self, step: &str) -> Option<&mut StepLine> {
        self.steps.iter_mut().find(|line| line.id == step)
    }

    fn began(&mut self, step: &str, at: Timestamp) {
        if self.line(step).is_some() {
            return;
        }
        let planned = self.state.plan.steps.iter().find(|it| it.id.as_str() == step);
        self.steps.push(StepLine {
            id: step.into(),
            stage: planned.map_or("", |it| it.stage.text()),
            began: at,
            ended: None,
            outcome: "under way",
            failure: None,
            failures: 0,
            predicted_s: planned.map_or(0, |it| it.predicted_s),
        });
    }

    fn ended(&mut self, step: &str, at: Timestamp, outcome: &'static str) {
        if let Some(line) = self.line(step) {
            line.ended = Some(at);
            line.outcome = outcome;
        }
    }

    /// The two figures, and the clock.
    fn measure(&mut self) {
        let fact = |name: &str| self.state.facts.get(name)?.parse::<Timestamp>().ok();
        let newest = fact("newest_commit");
        let failed = self.state.plan.steps.iter().find_map(|step| {
            step.parameters.get("damaged_at").and_then(|text| text.parse::<Timestamp>().ok())
        });
        let stopped = self.state.marks.get("writes-stopped").copied();
        let healthy = self.state.marks.get("healthy").copied();
        let span = |from: Timestamp, to: Timestamp| {
            i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX)
        };
        let is_newest = self.state.plan.target == Target::Latest;
        let is_site_lost = self.state.plan.method == Method::CrossRegion.text();
        let failed = failed.or(match self.state.plan.mode {
            // A site is lost when somebody notices.
            Mode::Incident => (is_newest && is_site_lost).then_some(self.state.alert_at),
            // A drill of the newest data fails when it begins.
            Mode::Drill | Mode::Copy => is_newest.then_some(self.state.declared_at),
        });
        self.rpo_ms = failed.zip(newest).map(|(failed, newest)| span(newest, failed));
        self.work_lost_ms = stopped.zip(newest).map(|(stopped, newest)| span(newest, stopped));
        self.rto_ms = match self.state.plan.mode {
            Mode::Incident => healthy.map(|healthy| span(self.state.alert_at, healthy)),
            // A drill is over for its users when its last step that proves something is done.
            Mode::Drill | Mode::Copy => {
                let done = self.steps.iter().filter(|line| line.stage != Stage::Tell.text());
                let last = done.filter_map(|line| line.ended).max();
                let proved = healthy.or(last);
                proved.map(|at| span(self.state.declared_at, at))
            }
        };
    }

    /// Objectives that were missed, as sentences.
    #[must_use]
    pub fn misses(&self) -> Vec<String> {
        let objectives = &self.state.plan.objectives;
        let over = |seen: Option<i64>, allowed: std::time::Duration| {
            seen.filter(|ms| u128::try_from(*ms).is_ok_and(|ms| ms > allowed.as_millis()))
        };
        let mut misses = Vec::new();
        if let Some(ms) = over(self.rto_ms, objectives.rto) {
            misses.push(format!("RTO: {} of {}", seconds(ms), seconds_of(objectives.rto)));
        }
        // In a drill a database that nobody wrote to looks like one that lost something.
        let rpo_ms = self.rpo_ms.filter(|_| self.state.plan.mode == Mode::Incident);
        if let Some(ms) = over(rpo_ms, objectives.rpo) {
            misses.push(format!("RPO: {} of {}", seconds(ms), seconds_of(objectives.rpo)));
        }
        misses
    }

    /// In one word: `restored`, `rolled_back`, …, or `running`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (&self.ended, &self.state.phase) {
            (Some((verdict, ..)), _) => verdict.text(),
            (None, Phase::Halted { .. }) => "halted",
            (None, _) => "running",
        }
    }

    /// The report as JSON, what is signed.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let plan = &self.state.plan;
        json!({
            "run": self.run,
            "service": plan.service,
            "mode": plan.mode.text(),
            "method": plan.method,
            "target": plan.target.to_string(),
            "plan": self.state.digest.to_string(),
            "incident": self.state.incident,
            "requester": self.state.requester,
            "verdict": self.verdict(),
            "serves": self.ended.as_ref().map(|(_, service, _)| service.text()),
            "alert_at": self.state.alert_at.to_string(),
            "declared_at": self.state.declared_at.to_string(),
            "ended_at": self.ended.as_ref().map(|(_, _, at)| at.to_string()),
            "rpo_reached_ms": self.rpo_ms,
            "work_lost_ms": self.work_lost_ms,
            "rto_ms": self.rto_ms,
            "rpo_objective_s": plan.objectives.rpo.as_secs(),
            "rto_objective_s": plan.objectives.rto.as_secs(),
            "missed": self.misses(),
            "transactions_lost": plan.steps.iter()
                .find_map(|step| step.parameters.get("cost")).cloned(),
            "facts": parameters_value(&self.state.facts),
            "marks": self.state.marks.iter()
                .map(|(name, at)| (name.clone(), json!(at.to_string())))
                .collect::<serde_json::Map<_, _>>(),
            "steps": self.steps.iter().map(|line| json!({
                "id": line.id, "stage": line.stage, "began": line.began.to_string(),
                "ended": line.ended.map(|at| at.to_string()), "outcome": line.outcome,
                "failure": line.failure, "failures": line.failures,
                "predicted_s": line.predicted_s,
                "took_ms": line.ended.map(|at| millis(line.began, at)),
            })).collect::<Vec<_>>(),
            "remarks": self.remarks.iter()
                .map(|(at, text)| json!({ "at": at.to_string(), "text": text }))
                .collect::<Vec<_>>(),
            "journal_head": self.head,
        })
    }
}

fn millis(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX)
}

/// `3.264 s`, or minutes and hours where nobody counts milliseconds.
pub(crate) fn seconds(ms: i64) -> String {
    match ms.unsigned_abs() {
        0..=119_999 => {
            let (whole, rest) = (ms / 1000, ms.unsigned_abs() % 1000);
            let sign = if ms < 0 && whole == 0 { "-" } else { "" };
            format!("{sign}{whole}.{rest:03} s")
        }
        more => crate::plan::duration_text(more / 1000),
    }
}

fn seconds_of(duration: std::time::Duration) -> String {
    crate::plan::duration_text(duration.as_secs())
}
