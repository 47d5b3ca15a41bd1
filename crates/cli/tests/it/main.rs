//! The `rollforward` program as operators and PostgreSQL call it, on real clusters of every
//! supported major.

mod program;
mod random;
mod recovering;
mod site;

mod recoveries;
mod targets;
mod two_restores;
mod whole_path;
