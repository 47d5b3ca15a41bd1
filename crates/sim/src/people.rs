//! Persons who say things to a run at any moment, and some who have no right to.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use recovery::journal::{Home, Message, MessageKind, send_as};
use recovery::machine::{Awaited, Status};
use recovery::person::SigningKey;
use recovery::plan::{Plan, PlanDigest, Stage, Step, StepKind};
use recovery::service::{Person, Persons};
use recovery::testing::sample;
use stdx::Id;
use tokio::time::Instant;

use crate::tally::Tally;
use crate::witness::Witness;

/// The person who asked for the run.
pub(crate) const REQUESTER: &str = "oncall";

/// Who else there is, and what they may do. The last one is a stranger to the plan.
const PERSONS: [(&str, &str); 4] = [
    (REQUESTER, "recovery-operator"),
    ("secondary", "approver"),
    ("reader", "viewer"),
    ("stranger", ""),
];

/// Things that are said in one run without being asked.
const SAID_MAX: u32 = 10;

/// The longest silence between two of them, in seconds.
const SILENCE_S_MAX: u64 = 600;

static KEYS: LazyLock<BTreeMap<&'static str, SigningKey>> = LazyLock::new(|| {
    let keys = (1..).zip(PERSONS).filter_map(|(number, (name, _))| {
        SigningKey::from_seed(&[number; 32]).ok().map(|key| (name, key))
    });
    keys.collect()
});

/// What a plan says of persons.
pub(crate) fn persons() -> Persons {
    let known = PERSONS.iter().filter(|(_, role)| !role.is_empty());
    let known = known.filter_map(|(name, role)| {
        let key = KEYS.get(name)?.public();
        Some(((*name).to_owned(), Person { key, roles: vec![(*role).to_owned()] }))
    });
    known.collect()
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Unsigned,
    OtherKey,
    OtherPlan,
    OtherTarget,
    NoRight,
}

impl Wrong {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Unsigned, "says something unsigned"),
        (Self::OtherKey, "signs with another's key"),
        (Self::OtherPlan, "means another plan"),
        (Self::OtherTarget, "means another target"),
        (Self::NoRight, "has no right to"),
    ];
}

/// Something that was said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) person: String,
    pub(crate) kind: MessageKind,
    /// Whether it may be obeyed at all.
    pub(crate) counts: bool,
}

/// Everybody. Clones are the same people.
#[derive(Clone)]
pub(crate) struct People {
    home: Home,
    run: &'static str,
    plan: Arc<Plan>,
    digest: String,
    witness: Witness,
    started: Instant,
    random: Arc<Mutex<fastrand::Rng>>,
    said: Arc<Mutex<BTreeMap<String, Said>>>,
    tally: Tally,
}

impl People {
    pub(crate) fn new(
        home: &Home,
        run: &'static str,
        plan: &Plan,
        witness: &Witness,
        seed: u64,
        tally: &Tally,
    ) -> Self {
        Self {
            home: home.clone(),
            run,
            digest: PlanDigest::of(plan).to_string(),
            plan: Arc::new(plan.clone()),
            witness: witness.clone(),
            started: Instant::now(),
            random: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
            said: Arc::default(),
            tally: tally.clone(),
        }
    }

    fn draw<T>(&self, from: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        from(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that was said, by the message's id.
    pub(crate) fn said(&self) -> BTreeMap<String, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says this and that at any moment, right and wrong.
    pub(crate) async fn talk(self) {
        for _ in 0..self.draw(|random| random.u32(..SAID_MAX)) {
            let silence = Duration::from_secs(self.draw(|random| random.u64(1..SILENCE_S_MAX)));
            tokio::time::sleep(silence).await;
            let kind = self.something();
            let wrong = match self.draw(fastrand::Rng::bool) {
                true => Some(Wrong::ALL[self.draw(|random| random.usize(..Wrong::ALL.len()))].0),
                false => None,
            };
            let person = PERSONS[self.draw(|random| random.usize(..2))].0;
            self.say(person, kind, wrong).await;
        }
    }

    fn something(&self) -> MessageKind {
        let step = &self.plan.steps[self.draw(|random| random.usize(..self.plan.steps.len()))];
        match self.draw(|random| random.u8(..14)) {
            0..=2 => MessageKind::Pause,
            3..=5 => MessageKind::Resume,
            6 => MessageKind::Abort("enough".into()),
            7..=8 => MessageKind::Retry(step.id.to_string()),
            9..=10 if may_be_left_out(step) => skip(step),
            11 => approve("fallback.1"),
            _ => approve(step.id.as_str()),
        }
    }

    /// Gives a run what it waits for.
    pub(crate) async fn answer(&self, awaited: &Awaited) {
        match awaited {
            Awaited::Resume { .. } => self.say(REQUESTER, MessageKind::Resume, None).await,
            Awaited::Approval { gate, .. } => {
                self.say("secondary", approve(gate), None).await;
                self.say(REQUESTER, approve(gate), None).await;
            }
            Awaited::Decision { .. } => {
                let kind = self.decision();
                self.say(REQUESTER, kind, None).await;
            }
        }
    }

    fn decision(&self) -> MessageKind {
        let state = self.witness.state();
        let stuck = state
            .plan
            .steps
            .iter()
            .zip(&state.steps)
            .find(|(_, it)| matches!(it.status, Status::Failed(_) | Status::UndoFailed));
        match (stuck, self.draw(|random| random.u8(..3))) {
            (Some((step, _)), 0) if may_be_left_out(step) => skip(step),
            (Some((step, _)), 0 | 1) => MessageKind::Retry(step.id.to_string()),
            _ => MessageKind::Abort("it does not work".into()),
        }
    }

    async fn say(&self, person: &str, kind: MessageKind, wrong: Option<Wrong>) {
        // Without persons in the plan nobody signs, and everybody may say everything.
        let is_free = self.plan.persons.is_empty();
        let is_harmless = |wrong| match wrong {
            Wrong::Unsigned | Wrong::OtherKey => is_free,
            Wrong::NoRight => is_free || !matches!(kind, MessageKind::Approve { .. }),
            Wrong::OtherPlan | Wrong::OtherTarget => false,
        };
        let wrong = wrong.filter(|wrong| !is_harmless(*wrong));
        let person = if wrong == Some(Wrong::NoRight) { "reader" } else { person };
        let other = |is: Wrong, right: &str| match wrong == Some(is) {
            true => "something else".to_owned(),
            false => right.to_owned(),
        };
        let message = Message {
            run: self.run.into(),
            digest: other(Wrong::OtherPlan, &self.digest),
            target: other(Wrong::OtherTarget, &self.plan.target.to_string()),
            person: person.into(),
            at: self.now(),
            kind: kind.clone(),
        };
        let key = match wrong {
            Some(Wrong::Unsigned) => None,
            Some(Wrong::OtherKey) => KEYS.get("stranger"),
            _ => KEYS.get(person),
        };
        let what = Wrong::ALL.iter().find(|(it, _)| Some(*it) == wrong);
        match what {
            Some((_, what)) => self.tally.count("person", what),
            None => self.tally.count("said", word(&kind)),
        }
        let mut id = [0; 16];
        self.draw(|random| random.fill(&mut id));
        let id = Id::from_bytes(id);
        if send_as(&self.home, id, &message, key.filter(|_| !is_free)).await.is_ok() {
            let said = Said { person: person.into(), kind, counts: wrong.is_none() };
            self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_string(), said);
        }
    }

    /// A moment for a message: each has its own, because messages are read in that order.
    fn now(&self) -> Timestamp {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).len();
        let gone = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default()
            + SignedDuration::from_micros(i64::try_from(said).unwrap_or_default());
        sample::now().checked_add(gone).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

fn approve(gate: &str) -> MessageKind {
    MessageKind::Approve { gate: gate.into(), is_break_glass: false, reason: String::new() }
}

fn skip(step: &Step) -> MessageKind {
    MessageKind::Skip { step: step.id.to_string(), reason: "it can wait".into() }
}

/// What a person may sensibly leave out: looking, asking and telling, not what others stand on.
fn may_be_left_out(step: &Step) -> bool {
    matches!(step.stage, Stage::Assess | Stage::Prove | Stage::Protect | Stage::Tell)
        || matches!(step.kind, StepKind::Smoke | StepKind::ProveApplication | StepKind::KeepOld)
}

fn word(kind: &MessageKind) -> &'static str {
    match kind {
        MessageKind::Approve { .. } => "approve",
        MessageKind::Pause => "pause",
        MessageKind::Resume => "resume",
        MessageKind::Retry(_) => "retry",
        MessageKind::Skip { .. } => "skip",
        MessageKind::Abort(_) => "abort",
    }
}
