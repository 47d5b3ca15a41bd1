//! Processes of a server, as /proc shows them.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::poll;

/// Process 1 reaps slowly on some machines: a killed postmaster may stay a zombie for seconds.
const GONE_DEADLINE: Duration = Duration::from_secs(30);

/// Returns true while the process exists, be it as a zombie: PostgreSQL, too, takes a zombie for
/// a running server.
pub(super) fn exists(pid: i32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap_or(false)
}

/// Returns true while the process can still hold resources: it exists and is not a zombie.
pub(super) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Returns the direct children of `parent`.
pub(super) fn children(parent: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("read /proc");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).is_some_and(|(_, ppid)| ppid == parent))
        .collect()
}

/// Sends a signal; a process that is gone already is no error.
pub(super) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until none of the processes can hold resources.
pub(super) fn wait_until_dead(pids: &[i32]) {
    poll(GONE_DEADLINE, "the server's processes to end", || pids.iter().all(|&pid| !is_alive(pid)));
}

/// Waits until the process has left the process table.
pub(super) fn wait_until_gone(pid: i32) {
    poll(GONE_DEADLINE, "the postmaster to be gone", || !exists(pid));
}

/// Reads state and parent from /proc/PID/stat (proc(5)).
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything, also a parenthesis.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{self, Command};

    use super::*;

    #[test]
    fn a_child_is_found_and_is_dead_when_killed_though_not_gone() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children(i32::try_from(process::id()).unwrap()).contains(&pid));
        assert!(is_alive(pid));
        send(pid, Signal::KILL);
        wait_until_dead(&[pid]);
        assert!(exists(pid), "an unreaped child stays in the process table");
        child.wait().unwrap();
        assert!(!exists(pid));
    }
}
