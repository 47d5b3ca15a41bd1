//! How much a transaction destroyed.

use pg::Oid;
use pg::wal::RelFileLocator;
use pg::wal::activity::{FileChange, Transaction};
use repository::relation_map::Relation;

use super::names::Names;
use super::{Damage, What};

/// OIDs below belong to what `initdb` makes. PostgreSQL: `FirstNormalObjectId`.
const FIRST_NORMAL_OID: u32 = 16_384;

/// What a transaction did to tables of users, the worst first.
pub(super) fn damage(transaction: &Transaction, names: &Names) -> Vec<Damage> {
    let mut damage = Vec::new();
    for database in &transaction.dropped_databases {
        let name = names.database(*database).map(str::to_owned);
        damage.push(unnamed(What::DatabaseDropped, name));
    }
    for tablespace in &transaction.dropped_tablespaces {
        damage.push(unnamed(What::TablespaceDropped, Some(tablespace.to_string())));
    }
    for truncate in &transaction.truncates {
        for table in &truncate.relations {
            let name = names.table(truncate.database, *table).map(str::to_owned);
            damage.push(unnamed(What::Emptied, name));
        }
    }
    let by_file = match transaction.file_change {
        FileChange::None | FileChange::Reindexed => None,
        FileChange::Replaced => Some(What::Rewritten),
        FileChange::Emptied => Some(What::Emptied),
        FileChange::Dropped => Some(What::Dropped),
    };
    if let Some(what) = by_file {
        let files = transaction.dropped.iter().filter(|file| is_table(**file, names));
        for file in files {
            let known = damage.iter().any(|it| it.what == what && it.name == name(*file, names));
            if !known || names.relation(*file).is_none() {
                damage.push(named(what, *file, names));
            }
        }
    }
    for changed in transaction.relations.iter().filter(|it| is_table(it.relation, names)) {
        if changed.rows.deleted > 0 {
            damage.push(named(What::Deleted(changed.rows.deleted), changed.relation, names));
        }
        if changed.rows.updated > 0 {
            damage.push(named(What::Updated(changed.rows.updated), changed.relation, names));
        }
    }
    damage.sort_by(|a, b| b.what.cmp(&a.what).then_with(|| a.name.cmp(&b.name)));
    damage
}

/// Rows deleted, and those that dropped and emptied tables had.
pub(super) fn rows_lost(damage: &[Damage]) -> u64 {
    let rows = |damage: &Damage| match damage.what {
        What::Deleted(rows) => rows,
        What::Emptied | What::Dropped => damage.rows_before.unwrap_or(0),
        What::Updated(_) | What::Rewritten | What::TablespaceDropped | What::DatabaseDropped => 0,
    };
    damage.iter().map(rows).fold(0, u64::saturating_add)
}

/// By how much a transaction comes before others: a dropped database, then rows lost or
/// overwritten, then anything dropped of unknown size.
pub(super) fn weight(damage: &[Damage]) -> (bool, u64, usize) {
    let updated = damage.iter().map(|damage| match damage.what {
        What::Updated(rows) => rows,
        _ => 0,
    });
    let rows = updated.fold(rows_lost(damage), u64::saturating_add);
    let has_database = damage.iter().any(|damage| damage.what == What::DatabaseDropped);
    let gone = damage.iter().filter(|it| matches!(it.what, What::Emptied | What::Dropped)).count();
    (has_database, rows, gone)
}

/// Whether the damage is to the table `wanted`, with or without its schema.
pub(super) fn concerns(damage: &[Damage], wanted: &str) -> bool {
    damage.iter().filter_map(|damage| damage.name.as_deref()).any(|name| {
        name == wanted || name.split_once('.').is_some_and(|(_, table)| table == wanted)
    })
}

/// Whether the file is, or may be, that of a user's table: not an index, TOAST table, sequence or
/// system catalog.
fn is_table(file: RelFileLocator, names: &Names) -> bool {
    match names.relation(file) {
        Some(relation) => {
            let system = ["pg_catalog", "information_schema", "pg_toast"];
            matches!(relation.kind, 'r' | 'm') && !system.contains(&relation.schema.as_str())
        }
        None => file.relation.get() >= FIRST_NORMAL_OID && file.database != Oid::INVALID,
    }
}

fn name(file: RelFileLocator, names: &Names) -> Option<String> {
    names.relation(file).map(|relation| format!("{}.{}", relation.schema, relation.name))
}

fn named(what: What, file: RelFileLocator, names: &Names) -> Damage {
    let rows = |relation: &Relation| u64::try_from(relation.estimated_rows).ok();
    Damage {
        what,
        relation: Some(file),
        name: name(file, names),
        rows_before: names.relation(file).and_then(rows),
    }
}

fn unnamed(what: What, name: Option<String>) -> Damage {
    Damage { what, relation: None, name, rows_before: None }
}
