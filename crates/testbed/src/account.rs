//! Becoming user `postgres`: PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::tools::INSTALL_COMMAND;

/// Numeric ids of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

/// Returns true when this process is root and can therefore run things as user `postgres`.
///
/// When false, everything runs as the current user, which PostgreSQL accepts just as well.
pub fn can_drop_privileges() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes `command` run as user `postgres` when this process is root, else as the current user,
/// in `/`, without any `PG…` variable of the caller, and with messages in English.
///
/// Supplementary groups are dropped. The program and its arguments must be readable by that user:
/// see [`crate::binary`] and [`crate::Workdir`].
///
/// # Panics
/// When this process is root and there is no user `postgres`.
pub fn as_postgres(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C.UTF-8").env_remove("LANGUAGE").current_dir("/");
    if can_drop_privileges() {
        let account = postgres();
        // With `uid` set and no groups given, std drops the supplementary groups as well.
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Makes user `postgres` the owner of `path` (not of what is below it) when this process is root.
///
/// # Panics
/// When the owner cannot be changed.
pub fn give_to_postgres(path: &Path) {
    if can_drop_privileges() {
        let account = postgres();
        chown(path, Some(account.uid), Some(account.gid))
            .unwrap_or_else(|error| panic!("chown '{}' to postgres: {error}", path.display()));
    }
}

fn postgres() -> Account {
    static FOUND: OnceLock<Account> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let table = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
        parse_passwd(&table, "postgres")
            .unwrap_or_else(|| panic!("there is no user 'postgres'; install: {INSTALL_COMMAND}"))
    })
}

/// Finds `name` in the text of /etc/passwd (`name:password:uid:gid:…`, passwd(5)).
fn parse_passwd(table: &str, name: &str) -> Option<Account> {
    let line = table.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(Account { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let table = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:8::/:\npostgres:x:109:117::/:\n";
        assert_eq!(parse_passwd(table, "postgres"), Some(Account { uid: 109, gid: 117 }));
        assert_eq!(parse_passwd(table, "nobody"), None);
    }

    #[test]
    fn a_command_runs_as_an_unprivileged_user() {
        let output = as_postgres(Command::new("id").arg("-u").env("PGHOST", "elsewhere")).output();
        assert_ne!(output.unwrap().stdout, b"0\n");
    }
}
