//! Copies back what is missing. Names that are taken stay as they are; an attempt that was cut
//! leaves whole files only, and the next one goes on behind them.

use std::sync::Arc;

use futures::StreamExt;
use recovery::effect::{Failure, StepContext};
use recovery::plan::Parameters;
use store::Bucket;

use super::counts::Counted;
use super::keys::{BATCH_LEN, Keys};
use super::lookup::Lookup;
use super::{Places, failure, limit};

/// Files that are copied at a time.
const COPIED_MAX: usize = 4;

/// What came of one file.
enum Came {
    Copied(u64),
    /// The copy has none either.
    Nowhere,
}

pub(super) async fn run(context: &StepContext, places: &Places) -> Result<Parameters, Failure> {
    let Some(copy) = &places.copy else {
        return Err(Failure::terminal("RF1001", "a plan to copy files back names no copy"));
    };
    let keys = Keys::of(context).await?;
    let mut batch = keys.next().await?;
    let mut bucket = Lookup::new(places.bucket.clone(), batch.len() >= BATCH_LEN, false);
    let (mut files, mut bytes, mut nowhere) = (0_u64, 0_u64, Counted::default());
    while !batch.is_empty() {
        let found = bucket.find(&batch).await?;
        let missing = batch.iter().zip(&found).filter(|(_, found)| found.is_none());
        let copies = missing.map(|(name, _)| {
            let (from, to, name) = (Arc::clone(copy), Arc::clone(&places.bucket), name.clone());
            async move { one(from.as_ref(), to.as_ref(), &name).await.map(|came| (name, came)) }
        });
        let copies: Vec<_> = copies.collect();
        let mut copied = futures::stream::iter(copies).buffer_unordered(COPIED_MAX);
        while let Some(came) = copied.next().await {
            match came? {
                (_, Came::Copied(size)) => {
                    files += 1;
                    bytes += size;
                }
                (name, Came::Nowhere) => nowhere.add(&name),
            }
        }
        batch = keys.next().await?;
    }
    let missing_max = limit(context, "missing_max").unwrap_or(0);
    if nowhere.count > missing_max {
        return Err(Failure::terminal(
            "RF1141",
            format!(
                "expected at most {missing_max} files missing in both {} and {}, seen {}: {}",
                places.name,
                copy.address(),
                nowhere.count,
                nowhere.names()
            ),
        ));
    }
    let name = &places.name;
    Ok(Parameters::from([
        (format!("files_copied_back {name}"), files.to_string()),
        (format!("bytes_copied_back {name}"), bytes.to_string()),
        (format!("files_still_missing {name}"), nowhere.count.to_string()),
    ]))
}

async fn one(from: &dyn Bucket, to: &dyn Bucket, name: &str) -> Result<Came, Failure> {
    let item = from.head(name).await.map_err(|error| failure(&error))?;
    let Some(item) = item else { return Ok(Came::Nowhere) };
    // Whether it is new or was there a moment ago: what counts is what stands there now.
    to.copy_from(from, &item).await.map_err(|error| failure(&error))?;
    let there = to.head(name).await.map_err(|error| failure(&error))?;
    match there {
        Some(there) if there.size == item.size => Ok(Came::Copied(item.size)),
        there => Err(Failure::terminal(
            "RF1141",
            format!(
                "expected '{name}' with {} bytes in {}, seen {}",
                item.size,
                to.address(),
                there.map_or_else(|| "none".into(), |there| format!("{} bytes", there.size))
            ),
        )
        .hint("somebody else wrote it at the same time: nothing was replaced")),
    }
}
