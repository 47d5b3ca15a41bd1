//! Steps that only look: once they have looked, they are done, and say what they saw.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use recovery::effect::{Found, StepContext};
use recovery::plan::Parameters;

/// What was seen, by the key of the step. A process that did not look itself looks again.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    seen: Mutex<HashMap<String, Parameters>>,
}

impl Looked {
    pub(crate) fn remember(&self, context: &StepContext, outputs: Parameters) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(context.key.clone(), outputs);
    }

    pub(crate) fn outputs(&self, context: &StepContext) -> Option<Parameters> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&context.key).cloned()
    }

    pub(crate) fn probe(&self, context: &StepContext) -> Found {
        match self.outputs(context) {
            Some(_) => Found::Done,
            None => Found::Absent,
        }
    }
}
