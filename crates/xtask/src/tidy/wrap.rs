//! Wrapping comments, which rustfmt leaves as they are.

use super::rust::LINE_WIDTH_MAX;

/// Returns the text with every comment line wrapped that is too wide. What does not fit begins
/// the next line when that goes on with the sentence, else stands on a line of its own. Code,
/// tables and examples in comments are left alone.
pub(super) fn wrap_comments(text: &str) -> String {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let (mut index, mut in_example) = (0, false);
    while let Some(line) = lines.get(index).cloned() {
        let comment = split_comment(&line);
        in_example ^= comment.is_some_and(|(_, words)| words.starts_with("```"));
        if let Some((prefix, words)) = comment
            && line.chars().count() > LINE_WIDTH_MAX
            && !in_example
            && !words.starts_with('|')
            && let Some((fits, rest)) = split_at_width(words, prefix)
        {
            let next = lines.get(index + 1).and_then(|next| split_comment(next));
            let joined = next.filter(|(other, next)| *other == prefix && goes_on(next));
            let moved = match joined {
                Some((_, next)) => format!("{prefix}{rest} {next}"),
                None => format!("{}{rest}", continuation(prefix, words)),
            };
            if joined.is_some() {
                lines.remove(index + 1);
            }
            let fits = format!("{prefix}{fits}");
            lines.splice(index..=index, [fits, moved]);
        }
        index += 1;
    }
    lines.join("\n")
}

/// Splits `    /// words` into `    /// ` and `words`; None when it is not a comment line.
fn split_comment(line: &str) -> Option<(&str, &str)> {
    let indent = line.len() - line.trim_start().len();
    let marker = ["/// ", "//! ", "// "].iter().find(|it| line[indent..].starts_with(**it))?;
    line.split_at_checked(indent + marker.len())
}

/// Splits before the last word that begins within the width.
fn split_at_width<'a>(words: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let room = LINE_WIDTH_MAX.checked_sub(prefix.chars().count())?;
    let end = words.char_indices().nth(room + 1).map_or(words.len(), |(at, _)| at);
    let (fits, _) = words.get(..end)?.trim_end().rsplit_once(' ')?;
    Some((fits, words.get(fits.len() + 1..)?)).filter(|(fits, _)| !fits.trim().is_empty())
}

/// A line that goes on with the sentence of the line before, and is not a list's item, a table's
/// row, a heading or an example.
fn goes_on(words: &str) -> bool {
    let first = words.chars().next();
    let is_item = words.starts_with("- ")
        || words.starts_with("* ")
        || words.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    !is_item && !matches!(first, None | Some('|' | '#' | '`' | ' ' | '[')) || is_code_word(words)
}

/// `like this` at the beginning of a line, but not a fence.
fn is_code_word(words: &str) -> bool {
    words.starts_with('`') && !words.starts_with("```") || words.starts_with("[`")
}

/// The prefix of a further line, indented like the text of a list's item.
fn continuation(prefix: &str, words: &str) -> String {
    let is_item = words.starts_with("- ") || words.starts_with("* ");
    format!("{prefix}{}", if is_item { "  " } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(wrap_comments(text), expected);
    }

    #[test]
    fn what_does_not_fit_moves_to_the_next_line() {
        let long = "a".repeat(90);
        check(&format!("/// {long} bc def\n/// ghi\nx"), &format!("/// {long} bc\n/// def ghi\nx"));
        check(&format!("// {long} bcdefgh\nx"), &format!("// {long}\n// bcdefgh\nx"));
        check(
            &format!("/// {long} bc def\n/// - item\n"),
            &format!("/// {long} bc\n/// def\n/// - item\n"),
        );
        check(
            &format!("/// - {long} bc def\n/// - item\n"),
            &format!("/// - {long} bc\n///   def\n/// - item\n"),
        );
    }

    #[test]
    fn a_full_line_is_left_alone() {
        let full = format!("// {} {}", "a".repeat(90), "b".repeat(6));
        assert_eq!(full.len(), LINE_WIDTH_MAX);
        check(&full, &full);
        check(&format!("{full}c"), &format!("// {}\n// bbbbbbc", "a".repeat(90)));
    }

    #[test]
    fn code_tables_and_examples_are_left_alone() {
        let long = "a ".repeat(60);
        for text in [
            format!("f({long})"),
            format!("/// | {long}|"),
            format!("/// ```\n/// {long}b\n/// ```"),
        ] {
            check(&text, &text);
        }
    }
}
