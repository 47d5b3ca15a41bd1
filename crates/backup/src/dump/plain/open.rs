//! From a stored file to the bytes of a dump: read, opened by a command, unpacked.

use std::io::Cursor;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use store::{Key, Store};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::process::Command;
use tokio::task::JoinSet;

use super::elsewhere::Elsewhere;
use super::{Format, HEAD_LEN, PlainDump, PlainSource, format_of};
use crate::Progress;
use crate::dump::child::{self, Said};
use crate::dump::error::DumpError;

/// Bytes of one request.
const REQUEST_LEN: u64 = 4 << 20;

/// Bytes between two stages.
const PIPE_LEN: usize = 1 << 20;

/// Bytes at the end that are kept: the two blocks of zeros that end a tar file, the sentence that
/// ends SQL and the `\unrestrict` behind it since 2025.
pub(super) const TAIL_LEN: usize = 1024;

/// Bytes that one read of a stage asks for.
const COPY_LEN: usize = 256 << 10;

/// Settings stand at the beginning of SQL.
const SQL_HEAD_LEN: u64 = 4 << 10;

/// Where programs that open and unpack are looked for, when they are named without a folder.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// A dump that is being read.
pub(super) struct Opened<'a> {
    source: &'a PlainSource,
    name: String,
    pub(super) format: Format,
    /// The last bytes that were read: what is cut off has another end.
    pub(super) tail: Vec<u8>,
    /// Of SQL: finds what would lead `psql` into another database.
    elsewhere: Option<Elsewhere>,
    reader: Reader,
    /// Programs between the store and the reader: each must have ended well.
    stages: JoinSet<(usize, Result<(), String>)>,
}

/// Begins to read a dump, as far as to know what it is.
pub(super) async fn open<'a>(
    source: &'a PlainSource,
    dump: &PlainDump,
    progress: Arc<dyn Progress>,
) -> Result<Opened<'a>, DumpError> {
    let name = format!("{}:{}", source.name, dump.key);
    let mut stages = JoinSet::new();
    let (near, far) = tokio::io::duplex(PIPE_LEN);
    stages.spawn(fetch(Arc::clone(&source.store), dump.key.clone(), dump.size, near, progress));
    let mut reader: Reader = Box::new(far);
    if let Some((program, arguments)) = source.open.split_first() {
        reader = through(&mut stages, 1, program, arguments, reader)
            .map_err(|error| failed(source, &name, &error))?;
    }
    let (head, whole) = peek(reader).await;
    reader = match unpacker(&head) {
        Some(program) => through(&mut stages, 2, program, &["-dc".to_owned()], whole)
            .map_err(|error| failed(source, &name, &error))?,
        None => whole,
    };
    let (head, reader) = peek(reader).await;
    let format = format_of(&head);
    let (tail, elsewhere) = (Vec::new(), None);
    let mut opened = Opened { source, name, format: Format::Sql, tail, elsewhere, reader, stages };
    match format {
        Ok(format) => {
            opened.format = format;
            opened.elsewhere = (format == Format::Sql).then(Elsewhere::default);
        }
        Err(what) => {
            // A program that failed says more than that nothing came out of it.
            opened.finish(tokio::io::sink()).await?;
            return Err(failed(source, &opened.name, what));
        }
    }
    Ok(opened)
}

impl Opened<'_> {
    /// Reads to the end, into `sink` as long as it takes bytes, and proves that every stage ended
    /// well. Returns how many bytes there were, and whether `sink` took all of them.
    pub(super) async fn finish(
        &mut self,
        mut sink: impl AsyncWrite + Unpin,
    ) -> Result<(u64, bool), DumpError> {
        let mut buffer = vec![0; COPY_LEN];
        let (mut bytes, mut is_taken) = (0, true);
        let mut read_error = None;
        loop {
            match self.reader.read(&mut buffer).await {
                Ok(0) => break,
                Ok(len) => {
                    bytes += len as u64;
                    let piece = buffer.get(..len).unwrap_or_default();
                    if let Some(line) = self.elsewhere.as_mut().and_then(|it| it.seen_in(piece)) {
                        return Err(self.leads_elsewhere(&line));
                    }
                    is_taken = is_taken && sink.write_all(piece).await.is_ok();
                    let from = piece.len().saturating_sub(TAIL_LEN);
                    self.tail.extend_from_slice(piece.get(from..).unwrap_or_default());
                    let surplus = self.tail.len().saturating_sub(TAIL_LEN);
                    self.tail.drain(..surplus);
                }
                Err(error) => {
                    read_error = Some(error.to_string());
                    break;
                }
            }
        }
        self.stages_ended().await?;
        if let Some(what) = read_error {
            return Err(failed(self.source, &self.name, &what));
        }
        let _ = sink.shutdown().await; // whoever reads may be gone
        Ok((bytes, is_taken))
    }

    async fn stages_ended(&mut self) -> Result<(), DumpError> {
        let mut results = Vec::new();
        while let Some(result) = self.stages.join_next().await {
            match result {
                Ok(result) => results.push(result),
                Err(join) => std::panic::resume_unwind(join.into_panic()),
            }
        }
        // The first stage that failed is the cause of what the later ones say.
        results.sort_by_key(|(stage, _)| *stage);
        for (_, result) in results {
            result.map_err(|what| failed(self.source, &self.name, &what))?;
        }
        Ok(())
    }

    fn leads_elsewhere(&self, line: &str) -> DumpError {
        DumpError::Plain {
            name: self.name.clone(),
            what: format!(
                "leads into other databases than the one it is restored into: expected one \
                 database's content, seen '{line}'"
            ),
            hint: "dump one database without -C: pg_dump DATABASE; this one is for psql by hand, \
                   on a server where nothing can be lost"
                .into(),
        }
    }

    /// Takes a setting out of the head of SQL that the server does not know: `psql` would stop at
    /// it. Says whether there was one.
    pub(super) async fn without(&mut self, statement: &str) -> bool {
        let mut head = Vec::new();
        let mut reader = std::mem::replace(&mut self.reader, Box::new(tokio::io::empty()));
        // An error comes again where the rest is read.
        let _ = (&mut reader).take(SQL_HEAD_LEN).read_to_end(&mut head).await;
        let place = head.windows(statement.len()).position(|part| part == statement.as_bytes());
        let word = place.and_then(|at| head.get_mut(at..at + 3));
        let is_found = word.is_some();
        if let Some(word) = word {
            word.copy_from_slice(b"---");
        }
        self.reader = Box::new(Cursor::new(head).chain(reader));
        is_found
    }

    pub(super) fn failed(&self, what: &str) -> DumpError {
        failed(self.source, &self.name, what)
    }
}

fn failed(source: &PlainSource, name: &str, what: &str) -> DumpError {
    DumpError::Plain {
        name: name.to_owned(),
        what: what.to_owned(),
        hint: format!("take an earlier one: rollforward dump list {}", source.name),
    }
}

async fn fetch(
    store: Arc<dyn Store>,
    key: Key,
    size: u64,
    mut sink: DuplexStream,
    progress: Arc<dyn Progress>,
) -> (usize, Result<(), String>) {
    progress.total(size, 1);
    let mut begin = 0;
    while begin < size {
        let end = (begin + REQUEST_LEN).min(size);
        let bytes = match store.get_range(&key, begin..end).await {
            Ok(bytes) => bytes,
            Err(error) => return (0, Err(format!("cannot be read: {error}"))),
        };
        if sink.write_all(&bytes).await.is_err() {
            // The next stage ended: it says why.
            return (0, Ok(()));
        }
        progress.advance(end - begin);
        begin = end;
    }
    let _ = sink.shutdown().await;
    (0, Ok(()))
}

/// Puts a program behind `input`; what it writes comes out.
fn through(
    stages: &mut JoinSet<(usize, Result<(), String>)>,
    stage: usize,
    program: &str,
    arguments: &[String],
    mut input: Reader,
) -> Result<Reader, String> {
    let mut command = Command::new(find(program));
    command.args(arguments).current_dir("/").env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = started
        .map_err(|error| format!("cannot be opened: '{program}' does not start: {error}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let program = program.to_owned();
    stages.spawn(async move {
        let feed = async {
            let Some(mut stdin) = stdin else { return };
            // A program that ends early says so by its status.
            let _ = tokio::io::copy(&mut input, &mut stdin).await;
            let _ = stdin.shutdown().await;
        };
        let ((), said) = tokio::join!(feed, child::messages(stderr));
        (stage, ended(&program, child.wait().await, &said))
    });
    let stdout = stdout.ok_or("a program without output")?;
    Ok(Box::new(stdout))
}

fn ended(
    program: &str,
    status: std::io::Result<std::process::ExitStatus>,
    said: &Said,
) -> Result<(), String> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(format!("cannot be opened: '{program}' {status}: {}", child::last_lines(said)))
        }
        Err(error) => Err(format!("cannot be opened: '{program}': {error}")),
    }
}

/// A program that is named without a folder, in the usual ones.
fn find(program: &str) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let mut folders = PATH.split(':').map(|folder| PathBuf::from(folder).join(program));
    folders.find(|path| path.is_file()).unwrap_or_else(|| program.into())
}

/// What unpacks bytes that begin like this.
fn unpacker(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        _ => None,
    }
}

/// The first bytes, and a reader that gives them once more.
async fn peek(mut reader: Reader) -> (Vec<u8>, Reader) {
    let mut head = Vec::new();
    // An error comes again where the rest is read.
    let _ = (&mut reader).take(HEAD_LEN as u64).read_to_end(&mut head).await;
    let whole = Cursor::new(head.clone()).chain(reader);
    (head, Box::new(whole))
}
