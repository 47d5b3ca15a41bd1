//! Who may speak to the API server.

use std::path::{Path, PathBuf};

use crate::workdir::Workdir;

/// May do everything.
pub(super) const ADMIN: &str = "admin";

/// All users. Those besides [`ADMIN`] may do nothing until a test grants it.
pub(super) const USERS: [&str; 3] = [ADMIN, "recovery", "stranger"];

/// The token of a user.
///
/// # Panics
/// When there is no such user.
pub(super) fn token(user: &str) -> String {
    assert!(USERS.contains(&user), "there is no user '{user}', only {USERS:?}");
    format!("token-of-{user}-5d1b7e")
}

/// The users as the API server reads them: token, name, id, groups.
pub(super) fn table() -> String {
    let line = |user: &str| {
        let groups = if user == ADMIN { "system:masters" } else { "" };
        format!("{},{user},{user},\"{groups}\"\n", token(user))
    };
    USERS.iter().copied().map(line).collect()
}

pub(super) fn kubeconfig(workdir: &Workdir, user: &str) -> PathBuf {
    workdir.join(format!("kubeconfig-{user}"))
}

pub(super) fn write_kubeconfigs(workdir: &Workdir, port: u16, authority: &Path) {
    for user in USERS {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: https://127.0.0.1:{port}\n    \
             certificate-authority: {}\n\
             users:\n- name: {user}\n  user:\n    token: {}\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: {user}\n    \
             namespace: default\n",
            authority.display(),
            token(user)
        );
        workdir.file(kubeconfig(workdir, user), text);
    }
}
