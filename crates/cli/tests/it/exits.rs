//! How `wal get` ends: whatever is wrong, never with a code that PostgreSQL takes for the end of
//! the archive (1 to 125).

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testbed::poll;
use testbed::postgres::Stop;

use crate::program::{Ran, program};
use crate::site::{DEADLINE, Site, edit};

/// A restored directory that is not started, and a stopped site.
struct Bench {
    site: Site,
    ticket: PathBuf,
    segments: Vec<String>,
    destination: PathBuf,
}

impl Bench {
    fn make(major: u32) -> Self {
        let mut site = Site::new(major);
        site.cluster.psql("CREATE TABLE t (i int)");
        site.backup();
        let segments = (1..=5)
            .map(|i| {
                site.cluster.psql(&format!("INSERT INTO t VALUES ({i})"));
                site.archive()
            })
            .collect();
        site.cluster.stop(Stop::Fast);
        let restored = site.restored("restored", "--latest");
        let data = restored.cluster.data_dir().to_owned();
        Self {
            site,
            ticket: data.join("rollforward.ticket.json"),
            segments,
            destination: data.join("pg_wal/RECOVERYXLOG"),
        }
    }

    fn get(&self, name: &str) -> Command {
        let mut command = program();
        command.args(["wal", "get", "--ticket"]).arg(&self.ticket);
        command.arg(name).arg(&self.destination);
        command
    }

    /// Runs it through a shell, as PostgreSQL does, with `around` in front of it.
    fn shell(&self, around: &str, name: &str) -> Ran {
        let get = self.get(name);
        let words: Vec<_> =
            get.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let line = format!("{around} {} {}", get.get_program().to_string_lossy(), words.join(" "));
        let mut command = Command::new("sh");
        testbed::as_postgres(&mut command);
        Ran::of(command.args(["-c", &line]))
    }

    #[track_caller]
    fn aborts(&self, name: &str, code: &str) {
        let said = Ran::of(&mut self.get(name)).aborted();
        assert!(said.contains(&format!("error[{code}]")), "expected {code}: {said}");
        assert!(!self.destination.exists());
    }

    /// Changes a file, checks that the command then ends by SIGABRT, and puts it back.
    #[track_caller]
    fn aborts_with(&self, path: &Path, content: Option<&str>) -> String {
        let kept = path.with_extension("kept");
        fs::rename(path, &kept).unwrap();
        if let Some(content) = content {
            fs::write(path, content).unwrap();
            testbed::give_to_postgres(path);
        }
        let said = Ran::of(&mut self.get(&self.segments[0])).aborted();
        assert!(!self.destination.exists());
        fs::rename(kept, path).unwrap();
        said
    }

    /// The segment behind the end: proved absent.
    fn behind_the_end(&self) -> String {
        let last = u64::from_str_radix(&self.segments.last().unwrap()[8..], 16).unwrap();
        format!("00000001{:016X}", last + 1)
    }
}

#[test]
fn only_a_proved_absence_ends_with_1() {
    let bench = Bench::make(15);
    Ran::of(&mut bench.get(&bench.segments[1])).done_silently();
    fs::remove_file(&bench.destination).unwrap();
    for absent in [bench.behind_the_end(), "00000002.history".into()] {
        let ran = Ran::of(&mut bench.get(&absent));
        // The history of the reserved timeline is told to be there, so that nobody takes its id.
        assert!(matches!(ran.status.code(), Some(0 | 1)), "{absent}: {ran:?}");
    }
    assert_eq!(Ran::of(&mut bench.get(&bench.behind_the_end())).status.code(), Some(1));
    let _ = fs::remove_file(&bench.destination);

    let [main, second] = ["main", "second"].map(|name| bench.site.repository(name));
    let away = |path: &Path| fs::rename(path, path.with_extension("away")).unwrap();
    let back = |path: &Path| fs::rename(path.with_extension("away"), path).unwrap();
    // One of two says nothing: what the other has is good, what it has not is not proved absent.
    away(&main);
    let ran = Ran::of(&mut bench.get(&bench.segments[4]));
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    fs::remove_file(&bench.destination).unwrap();
    Ran::of(&mut bench.get(&bench.behind_the_end())).aborted();
    away(&second);
    bench.aborts(&bench.behind_the_end(), "RF0204");
    // Asked for when PostgreSQL promotes and knows no target any more: answered by nobody's leave.
    assert_eq!(Ran::of(&mut bench.get("00000001.history")).status.code(), Some(1));
    back(&main);
    back(&second);
    bench.aborts("0000000100000000000000ZZ", "RF0102");
    bench.aborts("000000070000000000000001", "RF0114");
}

#[test]
fn broken_key_configuration_and_ticket_abort() {
    let bench = Bench::make(17);
    let key = bench.site.folder.join("host.key");
    for content in [None, Some(""), Some("garbage\n")] {
        bench.aborts_with(&key, content);
    }
    let other = repository::key_file::KeyFile::random().render();
    assert!(bench.aborts_with(&key, Some(&other)).contains("RF0305"));
    let config = bench.site.config();
    for content in [None, Some("version = 1\nunknown = 1\n"), Some("][\n"), Some("version = 1\n")] {
        bench.aborts_with(&config, content);
    }
    let ticket = fs::read_to_string(&bench.ticket).unwrap();
    let broken = [
        None,
        Some(String::new()),
        Some("{}".into()),
        Some(ticket[..ticket.len() / 2].into()),
        Some(ticket.replace("\"segment_size\": 1048576", "\"segment_size\": 7")),
        Some(ticket.replace("\"segment_size\": 1048576", "\"segment_size\": 18446744073709551615")),
        Some(ticket.replace("\"lineage\": \"", "\"lineage\": \"x")),
        Some(ticket.replace("\"begin\": \"", "\"begin\": \"/")),
        Some("\0\u{1}[[[[[[[[[[[[[[[[[[[[[[[[".into()),
    ];
    for content in &broken {
        assert_ne!(content.as_deref(), Some(ticket.as_str()), "the ticket has another form");
        bench.aborts_with(&bench.ticket, content.as_deref());
    }
    Ran::of(&mut bench.get(&bench.segments[0])).done_silently();
}

#[test]
fn wrong_words_abort_and_only_who_asks_for_help_gets_it() {
    for words in [
        "wal get",
        "wal get 000000010000000000000001",
        "wal get a b c",
        "wal get --no-such-option a b",
        "wal get --ticket",
        "wal get --ticket t --cluster c a b",
        "wal get a b --config /does/not/exist",
        "--config /does/not/exist wal get a b",
        "--json wal get a b --config /does/not/exist",
        "wal get --ticket /does/not/exist 000000010000000000000001 /tmp/x/y",
    ] {
        let ran = Ran::of(program().args(words.split(' ')));
        assert_eq!(ran.status.signal(), Some(6), "{ran:?}");
        assert!(!ran.stderr.is_empty(), "{words}");
    }
    for words in ["wal get --help", "wal get -h"] {
        let ran = Ran::of(program().args(words.split(' ')));
        assert!(ran.status.success(), "{ran:?}");
        assert!(ran.stdout.contains("SIGABRT"), "{ran:?}");
    }
}

#[test]
fn no_lack_of_anything_ends_with_a_code_that_promotes() {
    let bench = Bench::make(18);
    let segment = &bench.segments[0];
    let behind = bench.behind_the_end();
    let limits = (3..24).map(|files| format!("ulimit -n {files};"));
    let limits = limits.chain((4..11).map(|power| format!("ulimit -v {};", 1 << (power + 11))));
    let limits = limits.chain(["ulimit -f 0;", "ulimit -f 1;", "ulimit -t 0;"].map(String::from));
    let limits: Vec<String> = limits
        .chain(["exec 2>/dev/full;", "exec 2>&-;", "exec 1>&- 2>&-;"].map(String::from))
        .collect();
    for limit in &limits {
        for name in [segment, &behind] {
            let ran = bench.shell(limit, name);
            let harmless = match ran.status.code() {
                Some(0) => bench.destination.metadata().is_ok_and(|seen| seen.len() == 1 << 20),
                // Behind the end it may be 1; with lines of a shell in between, 128 and more is a
                // signal, and 126 and 127 say that it was not run.
                Some(1) => name == &behind,
                Some(code) => code > 125,
                None => true,
            };
            assert!(harmless, "{limit} {name}: {ran:?}");
            let _ = fs::remove_file(&bench.destination);
            let _ = fs::remove_dir_all(bench.destination.with_file_name("rollforward.prefetch"));
        }
    }
    // A message that cannot be printed does not change how it ends.
    edit(&bench.ticket, "\"lineage\": \"", "\"lineage\": \"x");
    for limit in ["exec 2>/dev/full;", "exec 2>&-;"] {
        let ran = bench.shell(limit, segment);
        let aborted = ran.status.signal() == Some(6) || ran.status.code() == Some(134);
        assert!(aborted, "{limit}: {ran:?}");
    }
}

#[test]
fn segments_come_from_the_spool_when_they_are_there() {
    let bench = Bench::make(16);
    Ran::of(&mut bench.get(&bench.segments[0])).done_silently();
    let spool = bench.destination.with_file_name("rollforward.prefetch");
    poll(DEADLINE, "the filler to be ahead", || {
        bench.segments[1..].iter().all(|name| spool.join(name).exists())
    });
    let spooled = spool.join(&bench.segments[1]);
    let spooled = fs::metadata(&spooled).map(|seen| std::os::unix::fs::MetadataExt::ino(&seen));
    for name in ["main", "second"] {
        let path = bench.site.repository(name);
        fs::rename(&path, path.with_extension("away")).unwrap();
    }
    Ran::of(&mut bench.get(&bench.segments[1])).done_silently();
    let delivered = fs::metadata(&bench.destination).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&delivered), spooled.unwrap());
    // One that it does not have is not taken for absent.
    fs::remove_file(&bench.destination).unwrap();
    let gone = spool.join(&bench.segments[3]);
    fs::remove_file(gone).unwrap();
    bench.aborts(&bench.segments[3], "RF0204");
}

impl Ran {
    /// Checks for success without a word, as PostgreSQL's log wants it.
    #[track_caller]
    fn done_silently(&self) {
        assert!(self.status.success(), "{self:?}");
        assert_eq!((self.stdout.as_str(), self.stderr.as_str()), ("", ""));
    }
}

#[test]
fn a_finished_standard_input_changes_nothing() {
    let bench = Bench::make(14);
    let mut command = bench.get(&bench.segments[2]);
    Ran::of(command.stdin(Stdio::null())).done_silently();
}
