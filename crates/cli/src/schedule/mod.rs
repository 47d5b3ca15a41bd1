//! What runs by itself: when, what came of it, who is told, and what is measured.

mod alarm;
mod at;
pub(crate) mod facts;
pub(crate) mod install;
pub(crate) mod metrics;
pub(crate) mod record;
pub(crate) mod run;
pub(crate) mod text;
pub(crate) mod watch;

pub(crate) use at::At;
