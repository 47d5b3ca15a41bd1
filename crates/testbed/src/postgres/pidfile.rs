//! The file `postmaster.pid`.

use std::fs;
use std::path::{Path, PathBuf};

/// What a running server says about itself in `postmaster.pid`.
///
/// PostgreSQL: `LOCK_FILE_LINE_…`, src/include/utils/pidfile.h.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    /// The postmaster.
    pub(super) pid: i32,
    /// The TCP port; missing while the server is just beginning to start.
    pub(super) port: Option<u16>,
    /// The folder of its socket, when it has one.
    pub(super) socket_dir: Option<PathBuf>,
    /// Whether it takes sessions: `ready`, or `standby` without hot standby.
    pub(super) is_up: bool,
}

/// Reads the file below `data_dir`. None when there is none, or it is being written.
pub(super) fn read(data_dir: &Path) -> Option<PidFile> {
    parse(&fs::read_to_string(data_dir.join("postmaster.pid")).ok()?)
}

fn parse(text: &str) -> Option<PidFile> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let field = |index: usize| lines.get(index).copied().filter(|line| !line.is_empty());
    Some(PidFile {
        pid: field(0)?.parse().ok()?,
        port: field(3).and_then(|port| port.parse().ok()),
        socket_dir: field(4).map(PathBuf::from),
        is_up: matches!(field(7), Some("ready" | "standby")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_server_is_up_and_a_starting_one_is_not() {
        let ready = "77\n/data\n1700000000\n5617\n/run\n127.0.0.1\n  100 200\nready   \n";
        let expected =
            PidFile { pid: 77, port: Some(5617), socket_dir: Some("/run".into()), is_up: true };
        assert_eq!(parse(ready), Some(expected));
        assert!(!parse(&ready.replace("ready   ", "starting")).unwrap().is_up);
        let early = PidFile { pid: 77, port: None, socket_dir: None, is_up: false };
        assert_eq!(parse("77\n/data\n1700000000\n"), Some(early));
        assert_eq!(parse(""), None);
    }
}
