//! Which of many sorted names a bucket has: asked one by one when they are few, by walking the
//! bucket's own listing beside them when they are many. Memory holds a page and a batch.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use recovery::effect::Failure;
use store::Bucket;
use store::bucket::Item;

use super::failure;

/// Questions under way at a time.
const ASKED_MAX: usize = 16;

/// One bucket, looked through in ascending order of names.
pub(super) struct Lookup {
    bucket: Arc<dyn Bucket>,
    listing: Option<Listing>,
    /// Whether the time of the newest object is wanted: then every object is seen.
    wants_newest: bool,
    newest: Option<Timestamp>,
}

#[derive(Default)]
struct Listing {
    page: VecDeque<Item>,
    last: Option<String>,
    has_ended: bool,
}

impl Lookup {
    pub(super) fn new(bucket: Arc<dyn Bucket>, is_many: bool, wants_newest: bool) -> Self {
        let lists = is_many && !bucket.prefers_asking();
        let listing = lists.then(Listing::default);
        Self { bucket, listing, wants_newest, newest: None }
    }

    /// What the bucket has of `names`, which are sorted and greater than all asked for before.
    pub(super) async fn find(&mut self, names: &[String]) -> Result<Vec<Option<Item>>, Failure> {
        match self.listing.take() {
            Some(mut listing) => {
                let found = self.walk(&mut listing, names).await;
                self.listing = Some(listing);
                found
            }
            None => self.ask(names).await,
        }
    }

    async fn ask(&self, names: &[String]) -> Result<Vec<Option<Item>>, Failure> {
        let asked = names.iter().map(|name| {
            let (bucket, name) = (Arc::clone(&self.bucket), name.clone());
            async move { bucket.head(&name).await }
        });
        // Collected: a closure that borrows must not live on while it is waited.
        let asked: Vec<_> = asked.collect();
        let answers = futures::stream::iter(asked).buffered(ASKED_MAX);
        answers.try_collect().await.map_err(|error| failure(&error))
    }

    async fn walk(
        &mut self,
        listing: &mut Listing,
        names: &[String],
    ) -> Result<Vec<Option<Item>>, Failure> {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            loop {
                while listing.page.front().is_some_and(|item| item.name < *name) {
                    listing.page.pop_front();
                }
                if !listing.page.is_empty() || listing.has_ended {
                    break;
                }
                self.load(listing, Some(name)).await?;
            }
            let is_there = listing.page.front().is_some_and(|item| item.name == *name);
            found.push(if is_there { listing.page.pop_front() } else { None });
        }
        Ok(found)
    }

    /// The next page; objects before `wanted` are left out, unless all are to be seen.
    async fn load(&mut self, listing: &mut Listing, wanted: Option<&str>) -> Result<(), Failure> {
        let mut after = listing.last.clone();
        if let Some(before) = wanted.and_then(just_before).filter(|_| !self.wants_newest) {
            after = after.max(Some(before.to_owned()));
        }
        let len = self.bucket.page_len();
        let page = self.bucket.list(after.as_deref(), len).await;
        let page = page.map_err(|error| failure(&error))?;
        self.newest = self.newest.max(page.iter().map(|item| item.modified).max());
        listing.has_ended = page.len() < len;
        listing.last = page.last().map(|item| item.name.clone()).or(after);
        listing.page = page.into();
        Ok(())
    }

    /// When the newest object was written; the rest of the bucket is looked through for it.
    pub(super) async fn newest(&mut self) -> Result<Option<Timestamp>, Failure> {
        let mut listing = self.listing.take().unwrap_or_default();
        while self.wants_newest && !listing.has_ended {
            self.load(&mut listing, None).await?;
        }
        Ok(self.newest)
    }
}

/// A name that is smaller, with little between the two: an object of that very name is not wanted.
fn just_before(name: &str) -> Option<&str> {
    let (at, _) = name.char_indices().next_back()?;
    name.get(..at).filter(|before| !before.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::OpenOptions;

    #[test]
    fn a_name_just_before_is_smaller() {
        for (name, expect) in [("ab", Some("a")), ("a", None), ("aü", Some("a")), ("", None)] {
            assert_eq!(just_before(name), expect, "{name}");
        }
    }

    /// A directory that is listed like a bucket, in pages of three.
    #[derive(Debug)]
    struct Small(Arc<dyn Bucket>);

    #[async_trait::async_trait]
    impl Bucket for Small {
        fn address(&self) -> &str {
            self.0.address()
        }
        fn page_len(&self) -> usize {
            3
        }
        async fn list(&self, after: Option<&str>, n: usize) -> Result<Vec<Item>, store::Error> {
            self.0.list(after, n).await
        }
        async fn head(&self, name: &str) -> Result<Option<Item>, store::Error> {
            self.0.head(name).await
        }
        async fn read(
            &self,
            name: &str,
            range: std::ops::Range<u64>,
        ) -> Result<bytes::Bytes, store::Error> {
            self.0.read(name, range).await
        }
        async fn copy_from(
            &self,
            from: &dyn Bucket,
            item: &Item,
        ) -> Result<store::Created, store::Error> {
            self.0.copy_from(from, item).await
        }
    }

    #[tokio::test]
    async fn asking_and_walking_find_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for at in (0..100).filter(|at| at % 7 != 3) {
            std::fs::write(folder.path().join(format!("f{at:03}")), "x").unwrap();
        }
        let address = folder.path().display().to_string();
        let inner = store::bucket::open(&address, &OpenOptions::default()).unwrap();
        let bucket: Arc<dyn Bucket> = Arc::new(Small(inner));
        // Every third name, and some that are before, between and behind all others.
        let mut names: Vec<String> = (0..100).step_by(3).map(|at| format!("f{at:03}")).collect();
        names.extend(["a", "f", "f00", "f0010", "z"].map(str::to_owned));
        names.sort();
        for (is_many, wants_newest) in [(false, false), (true, false), (true, true)] {
            let mut lookup = Lookup::new(Arc::clone(&bucket), is_many, wants_newest);
            let mut found = Vec::new();
            for batch in names.chunks(4) {
                found.extend(lookup.find(batch).await.unwrap());
            }
            for (name, found) in names.iter().zip(&found) {
                let expect = folder.path().join(name).exists();
                assert_eq!(found.is_some(), expect, "{name}, {is_many}, {wants_newest}");
                assert!(found.as_ref().is_none_or(|item| item.name == *name));
            }
            assert_eq!(lookup.newest().await.unwrap().is_some(), is_many, "{wants_newest}");
        }
    }
}
