//! libpq's password file: `hostname:port:database:username:password`, first match wins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::options::Place;
use crate::{Error, Secret};

/// The host name that stands for a server reached through the default socket folder.
const LOCALHOST: &str = "localhost";

/// The password of the first line that fits; `None` if none does.
///
/// # Errors
/// [`Error::Conninfo`] if the file is missing or if others may read it: libpq ignores such a file
/// with a warning, but here it was asked for by name.
///
/// PostgreSQL: `passwordFromFile`, src/interfaces/libpq/fe-connect.c.
pub(crate) fn look_up(
    file: &Path,
    place: &Place,
    database: &str,
    user: &str,
) -> Result<Option<Secret>, Error> {
    let bad =
        |what: String| Error::Conninfo { reason: format!("passfile '{}': {what}", file.display()) };
    let metadata = fs::metadata(file).map_err(|error| bad(error.to_string()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(bad("group or others may read it; permissions must be 0600 or less".into()));
    }
    let text = fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    let port = place.port.to_string();
    let host = if place.is_socket() { LOCALHOST } else { place.host.as_str() };
    let fits = |line: &&str| {
        let fields = fields(line);
        let wanted = [host, port.as_str(), database, user];
        fields.len() >= 5
            && fields.iter().zip(wanted).enumerate().all(|(at, (field, wanted))| {
                field == "*" || field == wanted || (at == 0 && *field == place.host)
            })
    };
    let line = text.lines().filter(|line| !line.starts_with('#')).find(fits);
    Ok(line.and_then(|line| fields(line).into_iter().nth(4)).map(Secret::new))
}

/// The line's fields; `\` takes the next character as it is; the fifth keeps its colons.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        };
        if let Some(field) = fields.last_mut() {
            field.push(c);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::look_up;
    use crate::{ConnectOptions, Secret};

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pass");
        let lines =
            "# note\nother:*:*:*:no\nh:5433:d:u:a\\:b:c\nlocalhost:*:*:u:socket\n::1:1:d:u:v6\n";
        fs::write(&file, lines).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let check = |conninfo: &str, expect: Option<&str>| {
            let options = ConnectOptions::parse(conninfo).unwrap();
            let place = &options.places[0];
            let seen = look_up(&file, place, options.database(), options.user()).unwrap();
            assert_eq!(seen.as_ref().map(Secret::expose), expect, "{conninfo}");
        };
        check("host=h port=5433 dbname=d user=u", Some("a:b:c"));
        check("host=h port=5434 dbname=d user=u", None);
        check("host=/run/x dbname=q user=u", Some("socket"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pass");
        fs::write(&file, "*:*:*:*:hunter2").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let options = ConnectOptions::parse("host=h").unwrap();
        let error = look_up(&file, &options.places[0], "d", "u").unwrap_err().to_string();
        assert!(error.contains("0600") && !error.contains("hunter2"), "{error}");
    }
}
