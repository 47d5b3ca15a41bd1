//! Whether a password is the one of a SCRAM verifier, as PostgreSQL stores it
//! (`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`; RFC 5803, src/common/scram-common.c).

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// More iterations than any server uses: nobody waits for them.
const ITERATIONS_MAX: u32 = 1_000_000;

struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
}

fn parse(text: &str) -> Option<Verifier> {
    let rest = text.strip_prefix("SCRAM-SHA-256$")?;
    let (parameters, keys) = rest.split_once('$')?;
    let (iterations, salt) = parameters.split_once(':')?;
    let (stored_key, _server_key) = keys.split_once(':')?;
    let iterations = iterations.parse().ok().filter(|count| *count <= ITERATIONS_MAX)?;
    Some(Verifier {
        iterations: NonZeroU32::new(iterations)?,
        salt: STANDARD.decode(salt).ok()?,
        stored_key: STANDARD.decode(stored_key).ok()?,
    })
}

/// Whether the verifier is the password's. One in another form is not.
pub(crate) fn fits(verifier: &str, password: &[u8]) -> bool {
    let Some(verifier) = parse(verifier) else { return false };
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, verifier.iterations, &verifier.salt, password, &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    constant_time::verify_slices_are_equal(stored_key.as_ref(), &verifier.stored_key).is_ok()
}

#[cfg(test)]
mod tests {
    use postgres_protocol::password::scram_sha_256;

    use super::fits;

    #[test]
    fn a_verifier_is_of_its_password_only() {
        let verifier = scram_sha_256(b"pencil");
        assert!(fits(&verifier, b"pencil"));
        assert!(!fits(&verifier, b"pen"));
        for other in ["", "md5c0ffee", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AA==$AA==:AA=="] {
            assert!(!fits(other, b"pencil"), "{other}");
        }
        let slow = verifier.replace("$4096:", "$4294967295:");
        assert!(!fits(&slow, b"pencil"));
    }
}
