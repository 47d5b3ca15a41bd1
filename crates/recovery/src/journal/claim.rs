//! One incident run per service: the claim.

use repository::journal as objects;
use serde_json::{Value, json};
use store::Created;

use super::home::{Home, HomeError};
use crate::canonical::canonical;

/// How many numbers are tried when others claim at the same time.
const ATTEMPTS_MAX: u32 = 16;

/// Who has a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The claim's number.
    pub number: u32,
    /// The run; empty when the service is free.
    pub run: String,
}

/// The run that has a service now, if any.
///
/// # Errors
/// [`HomeError`].
pub async fn claimed_by(home: &Home, service: &str) -> Result<Option<Claim>, HomeError> {
    Ok(newest(home, service).await?.filter(|claim| !claim.run.is_empty()))
}

/// Claims a service for a run: `Err` names the run that has it. A run that `supersedes` another
/// takes the claim from that one only.
///
/// # Errors
/// [`HomeError`].
pub async fn claim(
    home: &Home,
    service: &str,
    run: &str,
    supersedes: Option<&str>,
) -> Result<Result<Claim, Claim>, HomeError> {
    for _ in 0..ATTEMPTS_MAX {
        let newest = newest(home, service).await?;
        if let Some(there) = &newest
            && !there.run.is_empty()
            && Some(there.run.as_str()) != supersedes
        {
            return Ok(match there.run == run {
                true => Ok(there.clone()),
                false => Err(there.clone()),
            });
        }
        let number = newest.map_or(0, |claim| claim.number + 1);
        if put(home, service, number, run).await? {
            return Ok(Ok(Claim { number, run: run.into() }));
        }
    }
    Ok(Err(newest(home, service).await?.unwrap_or(Claim { number: 0, run: String::new() })))
}

/// Gives a service back. Safe to repeat.
///
/// # Errors
/// [`HomeError`].
pub async fn release(home: &Home, service: &str, run: &str) -> Result<(), HomeError> {
    match newest(home, service).await? {
        Some(claim) if claim.run == run => put(home, service, claim.number + 1, "").await.map(drop),
        _ => Ok(()),
    }
}

async fn newest(home: &Home, service: &str) -> Result<Option<Claim>, HomeError> {
    let prefix = objects::claims(service);
    let unreachable = |source| HomeError::Unreachable {
        run: format!("claims of '{service}'"),
        home: home.store.address().into(),
        source: Box::new(source),
    };
    let mut after = None;
    loop {
        let page = home.store.list(&prefix, after.as_ref(), 1000).await.map_err(unreachable)?;
        if page.is_empty() {
            break;
        }
        after = page.into_iter().next_back().map(|meta| meta.key);
    }
    let Some(key) = after else { return Ok(None) };
    let number = key.as_str().strip_prefix(&prefix).and_then(|n| u32::from_str_radix(n, 16).ok());
    let stored = home.store.get(&key).await.map_err(unreachable)?;
    let bad = |reason: String| HomeError::Damaged {
        run: format!("claims of '{service}'"),
        sequence: number.unwrap_or_default(),
        reason,
    };
    let content = objects::open(&home.keys, &stored).map_err(|error| bad(format!("{error:?}")))?;
    let value: Value = serde_json::from_slice(&content).map_err(|error| bad(error.to_string()))?;
    let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    match (field("service"), field("run"), number) {
        (Some(seen), Some(run), Some(number)) if seen == service => Ok(Some(Claim { number, run })),
        _ => Err(bad("it is no claim of this service".into())),
    }
}

/// Whether the number is ours now.
async fn put(home: &Home, service: &str, number: u32, run: &str) -> Result<bool, HomeError> {
    let bad = |reason: String| HomeError::Damaged {
        run: format!("claims of '{service}'"),
        sequence: number,
        reason,
    };
    let key = objects::claim(service, number).ok_or_else(|| bad("its name does not fit".into()))?;
    let content = canonical(&json!({ "service": service, "run": run }))
        .map_err(|error| bad(error.to_string()))?;
    let sealed = objects::seal(&home.keys, objects::Link::NONE, &content);
    match home.store.put_if_absent(&key, vec![sealed.clone()]).await {
        Ok(Created::New) => Ok(true),
        // Exactly our bytes: our own attempt whose answer was lost.
        _ => match home.store.get(&key).await {
            Ok(there) => Ok(there == sealed),
            Err(store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(HomeError::Unreachable {
                run: format!("claims of '{service}'"),
                home: home.store.address().into(),
                source: Box::new(source),
            }),
        },
    }
}
