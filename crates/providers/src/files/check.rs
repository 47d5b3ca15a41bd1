//! Whether the files that rows point to are there, how old the newest is, and whether a copy holds
//! the same.

use jiff::{SignedDuration, Timestamp};
use recovery::effect::{Failure, StepContext};
use recovery::plan::Parameters;
use store::bucket::Item;

use super::compare::Sample;
use super::counts::Counted;
use super::keys::{BATCH_LEN, Keys};
use super::lookup::Lookup;
use super::{Places, limit};
use crate::postgres::target_time;

/// What was counted.
#[derive(Default)]
struct Seen {
    keys: u64,
    /// Not in the bucket, but in the copy.
    in_copy_only: Counted,
    /// Neither here nor there.
    nowhere: Counted,
    not_in_copy: Counted,
    /// Why the copy could not be asked.
    copy_failure: Option<Failure>,
}

impl Seen {
    fn take(&mut self, name: &str, here: Option<&Item>, there: Option<&Option<Item>>) {
        self.keys += 1;
        match (here, there) {
            (Some(_), None | Some(Some(_))) => {}
            (Some(_), Some(None)) => self.not_in_copy.add(name),
            (None, Some(Some(_))) => self.in_copy_only.add(name),
            (None, None) => self.nowhere.add(name),
            (None, Some(None)) => {
                self.nowhere.add(name);
                self.not_in_copy.add(name);
            }
        }
    }
}

pub(super) async fn run(context: &StepContext, places: &Places) -> Result<Parameters, Failure> {
    let keys = Keys::of(context).await?;
    let mut batch = keys.next().await?;
    let is_many = batch.len() >= BATCH_LEN;
    let wants_newest = context.parameters.contains_key("newest_within_s");
    let look = |bucket| Lookup::new(bucket, is_many, wants_newest);
    let mut bucket = look(places.bucket.clone());
    let mut copy = places.copy.clone().map(look);
    let sample_len = limit(context, "sample").and_then(|len| usize::try_from(len).ok());
    let mut sample = Sample::new(&context.key, sample_len.unwrap_or(0));
    let mut seen = Seen::default();
    while !batch.is_empty() {
        let here = bucket.find(&batch).await?;
        let there = match &mut copy {
            Some(copy) => match copy.find(&batch).await {
                Ok(found) => Some(found),
                Err(failure) => {
                    seen.copy_failure = Some(failure);
                    None
                }
            },
            None => None,
        };
        copy = copy.filter(|_| there.is_some());
        let mut there = there.map(Vec::into_iter);
        for (name, here) in batch.iter().zip(here) {
            let other = there.as_mut().and_then(Iterator::next);
            seen.take(name, here.as_ref(), other.as_ref());
            if let (Some(here), Some(Some(other))) = (here, other) {
                sample.consider(here, other);
            }
        }
        batch = keys.next().await?;
    }
    let mut outputs = Parameters::new();
    presence(context, places, &seen, &mut outputs)?;
    ages(context, places, (&mut bucket, copy.as_mut()), &seen, &mut outputs).await?;
    equality(context, places, sample, &mut outputs).await?;
    Ok(outputs)
}

/// Whether what is missing is within what may be missing.
fn presence(
    context: &StepContext,
    places: &Places,
    seen: &Seen,
    outputs: &mut Parameters,
) -> Result<(), Failure> {
    let name = &places.name;
    let mut note = |what: &str, value: String| outputs.insert(format!("{what} {name}"), value);
    note("files", seen.keys.to_string());
    note("files_missing", seen.nowhere.count.to_string());
    if places.copy.is_some() {
        note("files_to_copy_back", seen.in_copy_only.count.to_string());
        note("files_not_in_copy", seen.not_in_copy.count.to_string());
        if seen.not_in_copy.count > 0 {
            note("files_not_in_copy_names", seen.not_in_copy.names());
        }
    }
    let missing_max = limit(context, "missing_max").unwrap_or(0);
    if let Some(failure) = &seen.copy_failure {
        note("files_copy", failure.message.clone());
        // Only when the copy is needed does it matter that it does not answer.
        if seen.nowhere.count > missing_max || is_strict(context) {
            return Err(failure.clone());
        }
    }
    if seen.nowhere.count > missing_max {
        let both = places.copy.as_ref().map(|copy| format!(" nor in {}", copy.address()));
        return Err(Failure::terminal(
            "RF1141",
            format!(
                "expected at most {missing_max} of {} files missing in {name}{}, seen {}: {}",
                seen.keys,
                both.unwrap_or_default(),
                seen.nowhere.count,
                seen.nowhere.names()
            ),
        )
        .hint("bring them back from where they are kept, then `rollforward run retry RUN`"));
    }
    match limit(context, "copy_missing_max") {
        Some(most) if seen.not_in_copy.count > most => Err(Failure::terminal(
            "RF1143",
            format!(
                "expected at most {most} files missing in the copy, seen {}: {}",
                seen.not_in_copy.count,
                seen.not_in_copy.names()
            ),
        )
        .hint("look at what replicates the bucket")),
        _ => Ok(()),
    }
}

/// A drill fails where an incident only notes.
fn is_strict(context: &StepContext) -> bool {
    context.parameters.get("strict").is_some_and(|strict| strict == "true")
}

/// How old the newest objects are, compared with the target.
async fn ages(
    context: &StepContext,
    places: &Places,
    (bucket, copy): (&mut Lookup, Option<&mut Lookup>),
    seen: &Seen,
    outputs: &mut Parameters,
) -> Result<(), Failure> {
    let Some(within) = context.parameters.get("newest_within_s") else { return Ok(()) };
    let within = SignedDuration::from_secs(within.parse().unwrap_or(0));
    let target = target_time(context);
    let newest = bucket.newest().await?;
    note_age(outputs, "newest_file", &places.name, newest);
    close_enough(&places.name, newest, target, within, seen)?;
    if let Some(copy) = copy {
        let newest = copy.newest().await?;
        note_age(outputs, "newest_file_in_copy", &places.name, newest);
        if is_strict(context) {
            close_enough("the copy", newest, target, within, seen)?;
        }
    }
    Ok(())
}

fn note_age(outputs: &mut Parameters, what: &str, name: &str, newest: Option<Timestamp>) {
    let text = newest.map_or_else(|| "none".into(), |newest| newest.to_string());
    outputs.insert(format!("{what} {name}"), text);
}

fn close_enough(
    place: &str,
    newest: Option<Timestamp>,
    target: Option<Timestamp>,
    within: SignedDuration,
    seen: &Seen,
) -> Result<(), Failure> {
    let Some(target) = target.filter(|_| seen.keys > 0) else { return Ok(()) };
    let is_close = newest.is_some_and(|newest| target.duration_since(newest) <= within);
    if is_close {
        return Ok(());
    }
    let newest = newest.map_or_else(|| "no object".to_owned(), |newest| newest.to_string());
    Err(Failure::terminal(
        "RF1143",
        format!(
            "expected an object in {place} that was written at most {} s before the target at \
             {target}, seen {newest} as the newest",
            within.as_secs()
        ),
    )
    .hint("was the bucket itself put back, or did its replication stop?"))
}

/// Whether a sample of files is the same in bucket and copy.
async fn equality(
    context: &StepContext,
    places: &Places,
    sample: Sample,
    outputs: &mut Parameters,
) -> Result<(), Failure> {
    let compared = sample.len();
    if compared == 0 {
        return Ok(());
    }
    let differing = match sample.differing(places).await {
        Err(failure) if !is_strict(context) => {
            outputs.insert(format!("files_compared {}", places.name), failure.message);
            return Ok(());
        }
        differing => differing?,
    };
    outputs.insert(format!("files_compared {}", places.name), compared.to_string());
    outputs.insert(format!("files_differing {}", places.name), differing.count.to_string());
    if differing.count == 0 {
        return Ok(());
    }
    outputs.insert(format!("files_differing_names {}", places.name), differing.names());
    match is_strict(context) {
        false => Ok(()),
        true => Err(Failure::terminal(
            "RF1143",
            format!(
                "expected {compared} files equal in {} and its copy, {} differ: {}",
                places.name,
                differing.count,
                differing.names()
            ),
        )
        .hint("which of the two is right? compare with the application")),
    }
}
