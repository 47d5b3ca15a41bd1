//! What `pg_restore` and `psql` say, sorted: remarks, and errors that end a restore.

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What was said, its statement with it, on one line.
    pub text: String,
    /// Whether nothing of the dump is missing for it.
    pub is_harmless: bool,
}

/// The most characters of a message that are shown: a statement may be a megabyte.
const TEXT_LEN_MAX: usize = 600;

/// Settings that a later `pg_restore` sets and an earlier server does not know. They bound how long
/// the restore's own session may wait, and nothing else.
const SESSION_SETTINGS: [&str; 3] =
    ["transaction_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"];

/// Sorts everything that `program` wrote to standard error with messages in English. With
/// several sessions (`--jobs`) its own count means little: it is one of parts, not of errors.
#[must_use]
pub fn sort(program: &str, text: &str, has_jobs: bool) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut entry = String::new();
    let mut ignored = None;
    for block in blocks(program, text) {
        let first = block.lines().next().unwrap_or_default();
        if first.starts_with("while ") {
            continue;
        }
        if let Some(toc) = first.strip_prefix("from TOC entry ") {
            toc.clone_into(&mut entry);
            continue;
        }
        if let Some(count) = first.strip_prefix("warning: errors ignored on restore: ") {
            ignored = count.trim().parse::<usize>().ok();
            continue;
        }
        let is_harmless = match first.strip_prefix("error: ") {
            Some(_) => is_known(&block),
            None => !is_error_of_psql(first),
        };
        let about = std::mem::take(&mut entry);
        let about = if about.is_empty() { about } else { format!(" ({about})") };
        messages.push(Message { text: one_line(&block) + &about, is_harmless });
    }
    // Its own count must agree with ours: a message that was not understood is not passed over.
    let errors = messages.iter().filter(|message| message.text.starts_with("error: ")).count();
    let is_odd = |count: &usize| if has_jobs { errors == 0 } else { *count != errors };
    if let Some(count) = ignored.filter(is_odd) {
        let text = format!("{program} counts {count} errors, its messages have {errors}");
        messages.push(Message { text, is_harmless: false });
    }
    messages
}

/// The messages: each begins with the program's name and goes on until the next one.
fn blocks(program: &str, text: &str) -> Vec<String> {
    let prefix = format!("{program}: ");
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix(&prefix), blocks.last_mut()) {
            (Some(rest), _) => blocks.push(rest.to_owned()),
            (None, _) if line.trim().is_empty() => {}
            // psql names the input: "psql:<stdin>:12: ERROR:  …"
            (None, _) if line.starts_with(&format!("{program}:")) => blocks.push(line.to_owned()),
            (None, Some(last)) => {
                last.push('\n');
                last.push_str(line);
            }
            (None, None) => blocks.push(line.to_owned()),
        }
    }
    blocks
}

fn is_error_of_psql(first: &str) -> bool {
    ["ERROR: ", "FATAL: ", "PANIC: "].iter().any(|level| first.contains(level))
}

/// Errors behind which nothing of the dump is missing.
fn is_known(block: &str) -> bool {
    let first = block.lines().next().unwrap_or_default();
    let statement = block.split_once("\nCommand was: ").map_or("", |(_, statement)| statement);
    let is_setting = SESSION_SETTINGS.iter().any(|name| {
        first.ends_with(&format!("unrecognized configuration parameter \"{name}\""))
            && statement.trim() == format!("SET {name} = 0;")
    });
    let is_public = first.ends_with("schema \"public\" already exists")
        && statement.trim() == "CREATE SCHEMA public;";
    let is_comment = first.contains("must be owner of extension ")
        && statement.starts_with("COMMENT ON EXTENSION ");
    is_setting || is_public || is_comment
}

fn one_line(block: &str) -> String {
    let joined = block.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    match joined.char_indices().nth(TEXT_LEN_MAX) {
        Some((at, _)) => format!("{}…", joined.get(..at).unwrap_or_default()),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::sort;

    fn check(text: &str, expect: &[(&str, bool)]) {
        let seen = sort("pg_restore", text, false);
        let seen: Vec<_> = seen.iter().map(|one| (one.text.as_str(), one.is_harmless)).collect();
        assert_eq!(seen, expect);
    }

    #[test]
    fn what_a_dump_does_not_need_is_a_remark_and_everything_else_an_error() {
        check("", &[]);
        check(
            "pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter \
             \"transaction_timeout\"\nCommand was: SET transaction_timeout = 0;\n\
             pg_restore: warning: errors ignored on restore: 1\n",
            &[(
                "error: could not execute query: ERROR:  unrecognized configuration parameter \
                 \"transaction_timeout\" Command was: SET transaction_timeout = 0;",
                true,
            )],
        );
        check(
            "pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 218; 1259 16418 TABLE big x\n\
             pg_restore: error: could not execute query: ERROR:  role \"app\" does not exist\n\
             Command was: ALTER TABLE public.big\n    OWNER TO app;\n\n\n\
             pg_restore: warning: errors ignored on restore: 1\n",
            &[(
                "error: could not execute query: ERROR:  role \"app\" does not exist Command was: ALTER \
                 TABLE public.big OWNER TO app; (218; 1259 16418 TABLE big x)",
                false,
            )],
        );
        check("pg_restore: NOTICE:  made it up\n", &[("NOTICE:  made it up", true)]);
    }

    #[test]
    fn an_error_that_was_not_seen_is_still_counted() {
        check(
            "pg_restore: warning: errors ignored on restore: 2\n",
            &[("pg_restore counts 2 errors, its messages have 0", false)],
        );
    }

    #[test]
    fn a_known_error_of_another_statement_is_none() {
        check(
            "pg_restore: error: could not execute query: ERROR:  must be owner of extension x\n\
             Command was: DROP EXTENSION x;\n",
            &[(
                "error: could not execute query: ERROR:  must be owner of extension x Command was: DROP \
                 EXTENSION x;",
                false,
            )],
        );
    }

    #[test]
    fn the_errors_of_psql_are_errors() {
        let seen = sort(
            "psql",
            "psql:<stdin>:3: NOTICE:  a\npsql:<stdin>:4: ERROR:  b\nLINE 1: c\n",
            false,
        );
        let seen: Vec<_> = seen.iter().map(|one| (one.text.as_str(), one.is_harmless)).collect();
        assert_eq!(
            seen,
            [("psql:<stdin>:3: NOTICE:  a", true), ("psql:<stdin>:4: ERROR:  b LINE 1: c", false)]
        );
    }
}
