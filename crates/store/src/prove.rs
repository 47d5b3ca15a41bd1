//! Proof that a store honours put-if-absent, before leases and journals are trusted to it.
//!
//! Some S3 look-alikes ignore `If-None-Match`, some honour it only without concurrency. Nothing
//! they declare is believed: creates race for fresh names, and what is stored decides.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use stdx::Id;
use stdx::diagnostic::{CodeInfo, Diagnostic, Exit, Retry};

use crate::{Created, Error, Key, Store};

/// Rounds of racing creates: a store that decides by chance passes one round more often than four.
const ROUNDS: usize = 4;

/// Creates that race in one round.
const RACERS: usize = 16;

/// Why the proof did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The store broke the promise.
    #[error("'{store}' does not honour put-if-absent: expected {expected}, seen {seen}")]
    NotHonoured {
        /// The store's address without secrets.
        store: String,
        /// What should have happened.
        expected: &'static str,
        /// What did.
        seen: String,
    },
    /// The store could not be asked; nothing is proved either way.
    #[error(transparent)]
    Store(#[from] Error),
}

pub(crate) const NOT_HONOURED: CodeInfo = CodeInfo {
    code: "RF0207",
    title: "the store does not honour put-if-absent",
    retry: Retry::Permanent,
    exit: Exit::Refused,
};

impl Diagnostic for ProofError {
    fn info(&self) -> &'static CodeInfo {
        match self {
            Self::NotHonoured { .. } => &NOT_HONOURED,
            Self::Store(error) => error.info(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotHonoured { .. } => vec![
                "two writers could overwrite each other here: use another store, or a release of this one with conditional writes".into(),
                "or declare the repository single-writer; then no leases and no journals live there".into(),
            ],
            Self::Store(error) => error.hints(),
        }
    }
}

/// Races creates of fresh keys below `proof/`, and checks that each key got exactly one writer's
/// bytes, that nothing replaces them and that a listing sees them at once. Removes its objects.
///
/// `ids` gives the names and the writers: random ids in production, a sequence in simulation.
///
/// # Errors
/// [`ProofError::NotHonoured`] when the store broke the promise; [`ProofError::Store`] when it
/// could not be asked.
pub async fn prove_put_if_absent(
    store: &Arc<dyn Store>,
    ids: &(dyn Fn() -> Id + Send + Sync),
) -> Result<(), ProofError> {
    for _ in 0..ROUNDS {
        let name = format!("proof/{}", ids());
        let Ok(key) = Key::new(&name) else { unreachable!("'{name}' is a key") };
        let proof = Proof { store, key };
        let writers: Vec<Bytes> = (0..RACERS).map(|_| Bytes::from(ids().to_string())).collect();
        let outcome = proof.round(&writers, Bytes::from(ids().to_string())).await;
        // Also after a failure: nothing of the proof stays.
        let removed = store.delete(&proof.key).await;
        outcome?;
        removed?;
    }
    Ok(())
}

struct Proof<'a> {
    store: &'a Arc<dyn Store>,
    key: Key,
}

impl Proof<'_> {
    async fn round(&self, writers: &[Bytes], late: Bytes) -> Result<(), ProofError> {
        let owner = self.race(writers).await?;
        let second = self.store.put_if_absent(&self.key, vec![late]).await?;
        self.expect(second == Created::Exists, "a second create to be refused", || {
            "it said that it created the object".into()
        })?;
        let after = self.store.get(&self.key).await?;
        self.expect(after == owner, "the object to stay as created", || {
            format!("it holds '{}' now", after.escape_ascii())
        })?;
        let listed = self.store.list(self.key.as_str(), None, 2).await?;
        let names: Vec<&Key> = listed.iter().map(|meta| &meta.key).collect();
        self.expect(names == [&self.key], "a listing to show the object at once", || {
            format!("it shows {} objects", names.len())
        })
    }

    /// Races the writers for the key; returns the bytes that won.
    async fn race(&self, writers: &[Bytes]) -> Result<Bytes, ProofError> {
        let racers = writers.iter().map(|writer| {
            let (store, key, writer) = (Arc::clone(self.store), self.key.clone(), writer.clone());
            tokio::spawn(async move { store.put_if_absent(&key, vec![writer]).await })
        });
        let mut winners = Vec::new();
        for (writer, done) in writers.iter().zip(join_all(racers).await) {
            let created = done.map_err(|error| self.unavailable(&error.to_string()))??;
            if created == Created::New {
                winners.push(writer);
            }
        }
        self.expect(winners.len() <= 1, "one of the racing creates to win", || {
            format!("{} of {} did", winners.len(), writers.len())
        })?;
        let stored = match self.store.get(&self.key).await {
            Err(Error::NotFound { .. }) => {
                let expected = "the created object to be there";
                self.expect(false, expected, || "no object".into())?;
                Bytes::new()
            }
            other => other?,
        };
        // No winner is possible: its answer was lost and its repeat found its own object.
        let rightful = match winners.first() {
            Some(winner) => stored == **winner,
            None => writers.contains(&stored),
        };
        self.expect(rightful, "the winner's bytes to be stored", || {
            format!("'{}'", stored.escape_ascii())
        })?;
        Ok(stored)
    }

    fn expect(
        &self,
        holds: bool,
        expected: &'static str,
        seen: impl FnOnce() -> String,
    ) -> Result<(), ProofError> {
        if holds {
            return Ok(());
        }
        Err(ProofError::NotHonoured { store: self.store.address().into(), expected, seen: seen() })
    }

    fn unavailable(&self, reason: &str) -> ProofError {
        ProofError::Store(Error::Unavailable {
            store: self.store.address().into(),
            verb: "write",
            key: self.key.to_string(),
            reason: reason.into(),
        })
    }
}
