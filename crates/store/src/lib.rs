//! Objects: bytes by key, with put-if-absent.
//!
//! One trait, [`Store`], its implementations (memory, local directory, S3, GCS, Azure) and its
//! wrappers (retry, limit, metered, faulty). Refuses to know: packs, manifests, PostgreSQL.

mod key;
mod port;

pub mod error;
pub mod local;
pub mod memory;
pub mod testing;

pub use error::Error;
pub use key::{KEY_LEN_MAX, Key, PART_LEN_MAX, ParseKeyError};
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use port::{Created, ObjectMeta, Store, Upload};
