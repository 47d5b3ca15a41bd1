//! Recovery runs in a world that fails at random, in virtual time, again from a seed.
//!
//! A seed decides everything: the service, how its steps misbehave, what the store of the journal
//! answers, when drivers die, stall and are joined by others. What is run is the real runner over
//! the real journal; only the world, the store below and the clock are made up.
//!
//! ```
//! let story = sim::live(7).expect("no promise is broken");
//! assert_eq!(sim::live(7).expect("again"), story);
//! ```

mod driver;
mod judge;
mod story;

pub use story::{Story, live};
