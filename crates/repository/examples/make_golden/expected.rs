//! What a golden repository holds, line by line, for a test to compare with what it reads.

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;
use crate::cluster::{Cluster, Item};

/// Permission bits of every file and of every directory.
pub(crate) const FILE_MODE: u32 = 0o600;
pub(crate) const DIRECTORY_MODE: u32 = 0o700;

/// The lines so far.
#[derive(Debug, Default)]
pub(crate) struct Expected(String);

impl Expected {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "{text}"); // a String takes everything
    }

    /// A cluster's name and the lineage that it is bound to; what follows belongs to it.
    pub(crate) fn cluster(&mut self, name: &str, lineage: &str, system_id: u64) {
        self.line(&format!("cluster {name} {lineage} {system_id}"));
    }

    /// A backup and everything in it.
    pub(crate) fn backup(&mut self, label: &str, cluster: &Cluster) {
        self.line(&format!("backup {label}"));
        for (path, item) in &cluster.items {
            let path = path.escape_ascii().to_string().replace(' ', "\\x20");
            match item {
                Item::Directory => self.line(&format!("directory {path} {DIRECTORY_MODE:o}")),
                Item::File(bytes) | Item::Pages(bytes) => {
                    self.line(&format!("file {path} {FILE_MODE:o} {}", content(bytes)));
                }
                Item::Link(to) => {
                    let to = to.escape_ascii().to_string().replace(' ', "\\x20");
                    self.line(&format!("link {path} {to}"));
                }
                Item::Attachment(bytes) => {
                    self.line(&format!("attachment {path} {FILE_MODE:o} {}", content(bytes)));
                }
            }
        }
    }

    /// A WAL file by PostgreSQL's name: `wal`, or `conflict` for one kept beside another.
    pub(crate) fn wal(&mut self, what: &str, name: &str, bytes: &[u8]) {
        self.line(&format!("{what} {name} {}", content(bytes)));
    }

    /// Writes `expected.txt` into the folder.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let head = "# What the repository beside this file holds; lengths in bytes, BLAKE3.\n";
        std::fs::write(folder.join("expected.txt"), format!("{head}{}", self.0))?;
        Ok(())
    }
}

fn content(bytes: &[u8]) -> String {
    format!("{} {}", bytes.len(), blake3::hash(bytes))
}
