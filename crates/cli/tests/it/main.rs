//! The `rollforward` program as operators and PostgreSQL call it, on real clusters of every
//! supported major.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests
#![allow(clippy::print_stdout)] // seeds and what chance brought stand in a failed test's output

mod endpoint;
mod program;
mod random;
mod recovering;
mod site;
mod vendors;

mod alerting;
mod alerts;
mod alerts_again;
mod api_answers;
mod around;
mod breach;
mod by_hand;
mod configuration;
mod cut_off;
mod damage;
mod downgrade;
mod driverless;
mod dump_runs;
mod dumps;
mod dumps_by_choice;
mod elsewhere;
mod engine;
mod exits;
mod filestore;
mod histories;
mod interface;
mod journal;
mod keys;
mod kills;
mod kubernetes;
mod nights;
mod plain_dumps;
mod pushes;
mod recoveries;
mod refusals;
mod root;
mod s3;
mod schedules;
mod secrets;
mod services;
mod shop;
mod standby;
mod steps;
mod suite;
mod targets;
mod traffic;
mod transformations;
mod two_restores;
mod whole_path;
mod wire;
