//! For tests of whoever uses this crate: a world without databases, a virtual clock, and the suite
//! that every provider passes.

mod clock;
pub mod conformance;
pub mod five;
mod misbehaviour;
pub mod sample;
mod world;

pub use clock::VirtualClock;
pub use misbehaviour::Misbehaviour;
pub use world::{Snapshot, World, WorldEffects};
