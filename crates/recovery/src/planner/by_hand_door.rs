//! What a person types to shut and to open a door: a line that moves it, and one that looks. Each
//! ends with 0 when it should. No token stands in an argument list.

use super::build::shell;
use crate::service::Door;

fn words(words: &[&str]) -> String {
    shell(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

/// The lines for a door; `None`: the plan has to add what the cluster's context is.
pub(super) fn moved(door: &Door, shuts: bool) -> Option<String> {
    match door {
        Door::File { path, content } => Some(file(path, content, shuts)),
        Door::Command { shut, open, probe } => Some(match shuts {
            true => format!("{}\n{}", shell(shut), shell(probe)),
            // It ends with 1 when the door is open, and with something else when it cannot tell.
            false => format!("{}\n{}; test $? -eq 1", shell(open), shell(probe)),
        }),
        Door::Http { shut, open, probe, shut_word, login } => {
            let url = if shuts { shut } else { open };
            let moved = curl(login.as_deref(), &["-X", "PUT", url]);
            let (seen, word) = (curl(login.as_deref(), &[probe]), words(&[shut_word]));
            Some(match shuts {
                true => format!("{moved}\n{seen} | grep -F -e {word}"),
                false => format!("{moved}\n{seen} | {{ ! grep -F -e {word}; }}"),
            })
        }
        Door::PgBouncer { admin, database } => Some(pgbouncer(admin, database, shuts)),
        Door::Kubernetes { .. } => None,
    }
}

/// The file appears as a whole: whoever looks at it reads all of it.
fn file(path: &str, content: &str, shuts: bool) -> String {
    let place = words(&[path]);
    if !shuts {
        return format!("rm -f {place}\ntest ! -e {place}");
    }
    let made = words(&[&format!("{path}.new")]);
    // Bytes that would break the line are written as printf writes them.
    let content = content.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    format!("printf '%b' {} >{made} && mv {made} {place}\ntest -e {place}", words(&[&content]))
}

/// A call whose token comes over standard input, from a command that is no process.
fn curl(login: Option<&str>, rest: &[&str]) -> String {
    let Some(login) = login else { return format!("curl -fsS {}", words(rest)) };
    let token = match login.split_once(':') {
        Some(("env", name)) => format!("\"${name}\""),
        Some(("file", path)) => format!("\"$(cat {})\"", words(&[path])),
        _ => "\"$DOOR_TOKEN\"".to_owned(),
    };
    format!(
        "printf 'header = \"Authorization: Bearer %s\"\\n' {token} | curl -fsS -K - {}",
        words(rest)
    )
}

/// `PAUSE` ends when the running transactions have.
fn pgbouncer(admin: &str, database: &str, shuts: bool) -> String {
    // What stands last counts; an address has its database in its path.
    let console = match admin.contains("://") {
        true => admin.to_owned(),
        false => format!("{admin} dbname=pgbouncer"),
    };
    let verb = if shuts { "PAUSE" } else { "RESUME" };
    let told = format!("{verb} \"{}\"", database.replace('"', "\"\""));
    let psql = |sql: &str| words(&["psql", "-X", &console, "-c", sql]);
    format!("{}\n{}", psql(&told), psql("SHOW DATABASES"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_in_no_argument_list() {
        let door = |login: &str| Door::Http {
            shut: "https://shop/door?to=shut".into(),
            open: "https://shop/door?to=open".into(),
            probe: "https://shop/door".into(),
            shut_word: "shut".into(),
            login: Some(login.into()),
        };
        let lines = moved(&door("env:TOKEN"), true).unwrap();
        assert_eq!(
            lines,
            "printf 'header = \"Authorization: Bearer %s\"\\n' \"$TOKEN\" | curl -fsS -K - -X PUT \
             'https://shop/door?to=shut'\nprintf 'header = \"Authorization: Bearer %s\"\\n' \
             \"$TOKEN\" | curl -fsS -K - https://shop/door | grep -F -e shut"
        );
        let lines = moved(&door("file:/etc/door token"), false).unwrap();
        assert!(lines.contains("\"$(cat '/etc/door token')\" | curl"), "{lines}");
        assert!(lines.ends_with("| { ! grep -F -e shut; }"), "{lines}");
        let lines = moved(&door("aws-secret:door"), true).unwrap();
        assert!(lines.contains("\"$DOOR_TOKEN\""), "{lines}");
    }

    #[test]
    fn a_file_is_made_beside_its_place_and_moved() {
        let door = Door::File { path: "/run/shop/down".into(), content: "it's\n\\closed\n".into() };
        assert_eq!(
            moved(&door, true).unwrap(),
            "printf '%b' 'it'\\''s\\n\\\\closed\\n' >/run/shop/down.new && mv /run/shop/down.new \
             /run/shop/down\ntest -e /run/shop/down"
        );
        assert_eq!(moved(&door, false).unwrap(), "rm -f /run/shop/down\ntest ! -e /run/shop/down");
    }

    #[test]
    fn a_pooler_is_told_on_its_console() {
        let door = Door::PgBouncer { admin: "host=/run port=6432".into(), database: "shop".into() };
        assert_eq!(
            moved(&door, true).unwrap(),
            "psql -X 'host=/run port=6432 dbname=pgbouncer' -c 'PAUSE \"shop\"'\n\
             psql -X 'host=/run port=6432 dbname=pgbouncer' -c 'SHOW DATABASES'"
        );
        assert!(moved(&door, false).unwrap().contains("'RESUME \"shop\"'"));
    }
}
