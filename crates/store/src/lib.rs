//! Objects: bytes by key, with put-if-absent.
//!
//! One trait, [`Store`], its implementations (memory, local directory, S3, GCS, Azure) and its
//! wrappers (retry, limit, metered, faulty). Refuses to know: packs, manifests, PostgreSQL.
//!
//! Invariants: nothing ever replaces an object; an object is complete and durable when it appears;
//! an absent object is told from a store that cannot say.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use store::{Created, Key, MemoryStore, Store};
//!
//! let store = MemoryStore::new();
//! let key = Key::new("wal/7/00000001.history").unwrap();
//! assert_eq!(store.put_if_absent(&key, vec!["1".into()]).await.unwrap(), Created::New);
//! assert_eq!(store.put_if_absent(&key, vec!["2".into()]).await.unwrap(), Created::Exists);
//! assert_eq!(store.get(&key).await.unwrap(), "1");
//! # });
//! ```

mod cloud;
mod key;
mod options;
mod port;
mod secret;

pub mod bucket;
pub mod error;
pub mod limit;
pub mod local;
pub mod memory;
pub mod metered;
pub mod prove;
pub mod retry;
pub mod testing;
pub mod time;
pub mod url;

pub use bucket::Bucket;
pub use error::Error;
pub use key::{KEY_LEN_MAX, Key, PART_LEN_MAX, ParseKeyError};
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use options::{Deadlines, OpenOptions};
pub use port::{Created, ObjectMeta, Store, Upload};
pub use prove::{ProofError, prove_put_if_absent};
pub use secret::Secret;
pub use time::time;
pub use url::open;
