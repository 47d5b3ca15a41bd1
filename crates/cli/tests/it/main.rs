//! The `rollforward` program as operators and PostgreSQL call it, on real clusters of every
//! supported major.

mod program;
mod random;
mod recovering;
mod site;

mod damage;
mod exits;
mod keys;
mod pushes;
mod recoveries;
mod refusals;
mod targets;
mod two_restores;
mod whole_path;
