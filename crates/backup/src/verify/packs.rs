//! Packs: that they are there, whole, or were moved whole; deep: that every frame opens.

use std::collections::BTreeMap;

use repository::moved::{self, Moved};
use repository::object::{FrameAt, FramePlace};
use repository::{Error, Kind, Label, PackId, names, pack_index};

use super::Run;

/// A pack that backups or dumps refer to.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    /// Its size as the first root says; unknown for one that a compaction made.
    pub(super) size: Option<u64>,
    /// The first backup or dump that needs it.
    pub(super) label: Label,
}

impl Run<'_> {
    /// Reads where the frames of packs that are gone from this member are now.
    pub(super) async fn find_moves(
        &mut self,
        packs: impl IntoIterator<Item = PackId>,
    ) -> Result<(), Error> {
        for pack in packs {
            if self.moved.contains_key(&pack) || self.has(pack).await? {
                continue;
            }
            match moved::read(self.repository, pack).await {
                Ok(moved) => drop(self.moved.insert(pack, moved)),
                // Neither there nor moved: the look at the pack itself says so.
                Err(Error::Store(store::Error::NotFound { .. })) => {}
                Err(error) => self.find(names::moved(pack).as_str(), error.to_string()),
            }
        }
        Ok(())
    }

    async fn has(&self, pack: PackId) -> Result<bool, Error> {
        let Some(member) = self.repository.members().first() else { return Ok(false) };
        match member.store.head(&names::pack(pack)).await {
            Ok(_) => Ok(true),
            Err(store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a frame that a tree refers to is where a compaction says, if its pack was compacted.
    pub(super) fn was_moved(&self, pack: PackId, at: &FrameAt) -> Result<(), String> {
        let Some(moved) = self.moved.get(&pack) else { return Ok(()) };
        let number = at.shape.number;
        match moved.frames.get(&number) {
            Some((_, now)) if now.shape.raw_len == at.shape.raw_len => Ok(()),
            Some((_, now)) => Err(format!(
                "needs {} bytes of frame {number} of pack {pack}, moved were {}",
                at.shape.raw_len, now.shape.raw_len
            )),
            None => {
                Err(format!("needs frame {number} of pack {pack}, which was not moved with it"))
            }
        }
    }

    /// Replaces packs that were moved by those that hold their frames now, however often they were
    /// moved.
    pub(super) async fn follow_moves(&mut self, needed: &mut BTreeMap<PackId, Needed>) {
        let mut pending: Vec<PackId> = needed.keys().copied().collect();
        while let Some(pack) = pending.pop() {
            let Some(moved) = self.moved.get(&pack).cloned() else { continue };
            let Some(old) = needed.remove(&pack) else { continue };
            let mut targets: Vec<PackId> = moved.frames.values().map(|(now, _)| *now).collect();
            targets.sort_unstable();
            targets.dedup();
            for target in targets {
                if let Err(error) = self.find_moves([target]).await {
                    self.find(names::pack(target).as_str(), error.to_string());
                }
                if let Err(what) = self.places_hold(&moved, target).await {
                    self.find(names::moved(pack).as_str(), what);
                }
                needed
                    .entry(target)
                    .or_insert_with(|| Needed { size: None, label: old.label.clone() });
                pending.push(target);
            }
        }
    }

    /// Whether the places that a move names in `target` are those of its own index, or of the next
    /// move.
    async fn places_hold(&self, moved: &Moved, target: PackId) -> Result<(), String> {
        let here = moved.frames.values().filter(|(pack, _)| *pack == target);
        if self.moved.contains_key(&target) {
            return here.map(|(_, at)| at).try_for_each(|at| self.was_moved(target, at));
        }
        let (_, places, _) = self.index(target).await?;
        for (_, at) in here {
            let number = usize::try_from(at.shape.number).unwrap_or(usize::MAX);
            if places.get(number).map(|place| place.at) != Some(*at) {
                return Err(format!("frame {number} of pack {target} is not where it says"));
            }
        }
        Ok(())
    }

    pub(super) async fn pack(&mut self, id: PackId, needed: &Needed, deep: bool) {
        self.result.packs += 1;
        if let Err(error) = self.prove_pack(id, needed, deep).await {
            self.find(&format!("{} of {}", names::pack(id), needed.label), error);
        }
    }

    /// A pack's kind, frames and length.
    async fn index(&self, id: PackId) -> Result<(Kind, Vec<FramePlace>, u64), String> {
        let member = self.repository.members().first().ok_or("no member")?;
        let mut first = None;
        for kind in [Kind::DataPack, Kind::MetaPack] {
            match pack_index::read(self.repository, member, kind, id).await {
                Ok((places, size)) => return Ok((kind, places, size)),
                // The first error names what is wrong with a data pack, the second with a meta
                // pack; of a missing one both say so.
                Err(error) => first = first.or(Some(error.to_string())),
            }
        }
        Err(first.unwrap_or_default())
    }

    async fn prove_pack(&mut self, id: PackId, needed: &Needed, deep: bool) -> Result<(), String> {
        let (kind, places, size) = self.index(id).await?;
        if let Some(expected) = needed.size.filter(|expected| *expected != size) {
            return Err(format!("expected {expected} bytes, seen {size}"));
        }
        if !deep {
            return Ok(());
        }
        let frames: Vec<FrameAt> = places.iter().map(|place| place.at).collect();
        let mut bytes = 0;
        let mut mismatch = None;
        let opened = self
            .repository
            .read_frames(kind, id, &frames, |number, raw| {
                bytes += raw.len() as u64;
                let digests = places
                    .get(number)
                    .map(|place| place.page_digests.as_slice())
                    .unwrap_or_default();
                if mismatch.is_none() && !pages_match(raw, digests) {
                    mismatch = Some(number);
                }
                Ok(())
            })
            .await;
        self.result.bytes += bytes;
        self.progress.advance(size);
        opened.map_err(|error| error.to_string())?;
        match mismatch {
            Some(number) => Err(format!("a page of frame {number} does not have its digest")),
            None => Ok(()),
        }
    }
}

/// Whether each page of a frame has the digest its pack's index says; frames without digests do.
fn pages_match(raw: &[u8], digests: &[u8]) -> bool {
    let pages = digests.len() / 8;
    if pages == 0 {
        return true;
    }
    let page_len = raw.len() / pages;
    page_len > 0
        && raw
            .chunks(page_len)
            .zip(digests.chunks(8))
            .all(|(page, digest)| xxhash_rust::xxh3::xxh3_64(page).to_le_bytes() == digest)
}
