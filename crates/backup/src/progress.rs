//! How a backup tells what it is doing.

/// Hears of a backup's progress; the command line draws a bar from it.
pub trait Progress: Send + Sync {
    /// What there is to copy, known once the files are listed.
    fn total(&self, bytes: u64, files: u64);

    /// So many more bytes are on their way into the repository. All calls add up to the total, also
    /// when files were shorter than listed.
    fn advance(&self, bytes: u64);

    /// What it does now, or a warning: one line for a person.
    fn note(&self, text: &str);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn total(&self, _bytes: u64, _files: u64) {}

    fn advance(&self, _bytes: u64) {}

    fn note(&self, _text: &str) {}
}
