//! What every store must do, as one suite.
#![allow(clippy::unwrap_used, clippy::expect_used)] // it is a test, though other crates call it

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use stdx::Id;

use crate::{Created, Error, Key, Store};

/// Whether the store under test may lose an answer after the effect, so that its own retry finds
/// the object there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Each answer arrives: a first create says `New`.
    Arrive,
    /// A first create may say `Exists`; then the object must hold the creator's bytes.
    MayBeLost,
}

/// Writers that race for one name.
const RACERS: u8 = 20;

/// Bytes of the multi-part upload: more than two parts of 8 MiB.
const UPLOAD_LEN: usize = 20 << 20;

/// Checks that `store` keeps the promises of [`Store`]. Uses keys of its own below `conformance/`
/// and removes them.
///
/// # Panics
/// At the first broken promise.
pub async fn conformance(store: Arc<dyn Store>) {
    conformance_with(store, Answers::Arrive).await;
}

/// Like [`conformance`], for a store whose answers may get lost.
///
/// # Panics
/// At the first broken promise.
pub async fn conformance_with(store: Arc<dyn Store>, answers: Answers) {
    let suite = Suite { store, answers, base: format!("conformance/{}", Id::random()) };
    suite.round_trips().await;
    suite.ranges().await;
    suite.never_replaces().await;
    suite.one_racer_wins().await;
    suite.uploads().await;
    suite.unfinished_uploads_stay_invisible().await;
    suite.lists().await;
    suite.pages().await;
    suite.odd_keys().await;
    suite.missing_objects().await;
    suite.clean_up().await;
}

struct Suite {
    store: Arc<dyn Store>,
    answers: Answers,
    base: String,
}

/// Bytes that differ everywhere and by `seed`.
fn pattern(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

impl Suite {
    fn key(&self, name: &str) -> Key {
        Key::new(format!("{}/{name}", self.base)).unwrap()
    }

    /// Creates an object that is not there yet.
    async fn create(&self, key: &Key, parts: Vec<Bytes>) {
        let whole: Bytes = parts.concat().into();
        match self.store.put_if_absent(key, parts).await.unwrap() {
            Created::New => {}
            Created::Exists => {
                assert_eq!(
                    self.answers,
                    Answers::MayBeLost,
                    "a first create of '{key}' says Exists"
                );
                assert!(self.store.get(key).await.unwrap() == whole, "'{key}' is not ours");
            }
        }
    }

    async fn keys(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Vec<String> {
        let found = self.store.list(prefix, after, limit).await.unwrap();
        found.into_iter().map(|meta| meta.key.to_string()).collect()
    }

    async fn round_trips(&self) {
        for (name, parts) in [
            ("empty", vec![]),
            ("empty-part", vec![Bytes::new()]),
            ("one", vec![Bytes::from_static(b"x")]),
            ("parts", vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")]),
            ("large", vec![pattern(3 << 20, 1), pattern(1 << 20, 2), pattern(17, 3)]),
        ] {
            let key = self.key(&format!("round/{name}"));
            let whole = parts.concat();
            self.create(&key, parts).await;
            assert!(self.store.get(&key).await.unwrap() == whole, "'{key}' came back changed");
            let meta = self.store.head(&key).await.unwrap();
            assert_eq!((meta.key, meta.size), (key, whole.len() as u64));
            assert!(meta.modified.as_second() > 1_600_000_000, "the store's clock stands still");
        }
    }

    async fn ranges(&self) {
        let key = self.key("ranges");
        let whole = pattern(100_000, 4);
        self.create(&key, vec![whole.clone()]).await;
        for range in
            [0..1, 0..100_000, 99_999..100_000, 12_345..54_321, 0..0, 7..7, 100_000..100_000]
        {
            let expect = whole.slice(range.clone());
            let seen = self.store.get_range(&key, range.start as u64..range.end as u64).await;
            assert!(seen.unwrap() == expect, "range {range:?}");
        }
        for range in
            [0..100_001, 99_999..100_001, 100_000..100_001, 200_000..200_001, 100_001..100_001]
        {
            let seen = self.store.get_range(&key, range.clone()).await;
            let exact = matches!(
                &seen,
                Err(Error::Range { size: 100_000, start, end, .. }) if (*start..*end) == range
            );
            assert!(exact, "range {range:?} beyond the end: {seen:?}");
        }
    }

    async fn never_replaces(&self) {
        let key = self.key("once");
        let first = Bytes::from_static(b"first");
        self.create(&key, vec![first.clone()]).await;
        for second in [&b"second, and longer"[..], b"first", b""] {
            let second = vec![Bytes::copy_from_slice(second)];
            assert_eq!(self.store.put_if_absent(&key, second).await.unwrap(), Created::Exists);
            assert_eq!(self.store.get(&key).await.unwrap(), first, "'{key}' was replaced");
        }
        self.store.delete(&key).await.unwrap();
        self.create(&key, vec![Bytes::from_static(b"again")]).await;
        assert_eq!(self.store.get(&key).await.unwrap(), b"again"[..]);
    }

    async fn one_racer_wins(&self) {
        for round in 0..3 {
            let key = self.key(&format!("race/{round}"));
            let content = |racer: u8| pattern(10_000 + usize::from(racer), u64::from(racer));
            let racers = (0..RACERS).map(|racer| {
                let (store, key) = (Arc::clone(&self.store), key.clone());
                tokio::spawn(async move { store.put_if_absent(&key, vec![content(racer)]).await })
            });
            let results: Vec<Created> =
                join_all(racers).await.into_iter().map(|done| done.unwrap().unwrap()).collect();
            let winners: Vec<u8> = (0..RACERS)
                .zip(&results)
                .filter_map(|(racer, created)| (*created == Created::New).then_some(racer))
                .collect();
            let lost = self.answers == Answers::MayBeLost && winners.is_empty();
            assert!(winners.len() == 1 || lost, "winners of one name: {winners:?}");
            let stored = self.store.get(&key).await.unwrap();
            let owner = (0..RACERS).find(|racer| stored == content(*racer));
            assert!(owner.is_some(), "the object is nobody's");
            assert!(lost || owner == winners.first().copied(), "the winner's bytes are not stored");
        }
    }

    async fn uploads(&self) {
        for (name, len, step) in [
            ("nothing", 0, 1),
            ("small", 100, 7),
            ("odd", UPLOAD_LEN, 1_234_567),
            ("exact", 16 << 20, 8 << 20),
            ("single", 9 << 20, 9 << 20),
        ] {
            let key = self.key(&format!("upload/{name}"));
            let whole = pattern(len, len as u64);
            let mut upload = self.store.upload(&key).await.unwrap();
            let mut rest = whole.clone();
            let mut size = step;
            while !rest.is_empty() {
                upload.write(rest.split_to(size.min(rest.len()))).await.unwrap();
                // Uneven, and now and then nothing at all.
                size = if size == step { step / 3 } else { step }.max(1);
                upload.write(Bytes::new()).await.unwrap();
            }
            self.assert_invisible(&key, "before finish").await;
            upload.finish().await.unwrap();
            assert!(self.store.get(&key).await.unwrap() == whole, "'{key}' came back changed");
            assert_eq!(self.store.head(&key).await.unwrap().size, len as u64);
        }
    }

    async fn assert_invisible(&self, key: &Key, when: &str) {
        let head = self.store.head(key).await;
        assert!(matches!(head, Err(Error::NotFound { .. })), "'{key}' {when}: {head:?}");
        let listed = self.keys(key.as_str(), None, 10).await;
        assert!(listed.is_empty(), "'{key}' is listed {when}");
    }

    async fn unfinished_uploads_stay_invisible(&self) {
        let (abandoned, aborted) = (self.key("upload/abandoned"), self.key("upload/aborted"));
        for len in [100, 9 << 20] {
            let mut upload = self.store.upload(&abandoned).await.unwrap();
            upload.write(pattern(len, 5)).await.unwrap();
            drop(upload);
            self.assert_invisible(&abandoned, "after its upload was dropped").await;
            let mut upload = self.store.upload(&aborted).await.unwrap();
            upload.write(pattern(len, 6)).await.unwrap();
            upload.abort().await.unwrap();
            self.assert_invisible(&aborted, "after its upload was aborted").await;
        }
        // The name is free for a whole object.
        self.create(&aborted, vec![Bytes::from_static(b"whole")]).await;
    }

    async fn lists(&self) {
        // In byte order; '+', '-' and '.' sort before '/', digits after it.
        let names = [
            "a+b/x",
            "a-b",
            "a.b",
            "a/0",
            "a/b/c",
            "a/b0",
            "a/c",
            "a0",
            "ab",
            "b/deep/er/yet",
            "c",
        ];
        let base = format!("{}/list/", self.base);
        let full: Vec<String> = names.iter().map(|name| format!("{base}{name}")).collect();
        for (at, name) in full.iter().enumerate().rev() {
            self.create(&Key::new(name.as_str()).unwrap(), vec![pattern(at, 7)]).await;
        }
        let found = self.store.list(&base, None, 100).await.unwrap();
        let seen: Vec<(&str, u64)> = found.iter().map(|m| (m.key.as_str(), m.size)).collect();
        let expect: Vec<(&str, u64)> = full.iter().map(String::as_str).zip(0..).collect();
        assert_eq!(seen, expect);
        for prefix in ["", "a", "a/", "a/b", "a/b/", "a0", "b/deep", "c", "c/", "d", "a/b/c/d"] {
            let prefix = format!("{base}{prefix}");
            let expect: Vec<&String> = full.iter().filter(|k| k.starts_with(&prefix)).collect();
            assert_eq!(self.keys(&prefix, None, 100).await.iter().collect::<Vec<_>>(), expect);
            for after in ["a", "a.b", "a/b", "a/b/b", "a/b/c", "a1", "b/deep/er", "zz", "A"] {
                let after = Key::new(format!("{base}{after}")).unwrap();
                let expect: Vec<&&String> =
                    expect.iter().filter(|key| key.as_str() > after.as_str()).collect();
                let seen = self.keys(&prefix, Some(&after), 100).await;
                assert_eq!(
                    seen.iter().collect::<Vec<_>>(),
                    expect.into_iter().copied().collect::<Vec<_>>(),
                    "'{prefix}' after '{after}'"
                );
            }
        }
        assert!(self.keys(&base, None, 0).await.is_empty());
    }

    async fn pages(&self) {
        let base = format!("{}/pages/", self.base);
        let all: Vec<Key> = (0..57).map(|n| Key::new(format!("{base}{n:03}")).unwrap()).collect();
        for key in &all {
            self.create(key, vec![]).await;
        }
        for limit in [1, 10, 19, 56, 57, 58] {
            let mut seen: Vec<Key> = Vec::new();
            loop {
                let page = self.store.list(&base, seen.last(), limit).await.unwrap();
                let last = page.len() < limit;
                assert!(page.len() <= limit, "a page has {} entries", page.len());
                seen.extend(page.into_iter().map(|meta| meta.key));
                if last {
                    break;
                }
            }
            assert_eq!(seen, all, "in pages of {limit}");
        }
    }

    async fn odd_keys(&self) {
        let long = "l".repeat(255);
        for name in
            ["...", "a..b", "-", "=", "+", "a+b=c-d_e.f", ".hidden", "UPPER/lower", "%", &long]
        {
            let Ok(key) = Key::new(format!("{}/odd/{name}", self.base)) else {
                assert_eq!(name, "%", "legal by the rules");
                continue;
            };
            let body = Bytes::from(name.to_owned());
            self.create(&key, vec![body.clone()]).await;
            assert_eq!(self.store.get(&key).await.unwrap(), body, "'{key}'");
            assert_eq!(self.store.head(&key).await.unwrap().key, key);
            assert_eq!(self.keys(key.as_str(), None, 10).await, [key.to_string()]);
            self.store.delete(&key).await.unwrap();
        }
    }

    async fn missing_objects(&self) {
        let parent = self.key("missing");
        self.create(&parent, vec![]).await;
        let folder = self.key("list/a/b");
        for key in
            [self.key("nothing"), self.key("no/such/folder"), folder, self.key("missing/below")]
        {
            let seen = self.store.get(&key).await;
            assert!(matches!(&seen, Err(Error::NotFound { key: k, .. }) if *k == key), "{seen:?}");
            let seen = self.store.get_range(&key, 0..1).await;
            assert!(matches!(&seen, Err(Error::NotFound { key: k, .. }) if *k == key), "{seen:?}");
            let seen = self.store.get_range(&key, 0..0).await;
            assert!(matches!(&seen, Err(Error::NotFound { .. })), "{seen:?}");
            let seen = self.store.head(&key).await;
            assert!(matches!(&seen, Err(Error::NotFound { key: k, .. }) if *k == key), "{seen:?}");
            self.store.delete(&key).await.unwrap();
        }
        let below = self.keys(&format!("{}/list/a/b/", self.base), None, 10).await;
        assert_eq!(below.len(), 1, "deleting a folder's name removed what is below it");
    }

    async fn clean_up(&self) {
        loop {
            let page = self.store.list(&self.base, None, 100).await.unwrap();
            for meta in &page {
                self.store.delete(&meta.key).await.unwrap();
                self.store.delete(&meta.key).await.unwrap();
                let gone = self.store.get(&meta.key).await;
                assert!(matches!(gone, Err(Error::NotFound { .. })), "deleted: {gone:?}");
            }
            if page.is_empty() {
                return;
            }
        }
    }
}
