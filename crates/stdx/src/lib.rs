//! What `std` lacks and every crate of ours needs: a clock, ids, durable file writes, byte
//! counts and diagnostics.
//!
//! Refuses to know: any word of PostgreSQL, backups or storage. Uses no other crate of ours.
//!
//! ```
//! use stdx::{ByteCount, Id};
//! assert_eq!(ByteCount::new(1536).to_string(), "1.5 KiB");
//! assert_ne!(Id::random(), Id::random());
//! ```

pub mod clock;
pub mod diagnostic;
pub mod durable;
pub mod id;

mod byte_count;

pub use byte_count::ByteCount;
pub use clock::{Clock, SystemClock};
pub use diagnostic::{CodeInfo, Diagnostic, Exit, Retry};
pub use id::Id;
