//! Recovery runs: plans, the machine that goes through them, the journal that survives its driver,
//! the ports that providers implement, and the report.
//!
//! Refuses to know: HTTP, clouds, live servers, the command line. Main types: [`service::Service`],
//! [`plan::Plan`] (made by [`planner::compile`]), [`machine::State`], [`journal::Home`],
//! [`runner::Driver`], [`effect::Effect`].
//!
//! Invariants: no effect begins before the journal's home has confirmed its intent; the journal
//! alone reproduces the state; whoever goes on begins at a probe; nothing is undone by itself
//! behind the point of no return.
//!
//! ```
//! use recovery::method::{Wish, choose};
//! use recovery::inventory::Inventory;
//!
//! let nothing = Inventory::empty("2026-11-26T05:00:00Z".parse().unwrap());
//! assert!(choose(&Wish::default(), &nothing).is_err());
//! ```

pub mod alert;
pub mod canonical;
pub mod diagnosis;
pub mod duty;
pub mod effect;
pub mod error;
pub mod inventory;
pub mod journal;
pub mod machine;
pub mod method;
pub mod person;
pub mod plan;
pub mod planner;
pub mod report;
pub mod runner;
pub mod service;
pub mod template;
pub mod testing;
pub mod timings;
