//! PostgreSQL's bytes and names, majors 14 to 18: pure decoding, nothing read from anywhere.
pub mod wal;
