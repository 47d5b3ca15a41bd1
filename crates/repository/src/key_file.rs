//! The key that a machine keeps: one line of text.
//!
//! `rollforward-key-1:<52 characters>:<8 characters>`: 256 random bits and a check, both in
//! Crockford's base 32.

use zeroize::Zeroizing;

use crate::base32;
use crate::error::Error;
use crate::seal::Secret;
use crate::unlock::Unlock;

const PREFIX: &str = "rollforward-key-1";

/// The longest content of a key file that is looked at, in bytes: a larger file is something else.
pub const KEY_FILE_LEN_MAX: usize = 4096;

/// Bytes of the check behind the key.
const CHECK_LEN: usize = 5;

/// The content of a key file.
#[derive(Clone, Debug)]
pub struct KeyFile(Secret);

impl KeyFile {
    /// A fresh random key.
    #[must_use]
    pub fn random() -> Self {
        Self(Secret::random())
    }

    /// The line to write into the file, with its line feed. Give the file mode 0600.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        let key = base32::encode(self.0.expose());
        let check = base32::encode(&check(self.0.expose()));
        Zeroizing::new(format!("{PREFIX}:{}:{}\n", key.as_str(), check.as_str()))
    }

    /// Reads a key file's content. White space around the line is allowed.
    ///
    /// # Errors
    /// [`Error::Secret`], which says what does not fit and nothing of the content.
    pub fn parse(origin: &str, content: &[u8]) -> Result<Self, Error> {
        let bad = |reason: &str| Error::Secret {
            what: format!("key file '{origin}'"),
            reason: reason.into(),
        };
        if content.len() > KEY_FILE_LEN_MAX {
            return Err(bad("it is too long for a key file"));
        }
        let text = std::str::from_utf8(content).map_err(|_| bad("it is not text"))?.trim();
        let mut parts = text.split(':');
        match parts.next() {
            Some(PREFIX) => {}
            Some(other) if other.starts_with("rollforward-key-") => {
                return Err(bad("it was made for a newer rollforward"));
            }
            _ => return Err(bad("it does not begin with 'rollforward-key-1:'")),
        }
        let (Some(key), Some(sum), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("expected three parts with colons between them"));
        };
        let key = base32::decode::<32>(key).ok_or_else(|| bad("the key is cut off or mistyped"))?;
        let sum = base32::decode::<CHECK_LEN>(sum)
            .ok_or_else(|| bad("the check behind the key is cut off or mistyped"))?;
        if *sum != check(&key) {
            return Err(bad("the check behind the key does not fit it: a character was changed"));
        }
        Ok(Self(Secret::from_bytes(*key)))
    }

    /// What names the key without telling it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }

    /// What opens a repository; `origin` is where the file lies, for messages.
    #[must_use]
    pub fn unlock(&self, origin: &str) -> Unlock {
        Unlock::KeyFile { origin: origin.into(), secret: self.0.clone() }
    }
}

/// Names a key without telling it: `xxxx-xxxx-xxxx-xxxx`, 80 bits of a hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 10]);

impl Fingerprint {
    /// The fingerprint of a key.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let digest = blake3::derive_key("rollforward v1 key fingerprint", secret.expose());
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, character) in base32::encode(&self.0).chars().enumerate() {
            if place > 0 && place % 4 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{character}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

fn check(key: &[u8; 32]) -> [u8; CHECK_LEN] {
    let digest = blake3::derive_key("rollforward v1 key file check", key);
    digest.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_file_is_read_back() {
        let key = KeyFile::random();
        let text = key.render();
        assert_eq!(text.len(), 17 + 1 + 52 + 1 + 8 + 1);
        let read = KeyFile::parse("x", text.as_bytes()).unwrap();
        assert_eq!(read.fingerprint(), key.fingerprint());
        assert_eq!(read.fingerprint().to_string().len(), 19);
        assert!(KeyFile::parse("x", format!("\n {}\r\n", text.trim()).as_bytes()).is_ok());
    }

    #[test]
    fn every_changed_character_is_seen() {
        let text = KeyFile::random().render();
        let text = text.trim();
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert!(KeyFile::parse("x", &bytes).is_err(), "character {at}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_not_what_it_saw() {
        let check = |content: &str, expect: &str| {
            let error = KeyFile::parse("/k", content.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("key file '/k' cannot be used: {expect}"));
        };
        check("", "it does not begin with 'rollforward-key-1:'");
        check("hunter2", "it does not begin with 'rollforward-key-1:'");
        check("rollforward-key-2:a:b", "it was made for a newer rollforward");
        check("rollforward-key-1:a", "expected three parts with colons between them");
        check("rollforward-key-1:a:b", "the key is cut off or mistyped");
        check(&"x".repeat(5000), "it is too long for a key file");
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>) {
            let _ = KeyFile::parse("x", &content);
        }

        #[test]
        fn any_line_is_read_or_refused(line in "rollforward-key-1:[0-9a-z]{50,53}:[0-9a-z]{7,9}") {
            let _ = KeyFile::parse("x", line.as_bytes());
        }
    }
}
