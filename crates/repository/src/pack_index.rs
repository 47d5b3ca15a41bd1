//! Reading a pack's own index: to prove a pack without the tree that refers to it.

use store::Key;

use crate::error::Error;
use crate::header::HEADER_LEN;
use crate::kind::Kind;
use crate::names::{self, PackId};
use crate::object::{FramePlace, OpenObject, TailError};
use crate::set::{Member, Repository};

/// Tail read at first: enough for the index of most packs.
const TAIL_GUESS: u64 = 256 << 10;

/// Every frame of a pack of one member, and the object's length.
///
/// # Errors
/// `NotFound`; damage; an error of the store.
pub async fn read(
    repository: &Repository,
    member: &Member,
    kind: Kind,
    pack: PackId,
) -> Result<(Vec<FramePlace>, u64), Error> {
    let (_, places, size) = open(repository, member, kind, &names::pack(pack)).await?;
    Ok((places, size))
}

/// Any object of one member without its frames: its header, where its frames lie, its length.
pub(crate) async fn open(
    repository: &Repository,
    member: &Member,
    kind: Kind,
    key: &Key,
) -> Result<(OpenObject, Vec<FramePlace>, u64), Error> {
    let size = member.store.head(key).await?.size;
    let head = member.store.get_range(key, 0..size.min(HEADER_LEN as u64)).await?;
    let open = OpenObject::new(repository.keys(), kind, &head)
        .map_err(|error| repository.explain(member, key, error))?;
    let mut want = TAIL_GUESS.min(size);
    loop {
        let tail = member.store.get_range(key, size - want..size).await?;
        match open.frames(&tail, size) {
            Ok(places) => return Ok((open, places, size)),
            Err(TailError::Short(need)) if want < size && (need as u64) <= size => {
                want = need as u64;
            }
            Err(TailError::Short(need)) => return Err(truncated(member, key, need, size)),
            Err(TailError::Object(error)) => return Err(repository.explain(member, key, error)),
        }
    }
}

fn truncated(member: &Member, key: &Key, need: usize, size: u64) -> Error {
    Error::Damaged {
        store: member.store.address().into(),
        key: key.to_string(),
        reason: format!("expected at least {need} bytes of index, seen an object of {size}"),
    }
}
