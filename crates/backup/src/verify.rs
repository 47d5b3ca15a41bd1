//! Proving that what is in a repository can be read and is complete.
//!
//! Each member is looked at alone: a set that reads around a damaged member would hide the damage.
//! The quick look reads every root, node and index and the names and sizes of everything; the deep
//! one opens every frame of every pack and every WAL object, and compares digests.
//!
//! What later versions of the format's writers leave is understood, too: WAL that is there in
//! pieces, and packs whose frames a compaction has moved.

mod packs;
mod tree;
mod wal;

use std::collections::BTreeMap;

use repository::catalog;
use repository::lineage::Lineage;
use repository::moved::Moved;
use repository::unlock;
use repository::{Error, Kind, PackId, Repository, names};

use crate::Progress;
use packs::Needed;

/// What was proved, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Backups looked at, counted once for each member.
    pub backups: u64,
    /// Dumps looked at, in the same way.
    pub dumps: u64,
    /// Packs looked at.
    pub packs: u64,
    /// WAL files looked at.
    pub wal_files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The member.
    pub member: String,
    /// The object, or the backup that misses something.
    pub object: String,
    /// What was expected and seen.
    pub what: String,
}

/// Looks at everything a lineage has in every member.
///
/// # Errors
/// When a member cannot be listed; everything else is a finding.
pub async fn verify(
    repository: &Repository,
    lineage: &Lineage,
    deep: bool,
    progress: &dyn Progress,
) -> Result<Verification, Error> {
    let mut result = Verification::default();
    for member in repository.members() {
        let Some(alone) = repository.only(&member.name) else { continue };
        let mut run = Run {
            repository: &alone,
            member: &member.name,
            lineage,
            progress,
            result: &mut result,
            moved: BTreeMap::new(),
        };
        run.member(deep).await?;
    }
    Ok(result)
}

struct Run<'a> {
    repository: &'a Repository,
    member: &'a str,
    lineage: &'a Lineage,
    progress: &'a dyn Progress,
    result: &'a mut Verification,
    /// Packs that this member has only where a compaction has moved their frames.
    moved: BTreeMap<PackId, Moved>,
}

impl Run<'_> {
    async fn member(&mut self, deep: bool) -> Result<(), Error> {
        let catalog = catalog::backups(self.repository, self.lineage.id).await?;
        for problem in &catalog.problems {
            self.find(problem.key.as_str(), problem.error.to_string());
        }
        let mut needed: BTreeMap<PackId, Needed> = BTreeMap::new();
        for summary in &catalog.backups {
            self.result.backups += 1;
            self.backup(summary, &mut needed).await?;
        }
        let (dumps, problems) = repository::dump::list(self.repository, self.lineage.id).await?;
        for problem in &problems {
            self.find(problem.key.as_str(), problem.error.to_string());
        }
        for summary in &dumps {
            self.result.dumps += 1;
            self.dump(summary, &mut needed).await?;
        }
        self.follow_moves(&mut needed).await;
        let total = needed.values().map(|needed| needed.size.unwrap_or(0)).sum();
        self.progress.total(if deep { total } else { 0 }, needed.len() as u64);
        for (id, needed) in &needed {
            self.pack(*id, needed, deep).await;
        }
        self.wal(deep).await?;
        self.records(deep).await
    }

    /// The small objects without which nothing else helps: keys, configurations, who may write,
    /// the way through the timelines.
    async fn records(&mut self, deep: bool) -> Result<(), Error> {
        if let Some(member) = self.repository.members().first()
            && let Err(error) = unlock::slots(&member.store).await
        {
            self.find("a key slot", error.to_string());
        }
        let lineage = self.lineage.id;
        let mut kinds = vec![
            (names::CONFIGS.to_owned(), Kind::Config),
            (names::writers(lineage), Kind::Writer),
            (names::states(lineage), Kind::LineageState),
            (names::reservations(lineage), Kind::TimelineReservation),
            (names::histories(lineage), Kind::TimelineHistory),
            (format!("label/{lineage}/"), Kind::BackupHistory),
        ];
        if deep {
            // As long as a segment each.
            kinds.push((format!("partial/{lineage}/"), Kind::WalPartial));
        }
        for (prefix, kind) in kinds {
            for meta in self.repository.list(&prefix).await? {
                if let Err(error) = self.repository.read(kind, &meta.key).await {
                    self.find(meta.key.as_str(), error.to_string());
                }
            }
        }
        Ok(())
    }

    fn find(&mut self, object: &str, what: String) {
        let finding = Finding { member: self.member.into(), object: object.into(), what };
        self.progress.note(&format!("{}: {}: {}", finding.member, finding.object, finding.what));
        self.result.findings.push(finding);
    }
}
