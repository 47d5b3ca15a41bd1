//! A key that signs updates: name, algorithm and secret (RFC 8945), as BIND and `nsupdate` write
//! it. The value is in no error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::Name;
use hickory_proto::rr::TSigner;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use recovery::effect::Failure;
use zeroize::Zeroizing;

/// The clocks of both sides may differ by so much, in seconds (RFC 8945, section 10).
const FUDGE_S: u16 = 300;

/// A key, ready to sign.
pub(super) struct Key {
    pub(super) signer: TSigner,
    /// Its name, for people.
    pub(super) name: String,
}

impl Key {
    /// `key "NAME" { algorithm hmac-sha256; secret "…"; };` as `tsig-keygen` prints it, or
    /// `[ALGORITHM:]NAME:SECRET` as `nsupdate -y` takes it.
    ///
    /// # Errors
    /// It is none of both; `reference` says which one.
    pub(super) fn parse(text: &str, reference: &str) -> Result<Self, Failure> {
        let wrong = |what: &str| {
            Failure::terminal("RF1110", format!("the key in {reference} {what}")).hint(
                "expected what `tsig-keygen -a hmac-sha256 NAME` prints, or \
                 hmac-sha256:NAME:SECRET",
            )
        };
        let (name, algorithm, secret) = parts(text).ok_or_else(|| wrong("is no TSIG key"))?;
        let algorithm = match algorithm.to_ascii_lowercase().trim_end_matches('.') {
            "hmac-sha256" => TsigAlgorithm::HmacSha256,
            "hmac-sha384" => TsigAlgorithm::HmacSha384,
            "hmac-sha512" => TsigAlgorithm::HmacSha512,
            other => {
                let what = format!("has algorithm '{other}', expected hmac-sha256, -384 or -512");
                return Err(wrong(&what));
            }
        };
        let secret = STANDARD.decode(secret).map(Zeroizing::new);
        let secret = secret.map_err(|_| wrong("has a secret that is not in base64"))?;
        let owner = Name::from_ascii(name).map_err(|_| wrong("has a name that is none"))?;
        let signer = TSigner::new(secret.to_vec(), algorithm, owner.to_lowercase(), FUDGE_S)
            .map_err(|_| wrong("cannot sign"))?;
        Ok(Self { signer, name: name.trim_end_matches('.').to_owned() })
    }
}

/// Name, algorithm and secret.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.trim();
    if !text.contains('{') {
        let mut fields = text.rsplitn(3, ':');
        let (secret, name) = (fields.next()?, fields.next()?);
        let algorithm = fields.next().unwrap_or("hmac-sha256");
        return (!name.is_empty() && !secret.is_empty()).then_some((name, algorithm, secret));
    }
    let is_between = |c: char| c.is_whitespace() || "{};\"".contains(c);
    let words: Vec<&str> = text.split(is_between).filter(|word| !word.is_empty()).collect();
    let after = |wanted: &str| {
        let at = words.iter().position(|word| *word == wanted)?;
        words.get(at + 1).copied()
    };
    Some((after("key")?, after("algorithm")?, after("secret")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_bind_and_nsupdate_write_them() {
        let secret = "c2VjcmV0c2VjcmV0";
        let bind = format!(
            "key \"dr.acme.example\" {{\n\talgorithm hmac-sha512;\n\tsecret \"{secret}\";\n}};\n"
        );
        for (text, name, algorithm) in [
            (bind, "dr.acme.example", TsigAlgorithm::HmacSha512),
            (format!("hmac-sha384:dr:{secret}"), "dr", TsigAlgorithm::HmacSha384),
            (format!("dr:{secret}\n"), "dr", TsigAlgorithm::HmacSha256),
        ] {
            let key = Key::parse(&text, "env:KEY").unwrap();
            assert_eq!(key.name, name);
            assert_eq!(*key.signer.algorithm(), algorithm);
            assert_eq!(key.signer.key(), b"secretsecret");
        }
    }

    #[test]
    fn a_wrong_key_is_told_without_its_value() {
        for text in [
            "",
            "s3cret",
            "name:",
            ":s3cret",
            "md5:name:s3cretAA",
            "name:s3cret!",
            "key { algorithm hmac-sha256; };",
        ] {
            let failure = Key::parse(text, "file:/k").map(|_| ()).unwrap_err();
            assert!(failure.message.contains("file:/k"), "{failure:?}");
            assert!(!format!("{failure:?}").contains("s3cret"), "{failure:?}");
        }
    }
}
