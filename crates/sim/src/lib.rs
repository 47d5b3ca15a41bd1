//! Recovery runs in a world that fails at random, in virtual time, again from a seed.
//!
//! A seed decides everything: the service, how its steps misbehave, what the stores of the journal
//! answer, what persons say, when drivers die, stall and are joined by others. What is run is the
//! real runner over the real journal; only the world, the stores below and the clocks are made up.
//! A witness reads every record as it is stored and watches every request that changes something.
//!
//! ```
//! let story = sim::live(7).expect("no promise is broken");
//! assert_eq!(sim::live(7).expect("again"), story);
//! ```

mod driver;
mod judge;
mod people;
mod place;
mod process;
mod sky;
mod story;
mod tally;
mod witness;

pub use story::{Story, live};
pub use tally::{FAILURES, Kind, MESSAGES};
