//! What persons say to a run: signed messages, which its driver finds, checks, journals and obeys.

use jiff::Timestamp;
use repository::journal as objects;
use serde_json::{Value, json};
use stdx::Id;

use super::home::{Home, HomeError};
use crate::canonical::canonical;
use crate::person::{SigningKey, is_signed_by};
use crate::plan::wire::Reader;
use crate::plan::{Plan, PlanDigest};

/// Messages looked at in one run; one that floods the inbox is not followed further.
const MESSAGES_MAX: usize = 1000;

/// What a message asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Passes a gate: a step's id, or `fallback.N`.
    Approve {
        /// The gate.
        gate: String,
        /// Nobody else answered: the requester's own approval.
        is_break_glass: bool,
        /// Why, when it is one.
        reason: String,
    },
    /// No new step.
    Pause,
    /// Go on.
    Resume,
    /// The step afresh.
    Retry(String),
    /// Without the step.
    Skip {
        /// The step.
        step: String,
        /// Why.
        reason: String,
    },
    /// Undo everything.
    Abort(String),
}

impl MessageKind {
    fn parts(&self) -> (&'static str, &str, &str, bool) {
        match self {
            Self::Approve { gate, is_break_glass, reason } => {
                ("approve", gate, reason, *is_break_glass)
            }
            Self::Pause => ("pause", "", "", false),
            Self::Resume => ("resume", "", "", false),
            Self::Retry(step) => ("retry", step, "", false),
            Self::Skip { step, reason } => ("skip", step, reason, false),
            Self::Abort(reason) => ("abort", "", reason, false),
        }
    }

    fn from_parts(kind: &str, object: String, reason: String, glass: bool) -> Option<Self> {
        Some(match kind {
            "approve" => Self::Approve { gate: object, is_break_glass: glass, reason },
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "retry" => Self::Retry(object),
            "skip" => Self::Skip { step: object, reason },
            "abort" => Self::Abort(reason),
            _ => return None,
        })
    }
}

/// A message before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The run.
    pub run: String,
    /// The plan that the person saw.
    pub digest: String,
    /// The target that the person saw.
    pub target: String,
    /// Who says it.
    pub person: String,
    /// When.
    pub at: Timestamp,
    /// What is asked.
    pub kind: MessageKind,
}

/// A message as it was found, and whether it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its id.
    pub id: Id,
    /// The message.
    pub message: Message,
    /// Why it does not count.
    pub refused: Option<String>,
}

impl Message {
    fn to_value(&self) -> Value {
        let (kind, object, reason, glass) = self.kind.parts();
        json!({
            "run": self.run, "digest": self.digest, "target": self.target, "person": self.person,
            "at": self.at.to_string(), "kind": kind, "object": object, "reason": reason,
            "break_glass": glass,
        })
    }

    fn signed_bytes(&self) -> Vec<u8> {
        canonical(&self.to_value()).unwrap_or_default()
    }

    fn from_value(value: &Value) -> Option<Self> {
        let it = Reader { value, at: "message".into() };
        let kind = MessageKind::from_parts(
            &it.text("kind").ok()?,
            it.text("object").ok()?,
            it.text("reason").ok()?,
            it.flag("break_glass").ok()?,
        )?;
        Some(Self {
            run: it.text("run").ok()?,
            digest: it.text("digest").ok()?,
            target: it.text("target").ok()?,
            person: it.text("person").ok()?,
            at: it.text("at").ok()?.parse().ok()?,
            kind,
        })
    }
}

/// Puts a message into a run's inbox. Without a key it is unsigned: it counts only where the plan
/// knows no persons.
///
/// # Errors
/// [`HomeError::Unreachable`].
pub async fn send(
    home: &Home,
    message: &Message,
    key: Option<&SigningKey>,
) -> Result<Id, HomeError> {
    let id = Id::random();
    send_as(home, id, message, key).await?;
    Ok(id)
}

/// As [`send`], under an id that nobody else has: a simulation's come from its seed.
///
/// # Errors
/// As [`send`].
pub async fn send_as(
    home: &Home,
    id: Id,
    message: &Message,
    key: Option<&SigningKey>,
) -> Result<(), HomeError> {
    let signature = key.map(|key| key.sign(&message.signed_bytes())).unwrap_or_default();
    let content = canonical(&json!({ "message": message.to_value(), "signature": signature }));
    let bad = |reason: String| HomeError::Damaged { run: message.run.clone(), sequence: 0, reason };
    let key =
        objects::message(&message.run, id).ok_or_else(|| bad("its name does not fit".into()))?;
    let content = content.map_err(|error| bad(error.to_string()))?;
    let sealed = objects::seal(&home.keys, objects::Link::NONE, &content);
    let put = home.store.put_if_absent(&key, vec![sealed]).await;
    put.map(drop).map_err(|source| HomeError::Unreachable {
        run: message.run.clone(),
        home: home.store.address().into(),
        source: Box::new(source),
    })
}

/// The messages that `known` does not have, in order of their times, each checked against the
/// plan's own copy of persons and against its target and `digest`, which is the plan's.
///
/// # Errors
/// [`HomeError::Unreachable`].
pub async fn read_inbox(
    home: &Home,
    run: &str,
    plan: &Plan,
    digest: PlanDigest,
    known: &[Id],
) -> Result<Vec<Received>, HomeError> {
    let prefix = objects::inbox(run);
    let unreachable = |source| HomeError::Unreachable {
        run: run.into(),
        home: home.store.address().into(),
        source: Box::new(source),
    };
    let listed = home.store.list(&prefix, None, MESSAGES_MAX).await.map_err(unreachable)?;
    let mut found = Vec::new();
    for meta in listed {
        let id = meta.key.as_str().strip_prefix(&prefix).and_then(|id| id.parse::<Id>().ok());
        let Some(id) = id.filter(|id| !known.contains(id)) else { continue };
        let stored = home.store.get(&meta.key).await.map_err(unreachable)?;
        let Ok(content) = objects::open(&home.keys, &stored) else { continue };
        let Ok(value) = serde_json::from_slice::<Value>(&content) else { continue };
        let Some(message) = value.get("message").and_then(Message::from_value) else { continue };
        let signature = value.get("signature").and_then(Value::as_str).unwrap_or_default();
        let refused = check(&message, signature, run, plan, digest);
        found.push(Received { id, message, refused });
    }
    found.sort_by_key(|received| received.message.at);
    Ok(found)
}

/// Why a message does not count.
fn check(
    message: &Message,
    signature: &str,
    run: &str,
    plan: &Plan,
    digest: PlanDigest,
) -> Option<String> {
    if message.run != run {
        return Some(format!("it is for run '{}'", message.run));
    }
    if message.digest != digest.to_string() {
        return Some("it is about another plan".into());
    }
    if message.target != plan.target.to_string() {
        return Some(format!("it is about another target, {}", message.target));
    }
    if plan.persons.is_empty() {
        return None;
    }
    match plan.persons.get(&message.person) {
        None => Some(format!("'{}' is not a person of the plan", message.person)),
        Some(person) => (!is_signed_by(&person.key, &message.signed_bytes(), signature))
            .then(|| format!("it is not signed with the key of '{}'", message.person)),
    }
}
