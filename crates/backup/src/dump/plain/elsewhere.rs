//! Lines of SQL that lead `psql` out of the database it was sent to: what `pg_dump -C` and
//! `pg_dumpall` write.

/// Bytes of a line's beginning that are looked at.
const HEAD_LEN: usize = 64;

/// Bytes of a line's end that are looked at, with what ends it.
const TAIL_LEN: usize = 16;

/// Statements about whole databases, outside of the rows of a `COPY`.
const STATEMENTS: [&str; 2] = ["DROP DATABASE", "CREATE DATABASE"];

/// Looks at lines as they come, in pieces of any length.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    head: Vec<u8>,
    tail: Vec<u8>,
    is_in_copy: bool,
}

impl Elsewhere {
    /// Reads on. `Some` is the beginning of a line that leads elsewhere; it is seen before the
    /// piece that completes it is handed on.
    pub(super) fn seen_in(&mut self, piece: &[u8]) -> Option<String> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = HEAD_LEN.saturating_sub(self.head.len()).min(part.len());
            self.head.extend_from_slice(part.get(..room).unwrap_or_default());
            let from = part.len().saturating_sub(TAIL_LEN);
            self.tail.extend_from_slice(part.get(from..).unwrap_or_default());
            let surplus = self.tail.len().saturating_sub(TAIL_LEN);
            self.tail.drain(..surplus);
            if self.leads_elsewhere() {
                let line = String::from_utf8_lossy(&self.head);
                return Some(line.lines().next().unwrap_or_default().trim().to_owned());
            }
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
        None
    }

    fn leads_elsewhere(&self) -> bool {
        let line = self.head.trim_ascii_start();
        // No row of a COPY begins like this: it would have two backslashes.
        if let Some(rest) = line.strip_prefix(br"\c") {
            return rest.starts_with(b"onnect")
                || rest.first().is_some_and(u8::is_ascii_whitespace);
        }
        let begins = |word: &&str| {
            line.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
        };
        !self.is_in_copy && STATEMENTS.iter().any(begins)
    }

    fn end_line(&mut self) {
        if self.is_in_copy {
            self.is_in_copy = self.head.trim_ascii_end() != br"\.";
        } else {
            let is_copy = self.head.starts_with(b"COPY ");
            self.is_in_copy = is_copy && self.tail.trim_ascii_end().ends_with(b" FROM stdin;");
        }
        self.head.clear();
        self.tail.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::Elsewhere;

    #[track_caller]
    fn check(sql: &str, expect: Option<&str>) {
        for len in [1, 2, 3, 7, 1 << 20] {
            let mut elsewhere = Elsewhere::default();
            let seen = sql.as_bytes().chunks(len).find_map(|piece| elsewhere.seen_in(piece));
            let is_as_expected = match (&seen, expect) {
                (Some(seen), Some(expect)) => expect.starts_with(seen.as_str()),
                (seen, expect) => seen.is_none() && expect.is_none(),
            };
            assert!(is_as_expected, "{sql:?} in pieces of {len}: {seen:?}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_seen_wherever_the_pieces_end() {
        check("SET a = 1;\n\\connect shop\n", Some("\\connect shop"));
        check(
            "\\connect -reuse-previous=on \"dbname='a b'\"\n",
            Some("\\connect -reuse-previous=on \"dbname='a b'\""),
        );
        check("--\n\\c shop\n", Some("\\c shop"));
        check("\\c", None);
        check("DROP DATABASE IF EXISTS shop;\n", Some("DROP DATABASE IF EXISTS shop;"));
        check("  create database shop;", Some("create database shop;"));
        check("\\copy a from b\nALTER DATABASE shop SET a = 1;\n\\restrict x\n", None);
        check("-- CREATE DATABASE shop;\nSELECT 'CREATE DATABASE';\n", None);
    }

    #[test]
    fn rows_of_a_copy_are_no_statements() {
        let columns = "c, ".repeat(60);
        let copy = format!("COPY public.a ({columns}d) FROM stdin;\n");
        check(&format!("{copy}DROP DATABASE shop\tx\n\\\\connect\n\\N\n\\.\n"), None);
        let after = format!("{copy}a\tb\n\\.\nDROP DATABASE shop;\n");
        check(&after, Some("DROP DATABASE shop;"));
        check("COPY a TO stdout;\nDROP DATABASE shop;\n", Some("DROP DATABASE shop;"));
        check(&format!("{copy}\\connect shop\n"), Some("\\connect shop"));
    }
}
