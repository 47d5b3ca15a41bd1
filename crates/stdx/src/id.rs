//! Random 128-bit ids and how they are written.

use std::fmt;
use std::str::FromStr;

/// Crockford's base 32 in lower case: no `i`, `l`, `o`, `u`, so that an id can be read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters in the text form of an [`Id`]: 26 × 5 bits hold 128 bits.
pub const ID_TEXT_LEN: usize = 26;

/// A random 128-bit id. Its text form is 26 characters of Crockford's base 32, lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 16]);

/// The text is not the 26 lower-case base-32 characters of an [`Id`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of {ID_TEXT_LEN} base-32 characters, seen '{seen}'")]
pub struct ParseIdError {
    seen: String,
}

impl Id {
    /// A fresh id from the system's random source.
    ///
    /// # Panics
    /// When the system has no random source: nothing can be sealed or named without one.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        fill_random(&mut bytes);
        Self(bytes)
    }

    /// An id of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes, most significant first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The last four characters of the text form: enough to tell neighbours apart by ear.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().split_off(ID_TEXT_LEN - 4)
    }
}

/// Fills `bytes` from the system's random source.
///
/// # Panics
/// When the system has no random source: nothing can be sealed or named without one.
pub fn fill_random(bytes: &mut [u8]) {
    assert!(getrandom::fill(bytes).is_ok(), "the system has no random source");
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let text: String = (0..ID_TEXT_LEN)
            .rev()
            .map(|place| char::from(ALPHABET[((value >> (place * 5)) & 31) as usize]))
            .collect();
        f.write_str(&text)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fail = || ParseIdError { seen: text.chars().take(64).collect() };
        if text.len() != ID_TEXT_LEN {
            return Err(fail());
        }
        let mut value: u128 = 0;
        for (place, byte) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|&c| c == byte).ok_or_else(fail)?;
            // 26 characters hold 130 bits: the first may only use three of its five.
            if place == 0 && digit > 7 {
                return Err(fail());
            }
            value = (value << 5) | digit as u128;
        }
        Ok(Self(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn text_form_round_trips_and_keeps_the_order() {
        let low = Id::from_bytes([0; 16]);
        let high = Id::from_bytes([0xff; 16]);
        assert_eq!(low.to_string(), "0".repeat(26));
        for id in [low, high, Id::random()] {
            assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
        }
        assert!(low.to_string() < high.to_string());
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        for text in ["", "x", &"z".repeat(26), &"i".repeat(26), &"A".repeat(26), "é0000000000000"]
        {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }
}
