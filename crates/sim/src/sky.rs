//! A store in all weathers: it fails, lies, answers late, and does things again or afterwards.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use store::{Created, Error, Key, ObjectMeta, Store, Upload};
use tokio::time::{Instant, sleep};

use crate::process::Fate;
use crate::tally::Tally;

/// What a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Fails,
    AnswerLost,
    /// Another request for the name is under way. `store::cloud` takes it for "exists" and looks
    /// whether an object is there.
    Conflict,
    /// "Exists", and nothing is there.
    Mistaken,
    /// "Exists", because the request itself went out twice.
    OwnExists,
    Late,
    AnswersLate,
    Again,
    Afterwards,
    Half,
    Down,
}

/// What can happen to a write, more often what is more often seen.
const WRITES: [Weather; 11] = [
    Weather::Fails,
    Weather::Fails,
    Weather::AnswerLost,
    Weather::AnswerLost,
    Weather::Conflict,
    Weather::Mistaken,
    Weather::OwnExists,
    Weather::Late,
    Weather::AnswersLate,
    Weather::Again,
    Weather::Afterwards,
];

/// What can happen to whatever only reads; the last one only to what reads whole objects.
const READS: [Weather; 6] = [
    Weather::Fails,
    Weather::Fails,
    Weather::AnswerLost,
    Weather::Late,
    Weather::AnswersLate,
    Weather::Half,
];

/// One call in so many that goes wrong finds the store down.
const DOWN_ONE_OF: u32 = 60;

/// A store under a sky.
pub(crate) struct Sky {
    /// `store` or `copy`.
    place: &'static str,
    inner: Arc<dyn Store>,
    /// Of a thousand calls, how many go wrong.
    per_mille: u32,
    random: Mutex<fastrand::Rng>,
    down_until: Mutex<Option<Instant>>,
    /// The process that asks; something may befall it on the way there and back.
    fate: Arc<Fate>,
    tally: Tally,
}

impl std::fmt::Debug for Sky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sky({})", self.place)
    }
}

impl Sky {
    pub(crate) fn over(
        inner: Arc<dyn Store>,
        place: &'static str,
        (seed, per_mille): (u64, u32),
        fate: Arc<Fate>,
        tally: Tally,
    ) -> Self {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let down_until = Mutex::default();
        Self { place, inner, per_mille, random, down_until, fate, tally }
    }

    fn draw<T>(&self, from: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        from(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn seconds(&self, range: Range<u64>) -> Duration {
        Duration::from_secs(self.draw(|random| random.u64(range)))
    }

    fn weather(&self, kinds: &[Weather]) -> Option<Weather> {
        let mut down_until = self.down_until.lock().unwrap_or_else(PoisonError::into_inner);
        if down_until.is_some_and(|until| until > Instant::now()) {
            return Some(Weather::Down);
        }
        if self.draw(|random| random.u32(..1000)) >= self.per_mille {
            return None;
        }
        if self.draw(|random| random.u32(..DOWN_ONE_OF)) == 0 {
            *down_until = Some(Instant::now() + self.seconds(5..300));
            self.tally.count(self.place, "is down for a while");
            return Some(Weather::Down);
        }
        let weather = self.draw(|random| kinds[random.usize(..kinds.len())]);
        self.tally.count(
            self.place,
            match weather {
                Weather::Fails => "answers 500",
                Weather::AnswerLost => "does it, and the answer is lost",
                Weather::Conflict => "answers 409",
                Weather::Mistaken => "answers 412, and nothing is there",
                Weather::OwnExists => "does it, and answers 412",
                Weather::Late => "does it late",
                Weather::AnswersLate => "does it, and answers late",
                Weather::Again => "does it twice, the second time later",
                Weather::Afterwards => "answers 500, and does it later",
                Weather::Half => "reads half of an object",
                Weather::Down => "is down for a while",
            },
        );
        Some(weather)
    }

    /// No answer; that takes a moment. The pauses between attempts are in it, because those of
    /// [`store::retry`] do not come from a seed.
    async fn failed<T>(&self, verb: &'static str, object: &str, reason: &str) -> Result<T, Error> {
        let pause = self.draw(|random| random.u64(50..3000));
        sleep(Duration::from_millis(pause)).await;
        Err(Error::Unavailable {
            store: self.inner.address().into(),
            verb,
            key: object.into(),
            reason: reason.into(),
        })
    }

    /// Late by seconds, sometimes by more than a lease lives.
    async fn late(&self) {
        let is_long = self.draw(|random| random.u8(..4)) == 0;
        sleep(self.seconds(if is_long { 30..400 } else { 1..20 })).await;
    }

    async fn read<T: Send>(
        &self,
        verb: &'static str,
        object: &str,
        answer: impl Future<Output = Result<T, Error>> + Send,
        halve: Option<fn(T) -> T>,
    ) -> Result<T, Error> {
        self.fate.befall();
        self.fate.running().await;
        let kinds = &READS[..READS.len() - usize::from(halve.is_none())];
        let answer = match self.weather(kinds) {
            None => answer.await,
            Some(Weather::Late | Weather::AnswersLate) => {
                self.late().await;
                answer.await
            }
            Some(Weather::Half) => answer.await.map(halve.unwrap_or(|whole| whole)),
            Some(_) => self.failed(verb, object, "no answer").await,
        };
        self.fate.running().await;
        answer
    }

    /// The same request reaches the store later, whoever lives then.
    fn afterwards(&self, key: &Key, parts: Vec<Bytes>) {
        let (inner, key, after) = (Arc::clone(&self.inner), key.clone(), self.seconds(1..600));
        tokio::spawn(async move {
            sleep(after).await;
            inner.put_if_absent(&key, parts).await
        });
    }

    async fn write(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        let failed = |reason| self.failed("write", key.as_str(), reason);
        let Some(weather) = self.weather(&WRITES) else {
            return self.inner.put_if_absent(key, parts).await;
        };
        match weather {
            Weather::Mistaken => Ok(Created::Exists),
            Weather::OwnExists => {
                self.inner.put_if_absent(key, parts).await.map(|_| Created::Exists)
            }
            Weather::Conflict => match self.inner.head(key).await {
                Ok(_) => Ok(Created::Exists),
                Err(_) => failed("409: a conflicting operation is in progress").await,
            },
            Weather::Late => {
                self.late().await;
                self.inner.put_if_absent(key, parts).await
            }
            Weather::AnswersLate => {
                let answer = self.inner.put_if_absent(key, parts).await;
                self.late().await;
                answer
            }
            Weather::Again => {
                self.afterwards(key, parts.clone());
                self.inner.put_if_absent(key, parts).await
            }
            Weather::Afterwards => {
                self.afterwards(key, parts);
                failed("500").await
            }
            Weather::AnswerLost => {
                self.inner.put_if_absent(key, parts).await?;
                failed("no answer").await
            }
            Weather::Fails | Weather::Half | Weather::Down => failed("500").await,
        }
    }
}

#[async_trait]
impl Store for Sky {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn get(&self, key: &Key) -> Result<Bytes, Error> {
        let halve: fn(Bytes) -> Bytes = |bytes| bytes.slice(..bytes.len() / 2);
        self.read("read", key.as_str(), self.inner.get(key), Some(halve)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, Error> {
        self.read("read", key.as_str(), self.inner.get_range(key, range), None).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, Error> {
        self.read("read", key.as_str(), self.inner.head(key), None).await
    }

    async fn put_if_absent(&self, key: &Key, parts: Vec<Bytes>) -> Result<Created, Error> {
        self.fate.befall();
        self.fate.running().await;
        let answer = self.write(key, parts).await;
        self.fate.befall();
        self.fate.running().await;
        answer
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>, Error> {
        self.inner.upload(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Error> {
        // A page that ends early is no answer of a store: it says whether more follows.
        self.read("list", prefix, self.inner.list(prefix, after, limit), None).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.read("delete", key.as_str(), self.inner.delete(key), None).await
    }
}
