//! This test program, run again as another process that plays one test's second role.

use std::process::Command;

use testbed::{Workdir, as_postgres};

const VARIABLE: &str = "STORE_TEST_ROLE";

/// What the process was started to do, if another one started it.
#[allow(clippy::disallowed_methods)] // the way a test talks to its own child
pub(crate) fn role() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// This program, set to run only the test `name` in the given role, as an unprivileged user.
pub(crate) fn command(workdir: &Workdir, name: &str, role: &str) -> Command {
    let program = workdir.join("test-program");
    if !program.exists() {
        // The checkout may lie where the unprivileged user cannot go.
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    }
    let mut command = Command::new(program);
    as_postgres(&mut command);
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(VARIABLE, role);
    command
}
