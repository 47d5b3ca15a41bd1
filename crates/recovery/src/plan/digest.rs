//! What people approve.

use std::fmt;

use super::Plan;
use crate::canonical::{canonical, hex, sha256};

/// What a person confirms before a run exists, as eight hexadecimal characters: what is restored
/// from where, by which steps, under which rules. The same plan made a minute later has the same
/// one, although its predictions and the names it would give have moved on.
#[must_use]
pub fn confirmation(plan: &Plan) -> String {
    let mut parts = vec![
        plan.binary.clone(),
        plan.service.clone(),
        plan.mode.text().to_owned(),
        plan.method.clone(),
        plan.target.to_string(),
        format!("{:?} {:?}", plan.policy, plan.persons),
    ];
    parts.extend(plan.site.clone());
    parts.extend(plan.candidates.iter().map(|candidate| candidate.name.clone()));
    for step in &plan.steps {
        let host = step.host.as_deref().unwrap_or_default();
        parts.push(format!("{} {} {host} {:?}", step.id, step.class.text(), step.identity));
    }
    hex(&sha256(parts.join("\n").as_bytes())[..4])
}

/// SHA-256 of a plan's canonical JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanDigest([u8; 32]);

impl PlanDigest {
    /// The digest of a plan.
    ///
    /// # Panics
    /// Never: a plan is written with strings and small integers.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let text = canonical(&plan.to_value());
        assert!(text.is_ok(), "a plan has a canonical form");
        Self(sha256(&text.unwrap_or_default()))
    }

    /// The first eight characters: what `--confirm` takes.
    #[must_use]
    pub fn short(&self) -> String {
        hex(&self.0[..4])
    }
}

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlanDigest({self})")
    }
}
