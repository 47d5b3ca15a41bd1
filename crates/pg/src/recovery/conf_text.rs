//! PostgreSQL configuration files as text: our block in them, and settings of others.

use super::RecoveryError;

/// The line before our settings.
pub const BEGIN_MARK: &str = "# BEGIN rollforward";

/// The line behind our settings.
pub const END_MARK: &str = "# END rollforward";

/// What is put before a line that is taken out of effect.
const NEUTRAL_PREFIX: &str = "# rollforward: ";

/// A configuration file's text with some settings taken out of effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neutralised {
    /// The text, in which those lines are comments now.
    pub text: String,
    /// Which they were, in the order of the file.
    pub taken_out: Vec<TakenOut>,
}

/// A line that was taken out of effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOut {
    /// The setting's name as written in the file.
    pub name: String,
    /// The line it stood in, counted from 1. (Its value may be a secret and is not repeated.)
    pub line: usize,
}

/// `value` as a configuration file wants it: in single quotes, with quotes and backslashes doubled.
/// `None` when it has a line break or a zero byte, for which the format has no safe form.
///
/// PostgreSQL: `DeescapeQuotedString`, src/backend/utils/misc/guc-file.l.
#[must_use]
pub fn quote(value: &str) -> Option<String> {
    let safe = !value.contains(['\n', '\r', '\0']);
    safe.then(|| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''")))
}

/// `text` without our blocks; unchanged when there is none.
///
/// # Errors
/// [`RecoveryError::Block`] when a mark has no counterpart. The operator must look: removing too
/// much would lose settings, removing too little would keep an old target.
pub fn strip_block(text: &str) -> Result<String, RecoveryError> {
    let mut kept = String::with_capacity(text.len());
    let mut begun = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        match (line.trim(), begun) {
            (BEGIN_MARK, None) => begun = Some(number),
            (BEGIN_MARK, Some(line)) => {
                return Err(RecoveryError::Block { line, mark: BEGIN_MARK });
            }
            (END_MARK, Some(_)) => begun = None,
            (END_MARK, None) => {
                return Err(RecoveryError::Block { line: number, mark: END_MARK });
            }
            (_, Some(_)) => {}
            (_, None) => kept.push_str(line),
        }
    }
    match begun {
        None => Ok(kept),
        Some(line) => Err(RecoveryError::Block { line, mark: BEGIN_MARK }),
    }
}

/// Turns every line that sets one of `names` into a comment, and says which those were. Names are
/// compared without regard to case, as PostgreSQL does. Lines in our own block are settings like
/// others.
#[must_use]
pub fn neutralise(text: &str, names: &[&str]) -> Neutralised {
    let mut result = Neutralised { text: String::with_capacity(text.len()), taken_out: Vec::new() };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if let Some(name) = set_in(line).filter(|name| contains(names, name)) {
            result.text.push_str(NEUTRAL_PREFIX);
            result.taken_out.push(TakenOut { name: name.to_owned(), line: index + 1 });
        }
        result.text.push_str(line);
    }
    result
}

fn contains(names: &[&str], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The setting's name in a line `name = value` or `name value`.
fn set_in(line: &str) -> Option<&str> {
    let line = line.trim_start_matches([' ', '\t', '\r', '\x0b', '\x0c']);
    let end = line.find(|c| !is_name_part(c)).unwrap_or(line.len());
    line.split_at_checked(end).map(|(name, _)| name).filter(|name| is_setting_name(name))
}

/// One or more identifiers with dots between: a server's setting or an extension's.
pub(super) fn is_setting_name(name: &str) -> bool {
    name.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
    })
}

const fn is_name_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_as_the_format_wants() {
        let check = |value: &str, expect: Option<&str>| {
            assert_eq!(quote(value).as_deref(), expect, "{value:?}");
        };
        check("", Some("''"));
        check("it's", Some("'it''s'"));
        check("C:\\dir\\%f", Some("'C:\\\\dir\\\\%f'"));
        check("a # b", Some("'a # b'"));
        check("a\nb", None);
        check("a\rb", None);
        check("a\0b", None);
    }

    #[test]
    fn strips_whole_blocks_only() {
        let check = |text: &str, expect: Result<&str, (usize, &'static str)>| {
            let expect = expect
                .map(str::to_owned)
                .map_err(|(line, mark)| RecoveryError::Block { line, mark });
            assert_eq!(strip_block(text), expect, "{text:?}");
        };
        let (begin, end) = (BEGIN_MARK, END_MARK);
        check("", Ok(""));
        check("a = 1", Ok("a = 1"));
        check(&format!("a = 1\n{begin}\nb = 2\n{end}\nc = 3\n"), Ok("a = 1\nc = 3\n"));
        check(&format!("{begin}\r\nb = 2\r\n{end}\r\nc = 3"), Ok("c = 3"));
        check(&format!("{begin}\n{end}\nx\n{begin}\n{end}"), Ok("x\n"));
        check(&format!("a\n{begin}\nb\n"), Err((2, begin)));
        check(&format!("{begin}\n{begin}\n{end}\n"), Err((1, begin)));
        check(&format!("a\nb\n{end}\n"), Err((3, end)));
    }

    #[test]
    fn takes_out_settings_by_name_and_says_which() {
        let text = "\
# recovery_target_time = 'old'
recovery_target_time = '2020-01-01'
  Recovery_Target_XID '5'  # comment
recovery_target_timeline='latest'
my.recovery_target_xid = 1
recovery_target_xid_other = 1
port = 5432
recovery_target_xid=7";
        let names = ["recovery_target_time", "recovery_target_xid"];
        let result = neutralise(text, &names);
        let taken: Vec<_> =
            result.taken_out.iter().map(|out| (out.name.as_str(), out.line)).collect();
        assert_eq!(
            taken,
            [("recovery_target_time", 2), ("Recovery_Target_XID", 3), ("recovery_target_xid", 8)]
        );
        assert_eq!(
            result.text,
            "\
# recovery_target_time = 'old'
# rollforward: recovery_target_time = '2020-01-01'
# rollforward:   Recovery_Target_XID '5'  # comment
recovery_target_timeline='latest'
my.recovery_target_xid = 1
recovery_target_xid_other = 1
port = 5432
# rollforward: recovery_target_xid=7"
        );
        assert!(neutralise(&result.text, &names).taken_out.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_handled(text in "(?s).*", value in "(?s).*") {
            let _ = strip_block(&text);
            let _ = neutralise(&text, &["a", "port"]);
            let _ = quote(&value);
        }

        #[test]
        fn text_without_marks_is_kept(text in "[^#]*") {
            prop_assert_eq!(strip_block(&text), Ok(text));
        }
    }
}
