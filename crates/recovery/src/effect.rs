//! The port that providers implement: one step's effect, by the step contract
//! `precheck → probe → act → observe → verify`, and `undo`.
//!
//! Every provider passes the suite of [`crate::testing::conformance`], together with the fakes.

use async_trait::async_trait;

use crate::journal::FailureClass;
use crate::plan::{Parameters, Step};

/// Everything a provider is told about a step.
#[derive(Clone, Debug)]
pub struct StepContext {
    /// The run.
    pub run: String,
    /// The step.
    pub step: Step,
    /// Its parameters, with what the present candidate says instead.
    pub parameters: Parameters,
    /// What the effect is marked with: the same for every attempt of one generation.
    pub key: String,
    /// What earlier steps found out.
    pub facts: Parameters,
    /// What objects were before the incident's first run touched them.
    pub originals: Parameters,
}

impl StepContext {
    /// A parameter.
    ///
    /// # Errors
    /// [`Failure`] when the plan lacks it: a bug of the planner.
    pub fn parameter(&self, name: &str) -> Result<&str, Failure> {
        self.parameters.get(name).map(String::as_str).ok_or_else(|| {
            Failure::terminal(
                "RF1001",
                format!("step '{}' has no parameter '{name}'", self.step.id),
            )
        })
    }

    /// A fact that an earlier step found out.
    ///
    /// # Errors
    /// [`Failure`] when no step did.
    pub fn fact(&self, name: &str) -> Result<&str, Failure> {
        self.facts.get(name).map(String::as_str).ok_or_else(|| {
            Failure::terminal("RF1002", format!("no step before '{}' found '{name}'", self.step.id))
        })
    }
}

/// What a probe finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing of the effect is there: it may be acted.
    Absent,
    /// It is under way: by us, with this key.
    Running {
        /// How far it is: changes when it moves.
        progress: String,
    },
    /// It is there.
    Done,
    /// Something half-made is there: by us, with this key.
    Broken(String),
    /// Something is in the way that is not ours.
    Foreign(String),
    /// It cannot be told now.
    Unknown(String),
    /// It cannot be told, and another look says the same: nobody may look, or there is nothing to
    /// look at.
    Refused(Failure),
}

impl From<Failure> for Found {
    /// What a look that failed found.
    fn from(failure: Failure) -> Self {
        match failure.class {
            FailureClass::Terminal | FailureClass::Data => Self::Refused(failure),
            FailureClass::Retry | FailureClass::Ambiguous => Self::Unknown(failure.message),
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the failure allows.
    pub class: FailureClass,
    /// Its code.
    pub code: String,
    /// What was expected and what was seen.
    pub message: String,
    /// The operator's next move.
    pub hint: String,
}

impl Failure {
    /// A failure of a class.
    #[must_use]
    pub fn new(class: FailureClass, code: &str, message: impl Into<String>) -> Self {
        Self { class, code: code.into(), message: message.into(), hint: String::new() }
    }

    /// Another try fails as well.
    #[must_use]
    pub fn terminal(code: &str, message: impl Into<String>) -> Self {
        Self::new(FailureClass::Terminal, code, message)
    }

    /// Surely nothing happened; another try may succeed.
    #[must_use]
    pub fn retry(code: &str, message: impl Into<String>) -> Self {
        Self::new(FailureClass::Retry, code, message)
    }

    /// It may have happened.
    #[must_use]
    pub fn ambiguous(code: &str, message: impl Into<String>) -> Self {
        Self::new(FailureClass::Ambiguous, code, message)
    }

    /// The data are unusable.
    #[must_use]
    pub fn data(code: &str, message: impl Into<String>) -> Self {
        Self::new(FailureClass::Data, code, message)
    }

    /// The same with the operator's next move.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// One step's effect. Calls may be repeated at any time and in any order that the contract allows,
/// also by another process on another machine.
#[async_trait]
pub trait Effect: Send + Sync {
    /// What the object is now, as `(object, value)`, before it is touched for the first time.
    ///
    /// # Errors
    /// It cannot be told; the step does not begin.
    async fn original(&self, _context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        Ok(None)
    }

    /// Whether the step may begin: the object is the one that the plan means, everything needed is
    /// there. Touches nothing.
    ///
    /// # Errors
    /// Why not.
    async fn precheck(&self, _context: &StepContext) -> Result<(), Failure> {
        Ok(())
    }

    /// What is there of the effect. Touches nothing.
    async fn probe(&self, context: &StepContext) -> Found;

    /// Brings the effect about, or sets off what does. May be cut at any point.
    ///
    /// # Errors
    /// What happened, and whether it may have happened.
    async fn act(&self, context: &StepContext) -> Result<(), Failure>;

    /// Proves the effect and says what later steps need. Touches nothing.
    ///
    /// # Errors
    /// It is not what it should be.
    async fn verify(&self, _context: &StepContext) -> Result<Parameters, Failure> {
        Ok(Parameters::new())
    }

    /// Takes the effect back; one that is not there, whole or in part, is success. Says what it
    /// did.
    ///
    /// # Errors
    /// It is not taken back.
    async fn undo(&self, _context: &StepContext) -> Result<String, Failure> {
        Ok("nothing to undo".into())
    }
}

/// Where effects and channels are found.
#[async_trait]
pub trait Effects: Send + Sync {
    /// The effect of a step; `None`: this binary cannot perform it.
    fn of(&self, step: &Step) -> Option<&dyn Effect>;

    /// Counts transactions that others than us have committed in the new database.
    ///
    /// # Errors
    /// It cannot be told; the run then halts.
    async fn count_foreign_writes(&self, context: &StepContext) -> Result<u64, Failure>;

    /// Tells a channel something; the same twice is harmless.
    ///
    /// # Errors
    /// It was not told; it is tried again later, and the run goes on.
    async fn tell(&self, channel: &str, what: &str, text: &str) -> Result<(), Failure>;
}
