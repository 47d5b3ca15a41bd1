//! Crockford's base 32 for secrets that people handle: no letter that looks like a digit.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters for this many bytes; the last one is filled up with zero bits.
pub(crate) const fn text_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// The text of `bytes`, lower case, most significant bit first.
pub(crate) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(text_len(bytes.len())));
    for place in 0..text_len(bytes.len()) {
        let digit = (0..5).fold(0, |digit, bit| digit << 1 | bit_at(bytes, place * 5 + bit));
        text.push(ALPHABET.get(digit).copied().map_or('0', char::from));
    }
    text
}

/// The bytes of a text that [`encode`] gave; `None` for any other text.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    if text.len() != text_len(N) {
        return None;
    }
    let mut bytes = Zeroizing::new([0; N]);
    for (place, character) in text.chars().enumerate() {
        let digit = digit(character)?;
        for bit in 0..5 {
            let (at, is_set) = (place * 5 + bit, digit >> (4 - bit) & 1 == 1);
            match bytes.get_mut(at / 8) {
                Some(byte) => *byte |= u8::from(is_set) << (7 - at % 8),
                None if is_set => return None, // the filling is zeros
                None => {}
            }
        }
    }
    Some(bytes)
}

/// The value of a character of the alphabet.
pub(crate) fn digit(character: char) -> Option<usize> {
    ALPHABET.iter().position(|known| char::from(*known) == character)
}

/// What somebody may have meant who reads from paper: either case, O for 0, I and L for 1.
pub(crate) fn read_kindly(character: char) -> Option<char> {
    let meant = match character.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    };
    digit(meant).map(|_| meant)
}

fn bit_at(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes.get(at / 8).copied().unwrap_or(0) >> (7 - at % 8) & 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_round_trip(bytes: [u8; 32]) {
            let text = encode(&bytes);
            prop_assert_eq!(text.len(), 52);
            prop_assert_eq!(*decode::<32>(&text).unwrap(), bytes);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = decode::<32>(&text);
            let _ = decode::<16>(&text);
        }
    }

    #[test]
    fn filling_must_be_zeros() {
        assert_eq!(encode(&[0xff]).as_str(), "zw");
        assert!(decode::<1>("zw").is_some());
        assert!(decode::<1>("zz").is_none());
    }
}
