//! Our format: keys, frames, packs, backup trees, WAL objects, catalog, window, targets.
//!
//! The byte-level truth is `docs/repository-format.md`. Refuses to know: live servers, clouds,
//! schedules.

pub mod catalog;
pub mod codec;
pub mod condemned;
pub mod coverage;
pub mod dump;
pub mod error;
pub mod gap;
pub mod header;
pub mod journal;
pub mod key_file;
pub mod keys;
pub mod kind;
pub mod kit;
pub mod lease;
pub mod lineage;
pub mod moved;
pub mod names;
pub mod object;
pub mod pack;
pub mod pack_index;
pub mod piece;
pub mod records;
pub mod recovery_code;
pub mod relation_map;
pub mod root;
pub mod seal;
pub mod set;
pub mod target;
pub mod timeline;
pub mod tree;
pub mod unlock;
pub mod uploads;
pub mod wal_object;
pub mod wal_read;
pub mod wal_stream;
pub mod walk;
pub mod window;

mod base32;

pub use codec::{Codec, Compression};
pub use error::Error;
pub use keys::{Digest, Digester, SetKeys};
pub use kind::Kind;
pub use names::{Label, LineageId, PackId};
pub use set::{Member, Put, Repository};
