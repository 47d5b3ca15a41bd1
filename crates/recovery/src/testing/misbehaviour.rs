//! What can go wrong with one step of a world.

/// How a step misbehaves, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It fails, and surely did nothing.
    FailBefore,
    /// It does it, and the answer is lost.
    LoseAnswer,
    /// It does nothing, and the answer is lost.
    LoseRequest,
    /// It does it twice.
    Twice,
    /// It does it by half, and the answer is lost.
    Half,
    /// It never answers.
    Hang,
    /// It fails for good.
    FailForGood,
    /// The data are unusable.
    BadData,
    /// It cannot be told what is there.
    ProbeFails,
    /// Undoing fails, and another try may succeed.
    UndoFails,
}
