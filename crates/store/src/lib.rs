//! Objects: bytes by key, with put-if-absent.
//!
//! One trait, [`Store`], its implementations (memory, local directory, S3, GCS, Azure) and its
//! wrappers (retry, limit, metered, faulty). Refuses to know: packs, manifests, PostgreSQL.

mod key;
mod port;

pub mod error;

pub use error::Error;
pub use key::Key;
pub use port::{Created, ObjectMeta, Store, Upload};
