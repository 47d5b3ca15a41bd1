//! Reads every record as it is stored, and says what must not be done now.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use recovery::effect::StepContext;
use recovery::journal::{Entry, Home, Loaded};
use recovery::machine::{State, Status};
use recovery::plan::{Class, Mode, Plan, Stage, StepId, StepKind, UndoWhen};
use recovery::testing::World;
use stdx::Id;

/// What was read and seen.
struct Book {
    world: World,
    loaded: Loaded,
    /// Folded from what is stored, and from nothing else.
    state: State,
    /// Steps that have proved the restored data, or asked the service, since it was restored.
    looked: BTreeSet<String>,
    /// Effects that are there and can be taken back.
    standing: BTreeSet<String>,
    broken: Vec<String>,
}

/// Looks at the journal past every fault. Clones look together.
#[derive(Clone)]
pub(crate) struct Witness {
    home: Home,
    book: Arc<Mutex<Book>>,
}

/// What the witness has seen in the end.
pub(crate) struct Testimony {
    pub(crate) loaded: Loaded,
    pub(crate) state: State,
    pub(crate) standing: BTreeSet<String>,
    pub(crate) broken: Vec<String>,
}

impl Witness {
    /// Looks at a run that has begun, in a store that answers at once.
    pub(crate) async fn of(home: Home, run: &str, world: &World) -> Result<Self, String> {
        let loaded = home.load(run).await.map_err(|error| error.to_string())?;
        let state = State::replay(&loaded.records).map_err(|error| error.to_string())?;
        let book = Book {
            world: world.clone(),
            loaded,
            state,
            looked: BTreeSet::new(),
            standing: BTreeSet::new(),
            broken: Vec::new(),
        };
        Ok(Self { home, book: Arc::new(Mutex::new(book)) })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.read(&self.home);
        book
    }

    /// A driver sends a request that changes something.
    pub(crate) fn sends(&self, me: Id, is_undo: bool, context: &StepContext) {
        let mut book = self.book();
        let verb = if is_undo { "undid" } else { "acted" };
        let mut why = Vec::new();
        if book.newest() != Some(me) {
            why.push("without the lease".to_owned());
        }
        why.extend(match is_undo {
            true => book.why_not_undo(context),
            false => book.why_not_act(context),
        });
        let step = &context.step.id;
        book.broken.extend(why.into_iter().map(|why| format!("{verb} {step} {why}")));
    }

    /// A request that was on its way arrives. Nobody may have the run by now but who sent it.
    pub(crate) fn arrives(&self, me: Id, is_undo: bool, context: &StepContext) {
        let mut book = self.book();
        if book.newest() != Some(me) {
            let verb = if is_undo { "undone" } else { "acted" };
            let step = &context.step.id;
            book.broken.push(format!("{step} was {verb} when another driver had taken over"));
        }
    }

    /// The request did something.
    pub(crate) fn did(&self, is_undo: bool, context: &StepContext) {
        let mut book = self.book();
        let (step, id) = (&context.step, context.step.id.to_string());
        if is_restore(step.kind) {
            book.looked.clear();
        }
        match is_undo {
            true => drop(book.standing.remove(&id)),
            false => {
                book.looked.insert(id.clone());
                if step.undo_when != UndoWhen::Never {
                    book.standing.insert(id);
                }
            }
        }
    }

    /// A driver has recorded something and holds this state for the truth.
    pub(crate) fn recorded(&self, me: Id, state: &State) {
        let mut book = self.book();
        // Somebody else's records may have come since: then the driver stops at its next one.
        if book.newest() == Some(me) && book.state != *state {
            let number = book.loaded.end.next();
            book.broken.push(format!("the journal does not give the driver's state at {number}"));
        }
    }

    /// The run's state by its journal.
    pub(crate) fn state(&self) -> State {
        self.book().state.clone()
    }

    /// What was seen.
    pub(crate) async fn testimony(&self) -> Result<Testimony, String> {
        let run = self.book().state.run.clone();
        let loaded = self.home.load(&run).await.map_err(|error| error.to_string())?;
        let book = self.book();
        let (state, standing) = (book.state.clone(), book.standing.clone());
        Ok(Testimony { loaded, state, standing, broken: book.broken.clone() })
    }
}

fn is_restore(kind: StepKind) -> bool {
    matches!(kind, StepKind::RestoreCluster | StepKind::RestoreInstance | StepKind::RestoreDump)
}

impl Book {
    fn read(&mut self, home: &Home) {
        let known = self.loaded.records.len();
        match home.follow(&mut self.loaded).now_or_never() {
            Some(Ok(_)) => {}
            Some(Err(error)) => self.broken.push(format!("the journal: {error}")),
            None => self.broken.push("the witness had to wait".into()),
        }
        for record in self.loaded.records.iter().skip(known) {
            let obeyed = match &record.entry {
                Entry::Heard { obeys: Some(obeyed), .. } => obeyed,
                entry => entry,
            };
            if let Entry::Skipped { step, .. } = obeyed
                && let Some(at) = self.state.plan.position(&StepId::from_text(step))
                && let Some((step, _)) = self.state.step(at)
            {
                self.world.leave_out(step.kind);
            }
            if let Err(error) = self.state.apply(record) {
                self.broken.push(format!("the journal does not give the state: {error}"));
            }
        }
    }

    fn newest(&self) -> Option<Id> {
        self.loaded.records.last().map(|record| record.writer.id)
    }

    fn plan(&self) -> &Plan {
        &self.state.plan
    }

    /// Whether a step went through, or a person has left it out.
    fn is_passed(&self, at: usize) -> bool {
        self.state.is_passed(at)
    }

    fn why_not_act(&self, context: &StepContext) -> Vec<String> {
        let Some(at) = self.plan().position(&context.step.id) else {
            return vec!["which the plan does not have".into()];
        };
        let mut why = Vec::new();
        let step = &context.step;
        if !self.state.steps.get(at).is_some_and(|it| it.status == Status::Intended) {
            why.push("without an intent in the journal".into());
        }
        if context.key != self.state.key(at) {
            why.push("with the key of another generation".into());
        }
        if self.state.is_closed() {
            why.push("when the run was over".into());
        }
        why.extend((0..at).filter(|before| !self.is_passed(*before)).map(|before| {
            let step = self.plan().steps.get(before).map_or("?", |step| step.id.as_str());
            format!("before {step} had gone through")
        }));
        let is_final = step.class == Class::Final && self.plan().mode == Mode::Incident;
        if is_final && !self.state.is_past_the_point() {
            why.push("before the point of no return".into());
        }
        let switches = matches!(
            step.kind,
            StepKind::SwitchSetting
                | StepKind::RenameInstance
                | StepKind::RenameDatabase
                | StepKind::SwitchTraffic
        );
        let opens = matches!(step.kind, StepKind::OpenDoor | StepKind::SwitchTraffic);
        if switches || opens {
            why.extend(self.not_looked(Stage::Prove, "was proved by"));
        }
        if opens {
            why.extend(self.not_looked(Stage::Start, "was asked by"));
        }
        why
    }

    /// Steps of a stage that only look, and have not looked at what is restored now.
    fn not_looked<'b>(
        &'b self,
        stage: Stage,
        verb: &'b str,
    ) -> impl Iterator<Item = String> + use<'b> {
        let steps = self.plan().steps.iter().zip(&self.state.steps);
        let missing = steps.filter(move |(step, state)| {
            step.stage == stage
                && !step.kind.is_recorded_only()
                && step.kind != StepKind::StartWriter
                && !step.is_optional
                && state.status != Status::Skipped
                && !self.looked.contains(step.id.as_str())
        });
        missing.map(move |(step, _)| format!("before the restored database {verb} {}", step.id))
    }

    fn why_not_undo(&self, context: &StepContext) -> Vec<String> {
        let Some(at) = self.plan().position(&context.step.id) else {
            return vec!["which the plan does not have".into()];
        };
        let mut why = Vec::new();
        if !self.state.steps.get(at).is_some_and(|it| it.status == Status::UndoIntended) {
            why.push("without an intent in the journal".into());
        }
        if self.state.is_closed() {
            why.push("when the run was over".into());
        }
        if self.plan().mode == Mode::Incident && self.state.is_past_the_point() {
            why.push("behind the point of no return".into());
        }
        why
    }
}
