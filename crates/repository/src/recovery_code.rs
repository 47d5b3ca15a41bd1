//! The code that opens a repository when everything else is lost: written on paper.
//!
//! 128 random bits and 22 bits of check make 30 characters of Crockford's base 32, in six groups of
//! five. The check stands at the end of the last two groups.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base32;
use crate::error::Error;
use crate::seal::Secret;
use crate::unlock::Unlock;

/// How many groups a code has.
pub const GROUPS: usize = 6;

/// Characters in a group.
pub const GROUP_LEN: usize = 5;

const TEXT_LEN: usize = GROUPS * GROUP_LEN;

/// 30 characters hold 150 bits; they are kept in 19 bytes, the last two bits zero.
const BYTES: usize = 19;

/// A recovery code.
#[derive(Clone, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct RecoveryCode([u8; 16]);

impl std::fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryCode(…)")
    }
}

impl RecoveryCode {
    /// A fresh random code.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        stdx::id::fill_random(&mut bytes);
        Self(bytes)
    }

    /// The code as it is shown, once: upper case, groups with dashes between them.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        let text = self.text();
        let groups: Vec<&str> = groups(&text);
        Zeroizing::new(groups.join("-").to_ascii_uppercase())
    }

    /// Reads a code as somebody types it from paper: case, spaces and dashes do not matter, nor do
    /// O for 0, I and L for 1.
    ///
    /// # Errors
    /// [`Error::Secret`] that says which group holds a character that no code has, how many
    /// characters there are, or that the check does not fit.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |reason: String| Error::Secret { what: "the recovery code".into(), reason };
        let characters = kindly(text).map_err(|(group, seen)| {
            bad(format!("no code has the character '{seen}' (in group {group})"))
        })?;
        if characters.len() != TEXT_LEN {
            let seen = characters.len();
            return Err(bad(format!("expected {TEXT_LEN} characters, seen {seen}")));
        }
        let mistyped = || bad("a character is mistyped: the check in it does not fit".into());
        // 19 bytes take 31 characters: one more, whose bits are not in the code.
        let padded = Zeroizing::new(format!("{}0", characters.as_str()));
        let bytes = base32::decode::<BYTES>(&padded).ok_or_else(mistyped)?;
        let code = Self(bytes.first_chunk().copied().unwrap_or_default());
        if code.text().as_str() == characters.as_str() { Ok(code) } else { Err(mistyped()) }
    }

    /// Whether somebody has written the code down: `typed` are some of its groups, each with its
    /// number from 1. At least one is needed, and a wrong one spoils it.
    #[must_use]
    pub fn matches_groups(&self, typed: &[(usize, &str)]) -> bool {
        let text = self.text();
        let groups = groups(&text);
        let matches = |(number, typed): &(usize, &str)| {
            let group = number.checked_sub(1).and_then(|at| groups.get(at));
            group.is_some_and(|group| kindly(typed).is_ok_and(|typed| typed.as_str() == *group))
        };
        !typed.is_empty() && typed.iter().all(matches)
    }

    /// What opens a repository.
    #[must_use]
    pub fn unlock(&self) -> Unlock {
        Unlock::RecoveryCode(self.secret())
    }

    /// The key material that a slot is wrapped with.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret::from_bytes(blake3::derive_key("rollforward v1 recovery code", &self.0))
    }

    /// The characters without dashes, lower case.
    fn text(&self) -> Zeroizing<String> {
        let check = blake3::derive_key("rollforward v1 recovery code check", &self.0);
        let mut bytes = Zeroizing::new([0; BYTES]);
        for (place, byte) in bytes.iter_mut().zip(self.0.iter().chain(&check)) {
            *place = *byte;
        }
        let mut text = base32::encode(bytes.as_slice());
        text.truncate(TEXT_LEN);
        text
    }
}

fn groups(text: &str) -> Vec<&str> {
    (0..GROUPS).filter_map(|at| text.get(at * GROUP_LEN..(at + 1) * GROUP_LEN)).collect()
}

/// The characters that are meant; otherwise the group of the first that cannot be, and itself.
fn kindly(text: &str) -> Result<Zeroizing<String>, (usize, char)> {
    let mut out = Zeroizing::new(String::with_capacity(TEXT_LEN));
    for character in text.chars() {
        if character.is_whitespace()
            || matches!(character, '-' | '\u{2010}'..='\u{2015}' | '_' | '.')
        {
            continue;
        }
        let group = out.len() / GROUP_LEN + 1;
        out.push(base32::read_kindly(character).ok_or((group, character))?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> RecoveryCode {
        RecoveryCode([0x10, 0x20, 0x30, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    }

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = sample();
        let shown = code.render();
        assert_eq!(shown.len(), 35);
        let typed = [
            shown.to_ascii_lowercase(),
            shown.replace('-', " "),
            shown.replace('-', ""),
            shown.replace('-', " – "),
            shown.replace('0', "o"),
            shown.replace('0', "O").replace('1', "l"),
            shown.replace('1', "I"),
            format!("  {}\n", shown.as_str()),
        ];
        for typed in typed {
            assert!(RecoveryCode::parse(&typed).unwrap() == code, "{typed}");
        }
    }

    #[test]
    fn every_mistyped_character_is_seen() {
        let shown = sample().render();
        for at in (0..shown.len()).filter(|at| shown.as_bytes()[*at] != b'-') {
            for other in "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars() {
                let mut typed: Vec<char> = shown.chars().collect();
                if typed[at] != other {
                    typed[at] = other;
                    let typed: String = typed.into_iter().collect();
                    assert!(RecoveryCode::parse(&typed).is_err(), "{typed}");
                }
            }
        }
    }

    #[test]
    fn swapped_neighbours_are_seen() {
        let shown = RecoveryCode::random().render().replace('-', "");
        for at in 0..shown.len() - 1 {
            let mut typed: Vec<char> = shown.chars().collect();
            if typed[at] != typed[at + 1] {
                typed.swap(at, at + 1);
                assert!(RecoveryCode::parse(&typed.into_iter().collect::<String>()).is_err());
            }
        }
    }

    #[test]
    fn says_where_it_is_wrong() {
        let check = |typed: &str, expect: &str| {
            let error = RecoveryCode::parse(typed).unwrap_err();
            assert_eq!(error.to_string(), format!("the recovery code cannot be used: {expect}"));
        };
        check("", "expected 30 characters, seen 0");
        check("ABCDE-FGHJK", "expected 30 characters, seen 10");
        check("ABCDE-FGUJK", "no code has the character 'U' (in group 2)");
        check(&"00000-".repeat(6), "a character is mistyped: the check in it does not fit");
    }

    #[test]
    fn some_groups_prove_that_it_was_written_down() {
        let code = sample();
        let shown = code.render();
        let groups: Vec<&str> = shown.split('-').collect();
        assert!(code.matches_groups(&[(2, groups[1]), (6, &groups[5].to_ascii_lowercase())]));
        assert!(!code.matches_groups(&[(2, groups[1]), (5, groups[5])]));
        assert!(!code.matches_groups(&[(0, groups[0])]));
        assert!(!code.matches_groups(&[(7, groups[0])]));
        assert!(!code.matches_groups(&[(1, "")]));
        assert!(!code.matches_groups(&[]));
    }

    proptest! {
        #[test]
        fn codes_round_trip(bytes: [u8; 16]) {
            let code = RecoveryCode(bytes);
            prop_assert!(RecoveryCode::parse(&code.render()).unwrap() == code);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = RecoveryCode::parse(&text);
        }

        #[test]
        fn any_thirty_characters_are_read_or_refused(text in "[0-9A-Za-z]{30}") {
            let _ = RecoveryCode::parse(&text);
        }
    }
}
