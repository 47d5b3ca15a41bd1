//! Rust source with comments and literals told apart from code.
//!
//! Not a parser: it knows just enough of the lexical grammar (strings, raw strings, characters
//! and lifetimes, nested comments) for braces and words to be found where they are code.

use std::ops::RangeInclusive;

/// A source file, line by line.
#[derive(Debug)]
pub(crate) struct Source {
    /// The code with comments and literals blanked out; same characters per line as the file.
    code: Vec<String>,
    /// Whether a part of the line is inside a string literal.
    has_string: Vec<bool>,
    raw: Vec<String>,
}

/// A function found in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// From the line of `fn` to that of the closing brace, counted from 1.
    pub(crate) lines: RangeInclusive<usize>,
}

/// One line of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) raw: &'a str,
    pub(crate) code: &'a str,
    pub(crate) has_string: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    String,
    Character,
}

impl Source {
    /// Reads a file's text.
    pub(crate) fn new(text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect();
        let kinds = kinds(&characters);
        let (mut code, mut has_string) = (vec![String::new()], vec![false]);
        for (character, kind) in characters.iter().zip(kinds) {
            if *character == '\n' {
                // A string that goes on marks the next line by its own characters.
                code.push(String::new());
                has_string.push(false);
                continue;
            }
            if let (Some(line), Some(flag)) = (code.last_mut(), has_string.last_mut()) {
                line.push(if kind == Kind::Code { *character } else { ' ' });
                *flag |= kind == Kind::String;
            }
        }
        Self { code, has_string, raw: text.split('\n').map(str::to_owned).collect() }
    }

    /// Returns all lines.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let parts = self.raw.iter().zip(&self.code).zip(&self.has_string);
        parts.enumerate().map(|(index, ((raw, code), &has_string))| Line {
            number: index + 1,
            raw,
            code,
            has_string,
        })
    }

    /// Returns all functions with a body, also nested ones.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for line in self.lines() {
            for at in words(line.code, "fn") {
                let rest = line.code.get(at + 2..).unwrap_or_default().trim_start();
                let name: String = rest.chars().take_while(|&it| is_word(it)).collect();
                if name.is_empty() {
                    continue; // the type of a function: `fn(u8) -> u8`
                }
                if let Some(end) = self.end_of_item(line.number, at) {
                    functions.push(Function { name, lines: line.number..=end });
                }
            }
        }
        functions
    }

    /// Returns the lines of items under `#[cfg(test)]`.
    pub(crate) fn test_regions(&self) -> Vec<RangeInclusive<usize>> {
        let marked = self.lines().filter(|line| line.code.trim_start().starts_with("#[cfg(test)]"));
        marked
            .filter_map(|line| {
                let after = line.code.find(']').map_or(0, |at| at + 1);
                Some(line.number..=self.end_of_item(line.number, after)?)
            })
            .collect()
    }

    /// Returns the line where the item's body ends that begins at or after the byte `column` of
    /// line `start`. None for an item without a body.
    fn end_of_item(&self, start: usize, column: usize) -> Option<usize> {
        let (mut braces, mut others) = (0_usize, 0_usize);
        for line in self.lines().skip(start - 1) {
            let skip = if line.number == start { column } else { 0 };
            for character in line.code.get(skip..)?.chars() {
                match character {
                    '(' | '[' => others += 1,
                    ')' | ']' => others = others.saturating_sub(1),
                    ';' if braces == 0 && others == 0 => return None,
                    '{' => braces += 1,
                    '}' if braces <= 1 => return Some(line.number),
                    '}' => braces -= 1,
                    _ => {}
                }
            }
        }
        None
    }
}

/// Returns the byte offsets in `code` at which `word` stands by itself.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Tells for each character what it belongs to; delimiters belong to what they delimit.
fn kinds(characters: &[char]) -> Vec<Kind> {
    let mut kinds = Vec::with_capacity(characters.len());
    while let Some(rest) = characters.get(kinds.len()..).filter(|rest| !rest.is_empty()) {
        let after_word = kinds.last() == Some(&Kind::Code)
            && characters.get(kinds.len() - 1).copied().is_some_and(is_word);
        let (kind, length) = token(rest, after_word);
        kinds.extend(std::iter::repeat_n(kind, length.clamp(1, rest.len())));
    }
    kinds
}

/// Returns kind and length of what begins at `rest`: a comment, a literal, or one character.
fn token(rest: &[char], after_word: bool) -> (Kind, usize) {
    match rest {
        ['/', '/', ..] => {
            (Kind::Comment, rest.iter().position(|&it| it == '\n').unwrap_or(rest.len()))
        }
        ['/', '*', ..] => (Kind::Comment, block_comment(rest)),
        ['"', ..] => (Kind::String, 1 + quoted(rest.get(1..).unwrap_or_default(), '"')),
        ['r', ..] if !after_word => raw_string(rest, 1),
        ['b' | 'c', 'r', ..] if !after_word => raw_string(rest, 2),
        ['\'', '\\', ..] => (Kind::Character, 1 + quoted(rest.get(1..).unwrap_or_default(), '\'')),
        ['\'', _, '\'', ..] => (Kind::Character, 3),
        _ => (Kind::Code, 1),
    }
}

/// Length up to and with the closing quote.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut escaped = false;
    for (index, &character) in rest.iter().enumerate() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A raw string whose hashes or quote begin at `prefix`, or just the prefix's first character.
fn raw_string(rest: &[char], prefix: usize) -> (Kind, usize) {
    let body = rest.get(prefix..).unwrap_or_default();
    let hashes = body.iter().take_while(|&&it| it == '#').count();
    if body.get(hashes) != Some(&'"') {
        return (Kind::Code, 1);
    }
    let mut end: Vec<char> = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let content = body.get(hashes + 1..).unwrap_or_default();
    let length = content.windows(end.len()).position(|window| window == end);
    let length = length.map_or(content.len(), |at| at + end.len());
    (Kind::String, prefix + hashes + 1 + length)
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest.get(at..) {
            Some(['/', '*', ..]) => {
                depth += 1;
                at += 2;
            }
            Some(['*', '/', ..]) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_code(text: &str, expected: &str) {
        assert_eq!(Source::new(text).code.join("\n"), expected, "{text}");
    }

    #[test]
    fn literals_and_comments_are_not_code() {
        check_code("a \"{\" b", "a     b");
        check_code(r#"a "\"{" b"#, "a       b");
        check_code("a r#\"{\"}\"# b", "a          b");
        check_code("a br\"{\" b", "a       b");
        check_code("for r in x", "for r in x");
        check_code("var\"{\"", "var   ");
        check_code("'{' '\\'' '\\u{7f}' &'a str", "                  &'a str");
        check_code("a // {\nb", "a     \nb");
        check_code("a /* { /* } */ { */ b", "a                   b");
        check_code("a \"{\n{\" b", "a   \n   b");
        check_code("\"without end {", "              ");
    }

    #[test]
    fn lines_of_a_string_are_marked() {
        let source = Source::new("a\n\"b\nc\" d\n// \"e\"");
        let marks: Vec<bool> = source.lines().map(|line| line.has_string).collect();
        assert_eq!(marks, [false, true, true, false]);
    }

    #[test]
    fn functions_are_measured_to_their_closing_brace() {
        let text = "fn one(f: fn(u8) -> u8) { \"}\" }\n\
            trait T { fn without(x: [u8; 3]); }\n\
            fn two(x: [u8; 3]) -> u8\n{\n    fn inner() {\n    }\n}\n";
        let seen: Vec<(String, usize, usize)> = Source::new(text)
            .functions()
            .into_iter()
            .map(|function| (function.name, *function.lines.start(), *function.lines.end()))
            .collect();
        let expected = [("one", 1, 1), ("two", 3, 7), ("inner", 5, 6)];
        assert_eq!(seen, expected.map(|(name, start, end)| (name.to_owned(), start, end)));
    }

    #[test]
    fn test_modules_are_found_and_test_files_are_not() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(test)]\nmod c;\n";
        assert_eq!(Source::new(text).test_regions(), [2..=5]);
    }

    #[test]
    fn a_word_stands_alone() {
        assert_eq!(words("sleep sleepy _sleep x.sleep(", "sleep").collect::<Vec<_>>(), [0, 22]);
    }
}
