//! The write-ahead log on its way into the repository and back: push, get, prefetch, continuity,
//! salvage, locate.
//!
//! Refuses to know: what a backup contains, plans, and the process it runs in; how a process has to
//! end is a value ([`verdict::exit_of`]), the clock and the host's name are arguments.
//!
//! Invariants: nothing is called archived before it is durable in every repository; a destination
//! never shows a part of a file; absence is only told when it is proved.

pub mod cache;
pub mod content;
pub mod credential;
pub mod error;
pub mod get;
pub mod locate;
pub mod prefetch;
pub mod push;
pub mod route;
pub mod salvage;
pub mod source;
pub mod status;
pub mod verdict;

mod fetch;

pub use credential::Credential;
pub use error::Error;
pub use get::{GetRequest, get};
pub use push::{PushRequest, Pushed, push};
pub use route::Route;
pub use source::SourceFile;
pub use verdict::{Exit, Verdict, exit_of};
