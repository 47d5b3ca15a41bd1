//! What state a database is in, from what was seen. Evidence in, verdict out.

/// The verdict of `diagnose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It answers, and nothing speaks of damage.
    Healthy,
    /// It answers, but something is wrong that is no damage: errors, a standby behind, slow.
    Degraded,
    /// Nothing is known.
    Unknown,
    /// It answers, and data are damaged; or it does not answer and its files are there.
    Damaged,
    /// It does not answer, and its files are gone or unusable.
    Unrecoverable,
}

impl Condition {
    /// Its name.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Damaged => "damaged",
            Self::Unrecoverable => "unrecoverable",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What was looked at: `connection`, `basic query`, `checksums`.
    pub what: &'static str,
    /// What was seen.
    pub seen: String,
    /// What it says.
    pub says: Says,
}

/// What one piece of evidence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// As it should be.
    Fine,
    /// Wrong, but no damage.
    Trouble,
    /// Data are damaged, or users are not served.
    Damage,
    /// Neither: there was nothing to look at.
    Nothing,
    /// The files themselves are gone.
    Gone,
}

impl Says {
    /// Its name.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Trouble => "trouble",
            Self::Damage => "damage",
            Self::Nothing => "nothing seen",
            Self::Gone => "gone",
        }
    }
}

/// The verdict that evidence gives: the worst that any of it says.
#[must_use]
pub fn condition(evidence: &[Evidence]) -> Condition {
    let says = |wanted: Says| evidence.iter().any(|it| it.says == wanted);
    if says(Says::Gone) {
        Condition::Unrecoverable
    } else if says(Says::Damage) {
        Condition::Damaged
    } else if says(Says::Trouble) {
        Condition::Degraded
    } else if says(Says::Fine) {
        Condition::Healthy
    } else {
        Condition::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_evidence_decides() {
        let check = |says: &[Says], expect: Condition| {
            let evidence: Vec<Evidence> = says
                .iter()
                .map(|says| Evidence { what: "x", seen: String::new(), says: *says })
                .collect();
            assert_eq!(condition(&evidence), expect, "{says:?}");
        };
        check(&[], Condition::Unknown);
        check(&[Says::Nothing], Condition::Unknown);
        check(&[Says::Fine, Says::Nothing], Condition::Healthy);
        check(&[Says::Fine, Says::Trouble], Condition::Degraded);
        check(&[Says::Trouble, Says::Damage, Says::Fine], Condition::Damaged);
        check(&[Says::Damage, Says::Gone], Condition::Unrecoverable);
    }
}
