//! Which repositories of a set answer. All are asked at once, and where one is enough the others
//! are not waited for longer than a person at night would.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use repository::Member;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::config::RepositoryConfig;
use crate::wiring::open_store;

/// Longest wait for the others once one has answered. A store that restarts is ridden out by the
/// repetitions below it; one behind a line that is cut would take a minute to be given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether all of them are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// All: each is waited for as long as its store is tried.
    All,
    /// Any of them.
    One,
}

/// What became of the question, in the order of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Those that answered.
    pub(crate) there: Vec<Member>,
    /// Those that did not, and why.
    pub(crate) away: Vec<(String, anyhow::Error)>,
}

/// Asks all of them at once.
pub(crate) async fn ask(tables: &[&RepositoryConfig], needed: Needed) -> Answers {
    let mut asked = JoinSet::new();
    let mut known = BTreeMap::new();
    for (at, table) in tables.iter().enumerate() {
        let (name, store) = (table.name.clone(), open_store(table, false));
        asked.spawn(async move {
            let reached = match store {
                Ok(store) => match repository::unlock::describe(&store).await {
                    Ok(_) => Ok(Member { name, store }),
                    Err(error) => Err(error.into()),
                },
                Err(error) => Err(error),
            };
            (at, reached)
        });
    }
    let mut until = None;
    loop {
        let next = match until {
            None => Ok(asked.join_next().await),
            Some(until) => timeout_at(until, asked.join_next()).await,
        };
        let Ok(Some(Ok((at, reached)))) = next else { break };
        if reached.is_ok() && needed == Needed::One {
            until.get_or_insert_with(|| Instant::now() + PATIENCE);
        }
        known.insert(at, reached);
    }
    let mut answers = Answers::default();
    for (at, table) in tables.iter().enumerate() {
        match known.remove(&at) {
            Some(Ok(member)) => answers.there.push(member),
            Some(Err(error)) => answers.away.push((table.name.clone(), error)),
            None => {
                let seconds = PATIENCE.as_secs();
                let why = anyhow!("no answer from '{}' in {seconds} s", table.url);
                answers.away.push((table.name.clone(), why));
            }
        }
    }
    answers
}
