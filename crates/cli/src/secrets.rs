//! Resolving references to secrets, and asking people for theirs.

use std::io::{BufRead, IsTerminal, Write};

use repository::key_file::KeyFile;
use repository::unlock::Unlock;
use zeroize::Zeroizing;

use crate::config::{Error, KeySource, SecretRef};

/// The value behind a reference.
pub(crate) fn resolve(reference: &SecretRef, owner: &str) -> Result<Zeroizing<String>, Error> {
    let failed = |reason: String| Error::Secret {
        reference: reference.to_string(),
        owner: owner.into(),
        reason,
    };
    let value = match reference {
        SecretRef::Env(name) => std::env::var(name).map_err(|_| failed("it is not set".into()))?,
        SecretRef::File(path) => {
            std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?
        }
    };
    let value = Zeroizing::new(value);
    Ok(Zeroizing::new(value.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The value behind a reference as it stands in the configuration; a sentence otherwise.
pub(crate) fn resolve_text(reference: &str, owner: &str) -> Result<Zeroizing<String>, String> {
    match SecretRef::parse(reference) {
        Some(known) => resolve(&known, owner).map_err(|error| error.to_string()),
        None => Err(format!("secret {reference} of {owner} cannot be resolved by this version")),
    }
}

/// Reads a key file.
pub(crate) fn read_key_file(path: &std::path::Path) -> anyhow::Result<Unlock> {
    let origin = path.display().to_string();
    Ok(parse_key_file(path)?.unlock(&origin))
}

/// Reads a key file without turning it into a way in.
pub(crate) fn parse_key_file(path: &std::path::Path) -> anyhow::Result<KeyFile> {
    let content = std::fs::read(path).map(Zeroizing::new).map_err(|error| Error::Secret {
        reference: format!("file:{}", path.display()),
        owner: "the repository".into(),
        reason: error.to_string(),
    })?;
    Ok(KeyFile::parse(&path.display().to_string(), &content)?)
}

/// The first of `keys` that can be had without a person; then, on a terminal, by asking.
pub(crate) fn unlock_of(keys: &[KeySource], owner: &str) -> anyhow::Result<Option<Unlock>> {
    let mut failed = None;
    for key in keys {
        let unlock = match key {
            KeySource::File(path) => read_key_file(path),
            KeySource::Passphrase(Some(reference)) => {
                resolve(reference, owner).map(Unlock::Passphrase).map_err(Into::into)
            }
            KeySource::Passphrase(None) | KeySource::RecoveryCode => continue,
        };
        match unlock {
            Ok(unlock) => return Ok(Some(unlock)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if keys.contains(&KeySource::Passphrase(None)) && std::io::stdin().is_terminal() {
        let text = ask_hidden(&format!("passphrase of {owner}: "))?;
        return Ok(Some(Unlock::Passphrase(text)));
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(None),
    }
}

/// Asks on the terminal; what is typed is shown.
pub(crate) fn ask(prompt: &str) -> anyhow::Result<String> {
    let mut err = std::io::stderr().lock();
    write!(err, "{prompt}")?;
    err.flush()?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line)?;
    anyhow::ensure!(read > 0, "expected an answer on standard input, seen its end");
    Ok(line.trim().to_owned())
}

/// Asks on the terminal without showing what is typed.
pub(crate) fn ask_hidden(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).ok();
    if let Some(before) = &before {
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &quiet)?;
    }
    let answer = ask(prompt);
    if let Some(before) = &before {
        let _ = tcsetattr(&stdin, OptionalActions::Flush, before);
        let _ = writeln!(std::io::stderr());
    }
    Ok(Zeroizing::new(answer?))
}
