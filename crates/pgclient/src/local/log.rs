//! The end of a server's log, for errors.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How much of a log an error repeats.
const TAIL_BYTES_MAX: u64 = 4096;
const TAIL_LINES_MAX: usize = 20;

/// The size of a file in bytes; 0 if there is none.
pub(super) fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// The last lines written to `log` after `from`, or, if the server's own collector took over, the
/// last lines of the collector's file.
pub(super) fn tail(data_dir: &Path, log: &Path, from: u64) -> String {
    let own = last_lines(log, from);
    match collected(data_dir) {
        Some(file) if own.contains("redirecting log output") || own.is_empty() => {
            last_lines(&file, 0)
        }
        _ => own,
    }
}

/// The file that the logging collector writes. PostgreSQL: `LOG_METAINFO_DATAFILE`,
/// src/include/postmaster/syslogger.h: lines of format and path.
pub(super) fn collected(data_dir: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(data_dir.join("current_logfiles")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("stderr "))?;
    Some(data_dir.join(path))
}

fn last_lines(path: &Path, from: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = from.max(file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // A log that cannot be read must not hide the error that it was to explain.
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(TAIL_LINES_MAX);
    lines.get(first..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn shows_what_came_after_the_start_and_at_most_twenty_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "old\nnew\n").unwrap();
        assert_eq!(tail(dir.path(), &log, 4), "new");
        std::fs::write(&log, "line\n".repeat(3000)).unwrap();
        assert_eq!(tail(dir.path(), &log, 0).lines().count(), 20);
        assert_eq!(tail(dir.path(), &dir.path().join("none"), 0), "");
    }

    #[test]
    fn follows_the_logging_collector() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "LOG:  redirecting log output to logging collector process\n")
            .unwrap();
        std::fs::write(dir.path().join("current_logfiles"), "stderr collected\n").unwrap();
        std::fs::write(dir.path().join("collected"), "FATAL:  why\n").unwrap();
        assert_eq!(tail(dir.path(), &log, 0), "FATAL:  why");
    }
}
