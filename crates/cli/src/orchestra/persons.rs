//! Persons: who asks, and the key files they sign with.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use recovery::person::SigningKey;
use recovery::service::DRIVING_ROLES;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::failure::Error;
use crate::secrets;

/// How a person's key file begins.
const PREFIX: &str = "rollforward-person-1:";

/// Where a passphrase comes from when nobody is asked.
const PASSPHRASE_VARIABLE: &str = "ROLLFORWARD_PERSON_PASSPHRASE";

/// Memory in KiB, passes and lanes of Argon2id (RFC 9106, second recommended option).
const COST: (u32, u32, u32) = (65_536, 3, 4);

/// Where a person's key lies when nothing else is said.
pub(crate) fn default_path(config: &Config, name: &str) -> PathBuf {
    config.path.with_file_name(format!("{name}.person"))
}

/// Who asks: `--as`, or the user of the operating system.
pub(crate) fn requester(given: Option<&str>) -> String {
    let user = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
    given.map(str::to_owned).or_else(user).unwrap_or_else(|| "operator".into())
}

/// The passphrase: from the environment, or asked for on the terminal.
fn passphrase(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    match std::env::var(PASSPHRASE_VARIABLE) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(_) => secrets::ask_hidden(prompt),
    }
}

fn wrapping(passphrase: &str, salt: &[u8]) -> anyhow::Result<LessSafeKey> {
    let params = Params::new(COST.0, COST.1, COST.2, Some(32));
    let params = params.map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut key = Zeroizing::new([0_u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let key = UnboundKey::new(&AES_256_GCM, key.as_slice());
    Ok(LessSafeKey::new(key.map_err(|_| anyhow::anyhow!("a key of 32 bytes"))?))
}

/// Makes a person's key, and writes it under a passphrase; the public half.
pub(crate) fn create(path: &Path) -> anyhow::Result<String> {
    let first = passphrase("a passphrase for the new key: ")?;
    if first.chars().count() < 8 {
        return Err(Error::Usage("a passphrase has at least 8 characters".into()).into());
    }
    let mut seed = Zeroizing::new([0_u8; 32]);
    stdx::id::fill_random(seed.as_mut_slice());
    let mut salt = [0_u8; 16];
    stdx::id::fill_random(&mut salt);
    let mut sealed = seed.to_vec();
    // The wrapping key is used once: its salt is fresh.
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    wrapping(&first, &salt)?
        .seal_in_place_append_tag(nonce, Aad::from(PREFIX), &mut sealed)
        .map_err(|_| anyhow::anyhow!("seal the key"))?;
    let text = format!("{PREFIX}{}\n", STANDARD_NO_PAD.encode([&salt, sealed.as_slice()].concat()));
    stdx::durable::create_new(path, text.as_bytes(), 0o600)
        .with_context(|| format!("write '{}'", path.display()))?;
    Ok(SigningKey::from_seed(&seed)?.public())
}

/// Opens a person's key file.
pub(crate) fn open(path: &Path) -> anyhow::Result<SigningKey> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read person's key '{}'", path.display()))?;
    let wrong = |what: &str| Error::Usage(format!("'{}': {what}", path.display()));
    let bytes = text.trim().strip_prefix(PREFIX).and_then(|text| STANDARD_NO_PAD.decode(text).ok());
    let bytes = bytes.ok_or_else(|| wrong("expected a person's key"))?;
    let (salt, sealed) = bytes.split_at_checked(16).ok_or_else(|| wrong("it is cut short"))?;
    let given = passphrase(&format!("passphrase of '{}': ", path.display()))?;
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let key = wrapping(&given, salt)?;
    let seed = key
        .open_in_place(nonce, Aad::from(PREFIX), sealed.as_mut_slice())
        .map_err(|_| wrong("the passphrase does not open it"))?;
    let seed: Zeroizing<[u8; 32]> =
        Zeroizing::new(<[u8; 32]>::try_from(&*seed).map_err(|_| wrong("it is cut short"))?);
    Ok(SigningKey::from_seed(&seed)?)
}

/// Refuses a person whose role does not drive runs.
pub(crate) fn must_drive(config: &Config, person: &str) -> anyhow::Result<()> {
    if config.persons.is_empty() {
        return Ok(());
    }
    let Some(known) = config.persons.get(person) else {
        return Err(
            Error::Usage(format!("there is no person '{person}'; name one with --as")).into()
        );
    };
    match known.is_one_of(&DRIVING_ROLES) {
        true => Ok(()),
        false => Err(Error::Refused {
            what: format!(
                "expected '{person}' to be {}, seen {}",
                DRIVING_ROLES.join(" or "),
                match known.roles.is_empty() {
                    true => "no role".to_owned(),
                    false => known.roles.join(", "),
                }
            ),
            hint: "somebody with that role has to do it: roles stand in [person]".into(),
        }
        .into()),
    }
}

/// The key that a person signs with, when the configuration knows persons.
pub(crate) fn signer(
    config: &Config,
    person: &str,
    file: Option<&Path>,
) -> anyhow::Result<Option<SigningKey>> {
    if config.persons.is_empty() {
        return Ok(None);
    }
    let Some(known) = config.persons.get(person) else {
        let names: Vec<&str> = config.persons.keys().map(String::as_str).collect();
        return Err(Error::Usage(format!(
            "there is no person '{person}'; known: {}; name one with --as",
            names.join(", ")
        ))
        .into());
    };
    let path = file.map_or_else(|| default_path(config, person), Path::to_path_buf);
    let key = open(&path)?;
    if key.public() != known.key {
        return Err(Error::Usage(format!(
            "'{}' is not the key of '{person}' in the configuration",
            path.display()
        ))
        .into());
    }
    Ok(Some(key))
}
