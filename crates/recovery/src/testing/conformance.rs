//! The suite that every provider passes: what the step contract promises, whatever the effect is.

use crate::effect::{Effect, Found, StepContext};

/// Fails with a sentence.
pub type Outcome = Result<(), String>;

fn expect(holds: bool, what: &str, seen: &str) -> Outcome {
    match holds {
        true => Ok(()),
        false => Err(format!("{what}; seen {seen}")),
    }
}

/// Looks until nothing is under way any more.
async fn settled(effect: &dyn Effect, context: &StepContext) -> Found {
    loop {
        match effect.probe(context).await {
            Found::Running { .. } => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            found => return found,
        }
    }
}

/// For an effect that can be seen and undone: absent, acted, acted again, undone, undone again.
///
/// # Errors
/// Which promise does not hold.
pub async fn undoable(effect: &dyn Effect, context: &mut StepContext) -> Outcome {
    let before = effect.probe(context).await;
    expect(before == Found::Absent, "nothing is there before", &format!("{before:?}"))?;
    effect.precheck(context).await.map_err(|failure| failure.message)?;
    let original = effect.original(context).await.map_err(|failure| failure.message)?;
    if let Some((object, value)) = original.clone() {
        context.originals.entry(object).or_insert(value);
    }
    effect.act(context).await.map_err(|failure| failure.message)?;
    let there = settled(effect, context).await;
    expect(there == Found::Done, "it is there when it was acted", &format!("{there:?}"))?;
    let first = effect.verify(context).await.map_err(|failure| failure.message)?;
    effect.act(context).await.map_err(|failure| format!("acted twice: {}", failure.message))?;
    let there = settled(effect, context).await;
    expect(there == Found::Done, "it is there when it was acted twice", &format!("{there:?}"))?;
    let second = effect.verify(context).await.map_err(|failure| failure.message)?;
    expect(first == second, "twice is once", &format!("{first:?} and {second:?}"))?;
    for time in ["once", "twice"] {
        effect
            .undo(context)
            .await
            .map_err(|failure| format!("undone {time}: {}", failure.message))?;
        let gone = effect.probe(context).await;
        expect(
            gone == Found::Absent,
            &format!("nothing is there, undone {time}"),
            &format!("{gone:?}"),
        )?;
    }
    effect.act(context).await.map_err(|failure| format!("acted again: {}", failure.message))?;
    let there = settled(effect, context).await;
    expect(there == Found::Done, "it can be done again", &format!("{there:?}"))?;
    if let Some((object, _)) = original {
        found_done_is_left(effect, context, &object).await?;
    }
    effect.undo(context).await.map(drop).map_err(|failure| failure.message)
}

/// What a run found as it should be, it never touched: nothing is kept of it, and a rollback
/// leaves it so.
async fn found_done_is_left(
    effect: &dyn Effect,
    context: &mut StepContext,
    object: &str,
) -> Outcome {
    let kept = context.originals.remove(object);
    let undone = effect.undo(context).await.map(drop).map_err(|failure| failure.message);
    let there = settled(effect, context).await;
    context.originals.extend(kept.map(|kept| (object.to_owned(), kept)));
    undone?;
    expect(there == Found::Done, "what was found done is left", &format!("{there:?}"))
}

/// For an effect that only looks: it may be repeated, and says the same.
///
/// # Errors
/// Which promise does not hold.
pub async fn looking(effect: &dyn Effect, context: &StepContext) -> Outcome {
    for _ in 0..2 {
        effect.precheck(context).await.map_err(|failure| failure.message)?;
        effect.act(context).await.map_err(|failure| failure.message)?;
        let there = settled(effect, context).await;
        expect(there == Found::Done, "it has looked", &format!("{there:?}"))?;
        effect.verify(context).await.map_err(|failure| failure.message)?;
    }
    effect.undo(context).await.map(drop).map_err(|failure| failure.message)
}
