//! The shop's door: a file that shuts it, and a token that is let in all the same.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Whether the shop is open, and to whom.
#[derive(Debug)]
pub(crate) struct Door {
    maintenance: Option<PathBuf>,
    token: Option<String>,
}

impl Door {
    pub(crate) fn new(maintenance: Option<PathBuf>, token: Option<&Path>) -> anyhow::Result<Self> {
        let token = match token {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("read token '{}'", path.display()))?;
                Some(text.trim().to_owned())
            }
        };
        Ok(Self { maintenance, token })
    }

    /// Whether users are kept out now.
    pub(crate) fn is_shut(&self) -> bool {
        self.maintenance.as_ref().is_some_and(|path| path.exists())
    }

    /// Whether a request with this `Authorization` is answered now.
    pub(crate) fn lets_in(&self, authorization: Option<&str>) -> bool {
        let given = authorization.and_then(|text| text.strip_prefix("Bearer "));
        !self.is_shut() || (self.token.is_some() && given == self.token.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::Door;

    #[test]
    fn only_the_token_is_let_in_while_the_file_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (folder.path().join("maintenance"), folder.path().join("token"));
        std::fs::write(&token, "s3cret\n").unwrap();
        let door = Door::new(Some(file.clone()), Some(&token)).unwrap();
        assert!(door.lets_in(None));
        std::fs::write(&file, "").unwrap();
        assert!(door.is_shut() && !door.lets_in(None) && !door.lets_in(Some("Bearer x")));
        assert!(door.lets_in(Some("Bearer s3cret")));
        let none = Door::new(Some(file), None).unwrap();
        assert!(!none.lets_in(Some("Bearer ")));
    }
}
