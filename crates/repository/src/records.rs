//! Bringing a member up to date with the small records of its set: lineages, names, histories,
//! configuration. Without them it could not serve alone, whatever backups it holds.

use std::sync::Arc;

use store::{Created, Key, Store};

use crate::error::Error;

/// Prefixes of the records that every member of a set must have.
pub const PREFIXES: [&str; 4] = ["config/", "lineage/", "cluster/", "history/"];

/// Records a page of a listing has.
const LIST_PAGE: usize = 1000;

/// Copies to `to` the records it lacks, byte for byte; none is replaced. Returns how many it got.
///
/// # Errors
/// [`Error::Conflict`] when `to` has other bytes under a record's name; an error of a store: what
/// was copied until then stays, and a repeat goes on.
pub async fn copy(from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> Result<u64, Error> {
    let mut copied = 0;
    for key in missing(from, to).await? {
        let bytes = from.get(&key).await?;
        if to.put_if_absent(&key, vec![bytes.clone()]).await? == Created::Exists
            && to.get(&key).await? != bytes
        {
            return Err(Error::Conflict {
                key: key.to_string(),
                expected: format!("the bytes that '{}' has", from.address()),
                seen: format!("others in '{}'", to.address()),
            });
        }
        copied += 1;
    }
    Ok(copied)
}

/// The records that `from` has and `to` lacks.
///
/// # Errors
/// An error of a store.
pub async fn missing(from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> Result<Vec<Key>, Error> {
    let mut missing = Vec::new();
    for prefix in PREFIXES {
        let there = keys(to, prefix).await?;
        let known = keys(from, prefix).await?;
        missing.extend(known.into_iter().filter(|key| there.binary_search(key).is_err()));
    }
    Ok(missing)
}

async fn keys(store: &Arc<dyn Store>, prefix: &str) -> Result<Vec<Key>, Error> {
    let mut found: Vec<Key> = Vec::new();
    loop {
        let page = store.list(prefix, found.last(), LIST_PAGE).await?;
        let complete = page.len() < LIST_PAGE;
        found.extend(page.into_iter().map(|meta| meta.key));
        if complete {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::{Key, MemoryStore, Store};

    #[tokio::test]
    async fn copies_what_is_missing_and_replaces_nothing() {
        let (from, to): (Arc<dyn Store>, Arc<dyn Store>) =
            (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
        for name in ["lineage/a/record", "cluster/b/00000001", "pack/00/x"] {
            let key = Key::new(name).unwrap();
            from.put_if_absent(&key, vec![name.as_bytes().into()]).await.unwrap();
        }
        assert_eq!(super::copy(&from, &to).await.unwrap(), 2);
        assert_eq!(super::copy(&from, &to).await.unwrap(), 0);
        assert!(to.get(&Key::new("pack/00/x").unwrap()).await.is_err(), "packs are no records");
        let key = Key::new("lineage/c/record").unwrap();
        from.put_if_absent(&key, vec!["one".into()]).await.unwrap();
        to.put_if_absent(&key, vec!["other".into()]).await.unwrap();
        assert_eq!(super::copy(&from, &to).await.unwrap(), 0);
        assert_eq!(to.get(&key).await.unwrap(), "other");
    }
}
