//! Prepared transactions that a backup brings along as files.

use pg::{FullXid, Xid};

use crate::error::Error;
use crate::root::Summary;
use crate::set::Repository;
use crate::tree::{Entry, EntryKind, NodeRef, Page};
use crate::walk::read_node;

/// PostgreSQL: `TWOPHASE_DIR`, src/backend/access/transam/twophase.c.
const FOLDER: &[u8] = b"pg_twophase/";

/// The transactions whose state files are in the backup. Reads only the pages of the tree that can
/// hold them.
pub(super) async fn in_backup(
    repository: &Repository,
    backup: &Summary,
) -> Result<Vec<Xid>, Error> {
    let mut pending: Vec<NodeRef> = vec![backup.tree];
    let mut found = Vec::new();
    while let Some(node) = pending.pop() {
        match read_node(repository, &node).await? {
            Page::Entries(entries) => found.extend(entries.iter().filter_map(xid_of)),
            Page::Children(children) => {
                for (at, (first, child)) in children.iter().enumerate() {
                    let next = children.get(at + 1).map(|(next, _)| next.as_slice());
                    if may_hold(first, next) {
                        pending.push(*child);
                    }
                }
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether a page whose entries begin at `first` and end before `next` can hold state files.
fn may_hold(first: &[u8], next: Option<&[u8]>) -> bool {
    let ends_before = next.is_some_and(|next| next <= FOLDER);
    let begins_behind = first > FOLDER && !first.starts_with(FOLDER);
    !ends_before && !begins_behind
}

/// The id in a state file's name: eight hexadecimal digits, sixteen since PostgreSQL 17.
fn xid_of(entry: &Entry) -> Option<Xid> {
    let name = entry.path.strip_prefix(FOLDER)?;
    let name = std::str::from_utf8(name).ok().filter(|name| matches!(name.len(), 8 | 16))?;
    let full = u64::from_str_radix(name, 16).ok()?;
    (entry.kind == EntryKind::File).then_some(FullXid::new(full).xid())
}

#[cfg(test)]
mod tests {
    use super::may_hold;

    #[test]
    fn looks_only_where_state_files_can_be() {
        let check = |first: &str, next: Option<&str>, expect| {
            assert_eq!(may_hold(first.as_bytes(), next.map(str::as_bytes)), expect, "{first}");
        };
        check("PG_VERSION", None, true);
        check("PG_VERSION", Some("base/1/1"), false);
        check("pg_tblspc", Some("pg_twophase/000002F3"), true);
        check("pg_twophase/000002F3", Some("pg_twophase/000002FF"), true);
        check("pg_wal", None, false);
    }
}
