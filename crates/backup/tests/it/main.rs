//! Backups of real clusters.

mod fixture;
mod image;

mod content;
