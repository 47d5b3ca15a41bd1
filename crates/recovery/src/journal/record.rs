//! An entry with what every record carries: its number, its driver, its clocks, what it follows.

use jiff::Timestamp;
use serde_json::{Value, json};
use stdx::Id;

use super::entry::Entry;
use crate::canonical::{NotCanonical, canonical};
use crate::plan::WireError;
use crate::plan::wire::Reader;

/// The version of the record's form.
const VERSION: u64 = 1;

/// Who writes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The driving process.
    pub id: Id,
    /// How often the run changed its driver before this one.
    pub epoch: u32,
    /// The version of its binary.
    pub binary: String,
    /// The boot id of its machine, empty when there is none.
    pub boot: String,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The run.
    pub run: String,
    /// Its number, from 0.
    pub sequence: u32,
    /// Who wrote it.
    pub writer: Writer,
    /// The wall clock of its machine: for people.
    pub wall: Timestamp,
    /// Milliseconds since its machine started.
    pub boottime_ms: u64,
    /// SHA-256 of the stored bytes of the record before it, in hexadecimal; empty for the first.
    pub previous: String,
    /// What happened.
    pub entry: Entry,
}

/// A content that is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON.
    #[error("expected JSON: {0}")]
    Json(String),
    /// A field is missing or wrong.
    #[error(transparent)]
    Field(#[from] WireError),
    /// Of a type that must be understood and is not: made by a newer binary.
    #[error(
        "record {sequence} is of type '{kind}', which this version does not know (made by {binary})"
    )]
    Newer {
        /// Its number.
        sequence: u32,
        /// Its type.
        kind: String,
        /// The binary that wrote it.
        binary: String,
    },
}

impl Record {
    /// Its content, in canonical form.
    ///
    /// # Errors
    /// [`NotCanonical`]: a bug of whoever made the entry.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NotCanonical> {
        canonical(&json!({
            "v": VERSION,
            "run": self.run,
            "seq": self.sequence,
            "epoch": self.writer.epoch,
            "writer": self.writer.id.to_string(),
            "binary": self.writer.binary,
            "boot": self.writer.boot,
            "wall": self.wall.to_string(),
            "boottime_ms": self.boottime_ms.to_string(),
            "type": self.entry.kind(),
            "must": self.entry.must_understand(),
            "prev": self.previous,
            "body": self.entry.to_value(),
        }))
    }

    /// A record from its content. `None` when it is of a type that is not known and need not be.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Option<Self>, RecordError> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| RecordError::Json(error.to_string()))?;
        let it = Reader { value: &value, at: "record".into() };
        let sequence =
            u32::try_from(it.number("seq")?).map_err(|_| it.wrong("seq", "a small number"))?;
        let (kind, binary) = (it.text("type")?, it.text("binary")?);
        let Some(entry) = Entry::from_value(&kind, it.child("body").value)? else {
            return match it.flag("must")? {
                true => Err(RecordError::Newer { sequence, kind, binary }),
                false => Ok(None),
            };
        };
        let wrong = |field, expected| it.wrong(field, expected);
        Ok(Some(Self {
            run: it.text("run")?,
            sequence,
            writer: Writer {
                id: it.text("writer")?.parse().map_err(|_| wrong("writer", "an id"))?,
                epoch: u32::try_from(it.number("epoch")?)
                    .map_err(|_| wrong("epoch", "a small number"))?,
                binary,
                boot: it.text("boot")?,
            },
            wall: it.text("wall")?.parse().map_err(|_| wrong("wall", "a time"))?,
            boottime_ms: it
                .text("boottime_ms")?
                .parse()
                .map_err(|_| wrong("boottime_ms", "a number"))?,
            previous: it.text("prev")?,
            entry,
        }))
    }
}
