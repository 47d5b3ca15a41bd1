//! Which entries of a dump are restored: lists for `pg_restore --use-list`.

use std::process::Stdio;

use repository::tree::Entry;

use super::Run;
use super::list::{self, LeftOut, Relation, Stuck};
use super::memory_file::MemoryFile;
use crate::dump::child::{self, Program};
use crate::dump::error::DumpError;
use crate::dump::read;

/// Names of things in the way that an error shows.
const NAMES_SHOWN_MAX: usize = 5;

/// What is left out, and the list of what stays of the schema.
#[derive(Debug, Default)]
pub(super) struct Choice {
    left: LeftOut,
    list: Option<MemoryFile>,
}

impl Choice {
    /// Whether anything is left out.
    pub(super) const fn is_one(&self) -> bool {
        self.list.is_some()
    }

    pub(super) fn leaves_out(&self, schema: &str, table: &str) -> bool {
        self.left.relations.contains(&Relation { schema: schema.into(), name: table.into() })
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.left.notes.clone()
    }

    /// Restricts a program that reads the schema.
    pub(super) fn of_schema(&self, program: Program) -> Program {
        match &self.list {
            Some(list) => program.arg("--use-list").arg(list.path()),
            None => program,
        }
    }
}

impl Run<'_> {
    /// What is to be left out of the schema; refused when others need it.
    pub(super) async fn choice(&self, schema: &MemoryFile) -> Result<Choice, DumpError> {
        let patterns = &self.options.without;
        if patterns.is_empty() {
            return Ok(Choice::default());
        }
        let program = self.lister("the list of its schema").arg("--verbose").arg(schema.path());
        let text = self.listed(&program, None).await?;
        let items = list::items(&text);
        let lacks = |lacks: String, hint: &str| DumpError::Lacks {
            label: self.root.summary.label.to_string(),
            lacks,
            hint: hint.to_owned(),
        };
        let left = list::leave_out(&items, patterns, &self.database.owners);
        let left = left.map_err(|stuck| match stuck {
            Stuck::NoTable(pattern) => lacks(
                format!("has no table that fits '{pattern}'"),
                "--exclude-table NAME or SCHEMA.NAME, as the database spells it; * and ? are wildcards",
            ),
            Stuck::Unclear(names) => lacks(
                format!("has a table whose names cannot be told apart: '{names}'"),
                "restore all of it, and DROP the table",
            ),
            Stuck::Needed(all) => {
                let shown = all.get(..NAMES_SHOWN_MAX).unwrap_or(&all).join("; ");
                lacks(
                    format!("has {} things that need what is left out: {shown}", all.len()),
                    "leave them out, too: --exclude-table takes views and sequences as well; or \
                     restore the table empty: --exclude-table-data",
                )
            }
        })?;
        let kept = MemoryFile::of(left.list(&items).as_bytes());
        let list = Some(kept.map_err(|error| program.failed(error.to_string()))?);
        Ok(Choice { left, list })
    }

    fn lister(&self, what: &str) -> Program {
        let mut program = self.pg_restore(what).arg("--list");
        program.arguments.retain(|argument| !argument.to_string_lossy().starts_with("--dbname"));
        program
    }

    /// What `pg_restore --list` says.
    async fn listed(&self, program: &Program, entry: Option<&Entry>) -> Result<String, DumpError> {
        let stdin = if entry.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = program.spawn(stdin, Stdio::piped())?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            match (entry, stdin) {
                (Some(entry), Some(stdin)) => {
                    read::feed(self.repository, entry, stdin, &crate::Silent).await
                }
                _ => Ok(()),
            }
        };
        let (fed, list, said) =
            tokio::join!(feed, child::messages(stdout), child::messages(stderr));
        fed?;
        let status = child.wait().await.map_err(|error| program.failed(error.to_string()))?;
        match status.success() && !list.is_cut {
            true => Ok(list.text),
            false => Err(program.failed(format!("{status}: {}", child::last_lines(&said)))),
        }
    }

    /// The list of a stream without the data of tables that stay empty or are left out.
    pub(super) async fn list_without(
        &self,
        entry: &Entry,
        choice: &Choice,
    ) -> Result<MemoryFile, DumpError> {
        let program = self.lister("the list of its data");
        let text = self.listed(&program, Some(entry)).await?;
        let empty = self.options.without_data_of.iter().filter_map(|it| it.split_once('.'));
        let left = choice.left.relations.iter().map(|it| (it.schema.as_str(), it.name.as_str()));
        let without: Vec<String> = empty
            .map(|(schema, table)| format!(" TABLE DATA {schema} {table} "))
            .chain(left.flat_map(|(schema, name)| {
                ["TABLE DATA", "SEQUENCE SET"].map(|kind| format!(" {kind} {schema} {name} "))
            }))
            .collect();
        let stays = |line: &&str| !without.iter().any(|part| line.contains(part));
        let kept: String = text.lines().filter(stays).flat_map(|line| [line, "\n"]).collect();
        MemoryFile::of(kept.as_bytes()).map_err(|error| program.failed(error.to_string()))
    }
}
