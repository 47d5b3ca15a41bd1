//! The `rollforward` program as operators and PostgreSQL call it, on real clusters of every
//! supported major.

mod program;
mod random;
mod recovering;
mod site;

mod configuration;
mod damage;
mod exits;
mod interface;
mod keys;
mod kills;
mod pushes;
mod recoveries;
mod refusals;
mod root;
mod s3;
mod secrets;
mod targets;
mod two_restores;
mod whole_path;
