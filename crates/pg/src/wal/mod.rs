//! WAL pages and records.
