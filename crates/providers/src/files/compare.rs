//! A sample of files, compared between a bucket and its copy.

use std::collections::BinaryHeap;

use aws_lc_rs::digest;
use futures::StreamExt;
use recovery::effect::Failure;
use store::Bucket;
use store::bucket::Item;

use super::counts::Counted;
use super::{Places, failure};

/// Files that are compared at a time.
const COMPARED_MAX: usize = 4;

/// Bytes that are read at a time.
const PIECE_LEN: u64 = 4 << 20;

/// A larger file is compared by its size, its beginning and its end.
const WHOLE_LEN_MAX: u64 = 64 << 20;

/// Files chosen evenly from a stream of unknown length, the same ones by every driver: those whose
/// names, together with the step's key, have the smallest digests.
pub(super) struct Sample {
    key: String,
    len: usize,
    chosen: BinaryHeap<([u8; 8], Pair)>,
}

/// A file in the bucket and in the copy.
#[derive(Debug, PartialEq, Eq)]
struct Pair {
    item: Item,
    other: Item,
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.item.name.cmp(&other.item.name)
    }
}

impl Sample {
    pub(super) fn new(key: &str, len: usize) -> Self {
        Self { key: key.to_owned(), len, chosen: BinaryHeap::new() }
    }

    /// Considers a file that is in both.
    pub(super) fn consider(&mut self, item: Item, other: Item) {
        if self.len == 0 {
            return;
        }
        let text = format!("{}\n{}", self.key, item.name);
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        let rank: [u8; 8] = digest.as_ref().first_chunk().copied().unwrap_or_default();
        self.chosen.push((rank, Pair { item, other }));
        if self.chosen.len() > self.len {
            self.chosen.pop();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// The files that differ.
    pub(super) async fn differing(self, places: &Places) -> Result<Counted, Failure> {
        let mut differing = Counted::default();
        let Some(copy) = &places.copy else { return Ok(differing) };
        let (one, two) = (&places.bucket, copy);
        let pairs = self.chosen.into_iter().map(|(_, pair)| async move {
            let differs = differs(one.as_ref(), two.as_ref(), &pair).await;
            differs.map(|differs| (pair.item.name, differs))
        });
        let mut compared = futures::stream::iter(pairs).buffer_unordered(COMPARED_MAX);
        while let Some(compared) = compared.next().await {
            let (name, differs) = compared.map_err(|error| failure(&error))?;
            if differs {
                differing.add(&name);
            }
        }
        Ok(differing)
    }
}

async fn differs(one: &dyn Bucket, two: &dyn Bucket, pair: &Pair) -> Result<bool, store::Error> {
    if pair.item.size != pair.other.size {
        return Ok(true);
    }
    // What was sent in one request has the digest of its content for a tag, most often: equal ones
    // are equal contents, others say nothing.
    let tag = |item: &Item| item.etag.clone().filter(|tag| is_digest(tag));
    if tag(&pair.item).is_some_and(|seen| Some(seen) == tag(&pair.other)) {
        return Ok(false);
    }
    let (size, name) = (pair.item.size, pair.item.name.as_str());
    if size <= WHOLE_LEN_MAX {
        return differ_in(one, two, name, 0..size).await;
    }
    Ok(differ_in(one, two, name, 0..PIECE_LEN).await?
        || differ_in(one, two, name, size - PIECE_LEN..size).await?)
}

async fn differ_in(
    one: &dyn Bucket,
    two: &dyn Bucket,
    name: &str,
    range: std::ops::Range<u64>,
) -> Result<bool, store::Error> {
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + PIECE_LEN);
        let (a, b) = futures::join!(one.read(name, at..end), two.read(name, at..end));
        if a? != b? {
            return Ok(true);
        }
        at = end;
    }
    Ok(false)
}

/// 32 hexadecimal digits in quotes; those of an upload in parts end in `-3`.
fn is_digest(tag: &str) -> bool {
    let tag = tag.trim_matches('"');
    tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> Item {
        let modified = jiff::Timestamp::UNIX_EPOCH;
        Item { name: name.into(), size: 1, modified, etag: None }
    }

    #[test]
    fn the_same_files_are_chosen_in_any_order_and_others_for_another_step() {
        let choose = |key: &str, order: &mut dyn Iterator<Item = u32>| {
            let mut sample = Sample::new(key, 10);
            for at in order {
                let name = format!("file-{at}");
                sample.consider(item(&name), item(&name));
            }
            let mut names: Vec<_> = sample.chosen.into_iter().map(|it| it.1.item.name).collect();
            names.sort();
            names
        };
        let one = choose("a", &mut (0..1000));
        assert_eq!(one.len(), 10);
        assert_eq!(one, choose("a", &mut (0..1000).rev()));
        assert_ne!(one, choose("b", &mut (0..1000)));
    }

    #[test]
    fn tags_of_uploads_in_parts_are_no_digests() {
        assert!(is_digest("\"d41d8cd98f00b204e9800998ecf8427e\""));
        assert!(!is_digest("\"d41d8cd98f00b204e9800998ecf8427e-3\"") && !is_digest("W/\"1\""));
    }
}
