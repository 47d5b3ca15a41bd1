//! Writing units or a crontab: what would change is known first, and files of others stay.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::text::{CHECK_UNIT, MARK, UNIT_PREFIX};
use crate::failure::Error;

/// What a file holds now, and what it shall hold.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    before: Option<String>,
    after: Option<String>,
}

impl Change {
    fn of(path: PathBuf, after: Option<String>) -> anyhow::Result<Option<Self>> {
        let before = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("read '{}'", path.display())),
        };
        if before == after {
            return Ok(None);
        }
        if before.as_ref().is_some_and(|text| !text.starts_with(MARK)) {
            return Err(Error::Refused {
                what: format!("'{}' was not written by this program", path.display()),
                hint: "name another place, or move that file away".into(),
            }
            .into());
        }
        Ok(Some(Self { path, before, after }))
    }

    /// `create`, `change` or `remove`.
    pub(crate) fn verb(&self) -> &'static str {
        match (&self.before, &self.after) {
            (_, None) => "remove",
            (None, _) => "create",
            (Some(_), Some(_)) => "change",
        }
    }

    /// Lines that go and lines that come.
    pub(crate) fn diff(&self) -> String {
        let lines = |text: &Option<String>| -> Vec<String> {
            text.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
        };
        let (before, after) = (lines(&self.before), lines(&self.after));
        let mut text = format!("{} '{}'", self.verb(), self.path.display());
        // Both are short, and what stands in both in the same order is left out.
        let same = common(&before, &after);
        let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
        for line in same.iter().map(Some).chain([None]) {
            while let Some(gone) = old.next_if(|seen| Some(*seen) != line) {
                text.push_str(&format!("\n- {gone}"));
            }
            while let Some(come) = new.next_if(|seen| Some(*seen) != line) {
                text.push_str(&format!("\n+ {come}"));
            }
            old.next();
            new.next();
        }
        text
    }

    pub(crate) fn make(&self) -> anyhow::Result<()> {
        let done = match &self.after {
            Some(text) => stdx::durable::write_atomic(&self.path, text.as_bytes(), 0o644),
            None => stdx::durable::remove(&self.path),
        };
        done.with_context(|| format!("{} '{}'", self.verb(), self.path.display()))
    }
}

/// The longest common subsequence of lines.
fn common(before: &[String], after: &[String]) -> Vec<String> {
    let width = after.len() + 1;
    let mut lengths = vec![0_usize; (before.len() + 1) * width];
    let at = |row: usize, column: usize| row * width + column;
    let get = |lengths: &[usize], index: usize| lengths.get(index).copied().unwrap_or(0);
    for (row, old) in before.iter().enumerate().rev() {
        for (column, new) in after.iter().enumerate().rev() {
            let length = match old == new {
                true => get(&lengths, at(row + 1, column + 1)) + 1,
                false => {
                    let below = get(&lengths, at(row + 1, column));
                    below.max(get(&lengths, at(row, column + 1)))
                }
            };
            if let Some(cell) = lengths.get_mut(at(row, column)) {
                *cell = length;
            }
        }
    }
    let (mut row, mut column, mut lines) = (0, 0, Vec::new());
    while let (Some(old), Some(new)) = (before.get(row), after.get(column)) {
        if old == new {
            lines.push(old.clone());
            (row, column) = (row + 1, column + 1);
        } else if get(&lengths, at(row + 1, column)) >= get(&lengths, at(row, column + 1)) {
            row += 1;
        } else {
            column += 1;
        }
    }
    lines
}

/// What has to change so that a folder holds these units of ours and no others.
pub(crate) fn of_units(folder: &Path, units: &[(String, String)]) -> anyhow::Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (name, text) in units {
        changes.extend(Change::of(folder.join(name), Some(text.clone()))?);
    }
    let entries = std::fs::read_dir(folder);
    let entries = entries.with_context(|| format!("read '{}'", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("read '{}'", folder.display()))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_ours = name.starts_with(UNIT_PREFIX) || name.starts_with(CHECK_UNIT);
        let is_unit = name.ends_with(".service") || name.ends_with(".timer");
        let is_wanted = units.iter().any(|(wanted, _)| wanted == name);
        let has_mark = || std::fs::read_to_string(&path).is_ok_and(|text| text.starts_with(MARK));
        if is_ours && is_unit && !is_wanted && has_mark() {
            changes.extend(Change::of(path, None)?);
        }
    }
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}

/// What has to change so that a crontab says this; `None`: it goes.
pub(crate) fn of_crontab(path: &Path, text: Option<String>) -> anyhow::Result<Vec<Change>> {
    Ok(Change::of(path.to_path_buf(), text)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: &str, after: &str) -> Change {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Change { path: "/x".into(), before: some(before), after: some(after) }
    }

    #[test]
    fn a_change_shows_the_lines_that_go_and_come() {
        assert_eq!(change("", "a\nb").diff(), "create '/x'\n+ a\n+ b");
        assert_eq!(change("a\nb\nc", "a\nx\nc\nd").diff(), "change '/x'\n- b\n+ x\n+ d");
        assert_eq!(change("a", "").diff(), "remove '/x'\n- a");
    }

    #[test]
    fn files_of_others_are_never_touched() {
        let folder =
            std::env::temp_dir().join(format!("rollforward-install-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let name = format!("{UNIT_PREFIX}a.timer");
        std::fs::write(folder.join(&name), "mine").unwrap();
        let wanted = [(name.clone(), format!("{MARK}\nx"))];
        assert!(of_units(&folder, &wanted).unwrap_err().to_string().contains("not written by"));
        assert!(of_units(&folder, &[]).unwrap().is_empty(), "nor removed");
        std::fs::write(folder.join(&name), format!("{MARK}\nold")).unwrap();
        assert_eq!(of_units(&folder, &wanted).unwrap()[0].verb(), "change");
        let gone = of_units(&folder, &[]).unwrap();
        assert_eq!(gone[0].verb(), "remove");
        gone[0].make().unwrap();
        assert!(of_units(&folder, &[]).unwrap().is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
