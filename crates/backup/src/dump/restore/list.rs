//! What `pg_restore --list --verbose` says of a schema, and what goes when a table is left out.
//! Pure.

use std::collections::BTreeSet;

/// What a line of the list calls things of several words; everything else is one word.
const KINDS: [&str; 18] = [
    "MATERIALIZED VIEW DATA",
    "MATERIALIZED VIEW",
    "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE",
    "TABLE DATA",
    "TABLE ATTACH",
    "INDEX ATTACH",
    "FK CONSTRAINT",
    "CHECK CONSTRAINT",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "ROW SECURITY",
    "DEFAULT ACL",
    "PUBLICATION TABLES IN SCHEMA",
    "PUBLICATION TABLE",
    "EVENT TRIGGER",
    "SECURITY LABEL",
    "LARGE OBJECT",
];

/// What a pattern names.
const RELATIONS: [&str; 5] = ["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE"];

/// What belongs to the thing it depends on.
const BELONGS: [&str; 14] = [
    "TABLE DATA",
    "MATERIALIZED VIEW DATA",
    "INDEX",
    "INDEX ATTACH",
    "CHECK CONSTRAINT",
    "ROW SECURITY",
    "STATISTICS",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "COMMENT",
    "ACL",
    "SECURITY LABEL",
    "PUBLICATION TABLE",
];

/// What belongs to the table that leads its name, and may depend on others.
const BELONGS_BY_NAME: [&str; 5] = ["CONSTRAINT", "DEFAULT", "TRIGGER", "RULE", "POLICY"];

/// What ties another table to the one that is left out; it goes, and is told.
const TIES: [&str; 2] = ["FK CONSTRAINT", "TABLE ATTACH"];

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item<'l> {
    id: u32,
    kind: &'l str,
    /// Schema, name and owner, with blanks between and in them.
    rest: &'l str,
    line: &'l str,
    needs: Vec<u32>,
}

/// The entries of a list.
pub(super) fn items(list: &str) -> Vec<Item<'_>> {
    let mut items: Vec<Item<'_>> = Vec::new();
    for line in list.lines() {
        if let Some(needs) = line.strip_prefix(";\tdepends on:") {
            if let Some(last) = items.last_mut() {
                last.needs = needs.split_whitespace().filter_map(|id| id.parse().ok()).collect();
            }
            continue;
        }
        items.extend(item(line));
    }
    items
}

fn item(line: &str) -> Option<Item<'_>> {
    let (id, about) = line.split_once("; ")?;
    let id = id.parse().ok()?;
    // Two oids.
    let about = about.splitn(3, ' ').nth(2)?;
    let is_kind = |kind: &&&str| about.strip_prefix(**kind).is_some_and(|it| it.starts_with(' '));
    let len = KINDS.iter().find(is_kind).map(|kind| kind.len()).or_else(|| about.find(' '))?;
    let (kind, rest) = about.split_at_checked(len)?;
    Some(Item { id, kind, rest: rest.strip_prefix(' ')?, line, needs: Vec::new() })
}

/// A relation by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Relation {
    pub(super) schema: String,
    pub(super) name: String,
}

/// What is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Tables, and sequences that belong to them.
    pub(super) relations: BTreeSet<Relation>,
    /// What other tables lose.
    pub(super) notes: Vec<String>,
    ids: BTreeSet<u32>,
}

/// Why a table cannot be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stuck {
    /// Nothing has such a name.
    NoTable(String),
    /// Names with blanks that cannot be told apart.
    Unclear(String),
    /// Others need it.
    Needed(Vec<String>),
}

/// What goes together with everything that fits one of the patterns. `owners` are the roles that
/// own something in the dump.
pub(super) fn leave_out(
    items: &[Item<'_>],
    patterns: &[String],
    owners: &[String],
) -> Result<LeftOut, Stuck> {
    let schemas = schemas(items, owners);
    let (mut left, mut all) = (LeftOut::default(), Vec::new());
    let mut unused: BTreeSet<&String> = patterns.iter().collect();
    for item in items.iter().filter(|item| RELATIONS.contains(&item.kind)) {
        let found = relation(item, &schemas, owners);
        let relation = found.ok_or_else(|| Stuck::Unclear(item.rest.to_owned()))?;
        if patterns.iter().any(|pattern| fits(pattern, &relation)) {
            unused.retain(|pattern| !fits(pattern, &relation));
            left.ids.insert(item.id);
            left.relations.insert(relation.clone());
        }
        all.push(relation);
    }
    if let Some(pattern) = unused.first() {
        return Err(Stuck::NoTable((*pattern).clone()));
    }
    // What depends on what goes, goes or is in the way, until nothing more does.
    let mut needed = Vec::new();
    while let Some(item) = items.iter().find(|item| {
        !left.ids.contains(&item.id) && item.needs.iter().any(|id| left.ids.contains(id))
    }) {
        left.ids.insert(item.id);
        // Of two tables, one of whose names begins the other's, the longer one is meant.
        let leads = |it: &&Relation| item.rest.starts_with(&format!("{} {} ", it.schema, it.name));
        let table = all.iter().filter(leads).max_by_key(|it| it.schema.len() + it.name.len());
        let is_own = table.is_some_and(|table| left.relations.contains(table));
        match item.kind {
            "SEQUENCE" => {
                let found = relation(item, &schemas, owners);
                left.relations.extend(found);
            }
            kind if BELONGS.contains(&kind) => {}
            kind if BELONGS_BY_NAME.contains(&kind) && is_own => {}
            kind if TIES.contains(&kind) => {
                if !is_own {
                    left.notes.push(format!("left out, for what it refers to: {}", shown(item)));
                }
            }
            _ => needed.push(shown(item)),
        }
    }
    match needed.is_empty() {
        true => Ok(left),
        false => Err(Stuck::Needed(needed)),
    }
}

impl LeftOut {
    /// The list of what stays.
    pub(super) fn list(&self, items: &[Item<'_>]) -> String {
        let stays = items.iter().filter(|item| !self.ids.contains(&item.id));
        stays.map(|item| format!("{}\n", item.line)).collect()
    }
}

fn shown(item: &Item<'_>) -> String {
    format!("{} {}", item.kind.to_lowercase(), item.rest)
}

/// Names of schemas, the longest first.
fn schemas(items: &[Item<'_>], owners: &[String]) -> Vec<String> {
    let of = |item: &Item<'_>| {
        let name = item.rest.strip_prefix("- ")?;
        let ends = |owner: &&String| name.ends_with(&format!(" {owner}"));
        let owner = owners.iter().filter(ends).map(String::len).max();
        let len = owner.map(|len| len + 1).or_else(|| name.rfind(' ').map(|at| name.len() - at))?;
        name.get(..name.len() - len).map(str::to_owned)
    };
    let mut found: Vec<String> =
        items.iter().filter(|item| item.kind == "SCHEMA").filter_map(of).collect();
    found.push("public".into());
    found.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    found.dedup();
    found
}

/// Schema and name of a relation; `None` when blanks in names leave it open.
fn relation(item: &Item<'_>, schemas: &[String], owners: &[String]) -> Option<Relation> {
    let words: Vec<&str> = item.rest.split(' ').collect();
    if let [schema, name, _owner] = words[..] {
        return Some(Relation { schema: schema.into(), name: name.into() });
    }
    let ends = |owner: &&String| item.rest.ends_with(&format!(" {owner}"));
    let owner = owners.iter().filter(ends).max_by_key(|owner| owner.len())?;
    let names = item.rest.strip_suffix(owner.as_str())?.strip_suffix(' ')?;
    let begins = |schema: &&String| names.starts_with(&format!("{schema} "));
    let mut fitting = schemas.iter().filter(begins);
    match (fitting.next(), fitting.next()) {
        (Some(schema), None) => {
            let name = names.strip_prefix(schema.as_str())?.strip_prefix(' ')?;
            Some(Relation { schema: schema.clone(), name: name.into() })
        }
        _ => None,
    }
}

/// Whether a pattern fits: `*` stands for any characters, `?` for one. One with a point is about
/// schema and name, one without about the name in any schema.
fn fits(pattern: &str, relation: &Relation) -> bool {
    let Relation { schema, name } = relation;
    match pattern.contains('.') {
        true => like(pattern, &format!("{schema}.{name}")) || like(pattern, name),
        false => like(pattern, name),
    }
}

fn like(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    match pattern.next() {
        None => text.next().is_none(),
        Some('*') => {
            let rest = pattern.as_str();
            let mut ends = text.as_str().char_indices().map(|(at, _)| at);
            let whole = text.as_str();
            ends.any(|at| like(rest, whole.get(at..).unwrap_or_default())) || like(rest, "")
        }
        Some('?') => text.next().is_some() && like(pattern.as_str(), text.as_str()),
        Some(c) => text.next() == Some(c) && like(pattern.as_str(), text.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = ";\n; Archive created at 2026-11-26\n;\n\
        5; 2615 2199 SCHEMA - public postgres\n\
        6; 2615 2200 SCHEMA - Odd schema app\n\
        218; 1259 16390 TABLE public customer postgres\n;\tdepends on: 6\n\
        217; 1259 16389 SEQUENCE public customer_id_seq postgres\n;\tdepends on: 218\n\
        3400; 0 0 SEQUENCE OWNED BY public customer_id_seq postgres\n;\tdepends on: 217\n\
        3401; 0 0 DEFAULT public customer id postgres\n;\tdepends on: 217 218 218\n\
        220; 1259 16400 TABLE Odd schema big one app\n;\tdepends on: 6\n\
        222; 1259 16401 TABLE public log by day app\n;\tdepends on: 5\n\
        3500; 2606 16410 CONSTRAINT public customer customer_pkey postgres\n;\tdepends on: 218\n\
        3504; 2606 16420 FK CONSTRAINT public customer of old fkey app\n;\tdepends on: 223 218 3500\n\
        223; 1259 16402 TABLE public customer of old app\n;\tdepends on: 5\n\
        3501; 2606 16411 FK CONSTRAINT Odd schema big one fkey app\n;\tdepends on: 218 220 3500\n\
        3502; 3256 16412 POLICY public customer own postgres\n;\tdepends on: 218\n\
        3503; 0 0 ACL public TABLE customer postgres\n;\tdepends on: 218\n\
        221; 1259 16500 VIEW public names postgres\n;\tdepends on: 220\n";

    #[track_caller]
    fn check(patterns: &[&str], expect: &str) {
        let items = items(LIST);
        let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
        let owners = ["app".to_owned(), "postgres".into()];
        let seen = match leave_out(&items, &patterns, &owners) {
            Err(stuck) => format!("{stuck:?}"),
            Ok(left) => {
                let list = left.list(&items);
                let stays: Vec<&str> = list.lines().filter_map(|it| it.split(';').next()).collect();
                format!("{} | {}", stays.join(" "), left.notes.join("; "))
            }
        };
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_table_goes_with_what_is_its_own_and_what_refers_to_it_is_told() {
        let begin = "left out, for what it refers to: fk constraint";
        let note =
            format!("{begin} public customer of old fkey app; {begin} Odd schema big one fkey app");
        check(&["customer"], &format!("5 6 220 222 223 221 | {note}"));
        check(&["public.*er"], &format!("5 6 220 222 223 221 | {note}"));
        check(&["cust*", "Odd schema.*", "n?mes", "log by *"], "5 6 | ");
    }

    #[test]
    fn what_others_need_or_nobody_knows_is_refused() {
        check(&["Odd schema.big one"], "Needed([\"view public names postgres\"])");
        check(&["customer", "custmer"], "NoTable(\"custmer\")");
        check(&["other.customer"], "NoTable(\"other.customer\")");
    }
}
