//! Files that rows point to: they are looked for where they should be, and copied back from another
//! site's bucket where they are missing.

use super::build::step;
use crate::plan::{Class, Parameters, Stage, Step, StepKind, UndoWhen};
use crate::service::Files;

/// Looking for files of a small database, in seconds.
const CHECK_S: u64 = 30;

/// Copying back: most often little is missing.
const COPY_S: u64 = 60;

/// A bucket of a million objects is listed within this, in seconds, also a slow one.
const CHECK_ATTEMPT_S: u64 = 900;

/// An attempt to copy. What it copied stays, so the next one goes on.
const COPY_ATTEMPT_S: u64 = 1800;

/// What a plan may do with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Looks, and copies back what is missing.
    Restore,
    /// The same in buckets of a drill's own, where a copy that lacks something fails the drill.
    RestoreInDrill,
    /// Looks only: the buckets are production's.
    Look,
}

/// The steps for files, behind the proof of the restored database that `database` describes: its
/// connection, the target and the damage, as far as they are known.
pub(super) fn files(files: &[Files], database: &Parameters, allowed: Allowed) -> Vec<Step> {
    let mut steps = Vec::new();
    for (at, each) in files.iter().enumerate() {
        let place = shown(&each.bucket);
        let earlier = files.iter().take(at).filter(|other| shown(&other.bucket) == place).count();
        let object = match earlier {
            0 => place.to_owned(),
            more => format!("{place}-{}", more + 1),
        };
        let parameters = parameters(each, database, allowed);
        steps.push(
            step(Stage::Prove, "files", &object, StepKind::CheckFiles)
                .effect(format!("the files that rows point to are in {place}{}", checks(each)))
                .with_all(parameters.clone())
                .predicted(CHECK_S)
                .patient(CHECK_ATTEMPT_S)
                .done(),
        );
        let copy = each.copy.as_ref().filter(|_| allowed != Allowed::Look);
        steps.extend(copy.map(|copy| {
            let from = shown(copy);
            step(Stage::Prove, "copy-files", &object, StepKind::RestoreFiles)
                .effect(format!("files that are missing in {place} are copied from {from}"))
                .undo(
                    Class::Own,
                    UndoWhen::Never,
                    "none is needed: files are only added, where nothing had that name",
                )
                .with_all(parameters)
                .predicted(COPY_S)
                .patient(COPY_ATTEMPT_S)
                .done()
        }));
    }
    steps
}

fn checks(files: &Files) -> String {
    let mut text = String::new();
    if let Some(copy) = &files.copy {
        text.push_str(&format!(", or at least in {}", shown(copy)));
    }
    if let Some(within) = files.newest_within {
        let within = crate::plan::duration_text(within.as_secs());
        text.push_str(&format!(", the newest at most {within} before the target"));
    }
    if files.sample > 0 && files.copy.is_some() {
        text.push_str(&format!(", {} of them equal in both", files.sample));
    }
    text
}

fn parameters(files: &Files, database: &Parameters, allowed: Allowed) -> Parameters {
    let mut parameters = database.clone();
    parameters.insert("bucket".into(), files.bucket.clone());
    parameters.insert("keys_sql".into(), files.keys_sql.clone());
    parameters.insert("missing_max".into(), files.missing_max.to_string());
    let optional = [
        ("copy", files.copy.clone()),
        ("newest_within_s", files.newest_within.map(|within| within.as_secs().to_string())),
        ("sample", (files.sample > 0).then(|| files.sample.to_string())),
        // In an incident a file that is where it should be is enough.
        ("strict", (allowed != Allowed::Restore).then(|| "true".to_owned())),
        (
            "copy_missing_max",
            files.copy_missing_max.filter(|_| allowed != Allowed::Restore).map(|n| n.to_string()),
        ),
    ];
    for (name, value) in optional {
        parameters.extend(value.map(|value| (name.to_owned(), value)));
    }
    for (prefix, credentials) in
        [("credential", &files.credentials), ("copy_credential", &files.copy_credentials)]
    {
        for (name, reference) in credentials {
            parameters.insert(format!("{prefix}.{name}"), reference.clone());
        }
    }
    parameters
}

/// An address without its options.
pub(super) fn shown(bucket: &str) -> &str {
    bucket.split_once('?').map_or(bucket, |(place, _)| place).trim_end_matches('/')
}

/// Whether two addresses share names: what is written into one appears in the other. Endpoints are
/// not looked at: the same names at two endpoints are too easily one bucket.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let path = |bucket| {
        let place: &str = shown(bucket);
        format!("{}/", place.strip_prefix("file://").unwrap_or(place))
    };
    let (one, other) = (path(one), path(other));
    one.starts_with(&other) || other.starts_with(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odoo(copy: Option<&str>) -> Files {
        Files {
            bucket: "s3://files/odoo?endpoint=http://minio".into(),
            keys_sql: "SELECT store_fname FROM ir_attachment".into(),
            copy: copy.map(str::to_owned),
            sample: 200,
            copy_missing_max: Some(3),
            credentials: [("access_key_id".to_owned(), "env:KEY".to_owned())].into(),
            ..Files::default()
        }
    }

    fn kinds(steps: &[Step]) -> Vec<(&str, StepKind)> {
        steps.iter().map(|step| (step.id.as_str(), step.kind)).collect()
    }

    #[test]
    fn what_is_missing_is_copied_only_where_it_may() {
        let both = [odoo(Some("/srv/copy")), odoo(None)];
        let database = Parameters::from([("cluster".into(), "odoo".into())]);
        let steps = files(&both, &database, Allowed::Restore);
        assert_eq!(
            kinds(&steps),
            [
                ("prove.files.s3-//files/odoo", StepKind::CheckFiles),
                ("prove.copy-files.s3-//files/odoo", StepKind::RestoreFiles),
                ("prove.files.s3-//files/odoo-2", StepKind::CheckFiles),
            ]
        );
        assert_eq!(steps[1].parameters["copy"], "/srv/copy");
        assert_eq!(steps[1].parameters["cluster"], "odoo");
        assert_eq!(steps[1].parameters["credential.access_key_id"], "env:KEY");
        assert_eq!(steps[1].undo_when, UndoWhen::Never);
        assert!(!steps[0].parameters.contains_key("copy_missing_max"));
        let looking = files(&both, &database, Allowed::Look);
        assert!(looking.iter().all(|step| step.kind == StepKind::CheckFiles));
        assert_eq!(looking[0].parameters["copy_missing_max"], "3");
        assert_eq!(files(&both, &database, Allowed::RestoreInDrill).len(), 3);
    }

    #[test]
    fn buckets_overlap_when_one_is_in_the_other() {
        for (one, other, expect) in [
            ("s3://a", "s3://a/b?region=x", true),
            ("s3://a/b/", "s3://a", true),
            ("s3://a", "s3://ab", false),
            ("/srv/files", "file:///srv/files/x", true),
            ("/srv/files", "/srv/files-drill", false),
        ] {
            assert_eq!(overlap(one, other), expect, "{one} {other}");
        }
    }
}
