//! Tables of files that rows point to.

use std::collections::BTreeMap;

use recovery::service::Files;

use super::super::wire;
use super::{Problem, reference, span, wrong};

/// Files that are compared when nothing else is said.
const SAMPLE_DEFAULT: u32 = 200;

pub(in crate::config) fn files(
    key: &str,
    tables: &[wire::FilesTable],
) -> Result<Vec<Files>, Problem> {
    let numbered = tables.iter().enumerate();
    numbered.map(|(at, table)| one(&format!("{key}[{at}]"), table)).collect()
}

fn one(key: &str, table: &wire::FilesTable) -> Result<Files, Problem> {
    if let Err(why) = providers::one_query(&table.keys_sql) {
        return wrong(&format!("{key}.keys_sql"), why);
    }
    let needs_copy = [
        ("copy_missing_max", table.copy_missing_max.is_some()),
        ("sample", table.sample.is_some_and(|sample| sample > 0)),
    ];
    if let (None, Some((name, _))) = (&table.copy, needs_copy.iter().find(|(_, given)| *given)) {
        return wrong(&format!("{key}.{name}"), "expected 'copy' beside it: what to compare with");
    }
    if table.copy.as_ref() == Some(&table.bucket) {
        return wrong(&format!("{key}.copy"), "expected another bucket than 'bucket'");
    }
    let within = table.newest_within.as_deref();
    let sample = table.sample.unwrap_or(if table.copy.is_some() { SAMPLE_DEFAULT } else { 0 });
    Ok(Files {
        bucket: table.bucket.clone(),
        keys_sql: table.keys_sql.clone(),
        copy: table.copy.clone(),
        missing_max: table.missing_max.unwrap_or(0),
        copy_missing_max: table.copy_missing_max,
        newest_within: within.map(|it| span(&format!("{key}.newest_within"), it)).transpose()?,
        sample,
        credentials: credentials(&format!("{key}.credentials"), &table.credentials)?,
        copy_credentials: credentials(&format!("{key}.copy_credentials"), &table.copy_credentials)?,
    })
}

fn credentials(
    key: &str,
    table: &wire::CredentialsTable,
) -> Result<BTreeMap<String, String>, Problem> {
    let named = [
        ("access_key_id", &table.access_key_id),
        ("secret_access_key", &table.secret_access_key),
        ("session_token", &table.session_token),
    ];
    let given = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    given
        .map(|(name, text)| Ok((name.into(), reference(&format!("{key}.{name}"), text)?)))
        .collect()
}
