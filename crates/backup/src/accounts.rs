//! Names of owners and groups.

use std::collections::HashMap;
use std::fs;

/// Names by number, from `/etc/passwd` and `/etc/group`. Accounts that come from elsewhere (LDAP)
/// appear by their number, which a restore on the same machine understands just as well.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Accounts {
    /// Reads both files; one that cannot be read names nobody.
    pub(crate) fn read() -> Self {
        let table = |path| fs::read_to_string(path).map(|text| parse(&text)).unwrap_or_default();
        Self { users: table("/etc/passwd"), groups: table("/etc/group") }
    }

    /// The user's name, or the number in digits.
    pub(crate) fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The group's name, or the number in digits.
    pub(crate) fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// `name:password:number:…`, passwd(5) and group(5). The first name of a number counts, as for
/// libc.
fn parse(table: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in table.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{Accounts, parse};

    #[test]
    fn the_first_name_of_a_number_counts_and_others_stay_numbers() {
        let table = "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\nbad\npostgres:x:109:117::/:\n";
        let accounts = Accounts { users: parse(table), groups: parse("postgres:x:117:\n") };
        assert_eq!(accounts.user(0), "root");
        assert_eq!(accounts.user(109), "postgres");
        assert_eq!(accounts.user(4711), "4711");
        assert_eq!(accounts.group(117), "postgres");
    }
}
