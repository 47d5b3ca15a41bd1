//! For tests, of this crate and of those above: the conformance suite that every store passes, and
//! a store that fails on purpose.

mod conformance;
mod faulty;

pub use conformance::{Answers, conformance, conformance_with};
pub use faulty::{Fault, FaultPlan, Faulty, LyingStore, Operation, OperationSet};
