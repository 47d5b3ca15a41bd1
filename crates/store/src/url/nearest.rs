//! What a mistyped name may have meant.

/// The known name that is nearest to `seen`, if any is near: at most a third of its letters wrong.
pub(crate) fn nearest<'k>(seen: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(seen, name);
    let best = known.iter().copied().min_by_key(distance)?;
    (distance(&best) <= best.len().div_ceil(3)).then_some(best)
}
