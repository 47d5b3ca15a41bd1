//! The name of an object.

use std::fmt;

/// The longest key in bytes: S3 allows 1024, and a repository's own prefix needs room before it.
pub const KEY_LEN_MAX: usize = 512;

/// The longest part between two `/` in bytes: what file systems allow (`NAME_MAX`).
pub const PART_LEN_MAX: usize = 255;

/// First parts that a directory on a disk of its own needs for other things.
const RESERVED: [&str; 2] = [".tmp", "lost+found"];

/// A relative object name: `/`-separated parts of `[A-Za-z0-9._=+-]`, no empty part, no `.`/`..`,
/// no part over [`PART_LEN_MAX`] bytes, not beginning with the part `.tmp` or `lost+found`, at most
/// [`KEY_LEN_MAX`] bytes. So it means the same in every store and on every file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// The text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an object key")]
pub struct ParseKeyError(String);

impl Key {
    /// Checks and wraps a key.
    ///
    /// # Errors
    /// [`ParseKeyError`] when the text breaks a rule of [`Key`].
    pub fn new(text: impl Into<String>) -> Result<Self, ParseKeyError> {
        let text = text.into();
        if is_key(&text) { Ok(Self(text)) } else { Err(ParseKeyError(text)) }
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_key(text: &str) -> bool {
    text.len() <= KEY_LEN_MAX
        && !RESERVED.contains(&text.split('/').next().unwrap_or_default())
        && text.split('/').all(|part| {
            !matches!(part, "" | "." | "..")
                && part.len() <= PART_LEN_MAX
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=+-".contains(&b))
        })
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn accepts_only_names_that_mean_the_same_everywhere() {
        for good in ["a", "wal/7/00000001.history", "a-b/c_d/e=f+g"] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/./b", "ä", "a b", "a\\b", "a\0", ".tmp/x"] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
        for good in ["a/.tmp", ".tmpx", &"x".repeat(255), &["x"; 256].join("/")] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        assert!(Key::new("x".repeat(256)).is_err());
        assert!(Key::new(["x"; 257].join("/")).is_err());
    }
}
