//! Reading a dump of others to its end: what is cut off restores a part and says nothing.

use std::process::Stdio;
use std::sync::Arc;

use pgclient::ConnectOptions;

use super::open::{Opened, TAIL_LEN, open};
use super::{Format, PlainDump, PlainSource};
use crate::Progress;
use crate::dump::child::{self, Program};
use crate::dump::error::DumpError;
use crate::dump::tools;

/// What `pg_dump` and `pg_dumpall` write last.
const COMPLETE: [&str; 2] =
    ["PostgreSQL database dump complete", "PostgreSQL database cluster dump complete"];

/// What was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it is.
    pub format: Format,
    /// Its bytes, opened and unpacked.
    pub bytes: u64,
}

/// Reads a dump to its end: opened, unpacked with every checksum, and complete in its own format.
///
/// # Errors
/// [`DumpError::Plain`] names what is wrong with it; [`DumpError::NoProgram`].
pub async fn verify(
    source: &PlainSource,
    dump: &PlainDump,
    progress: Arc<dyn Progress>,
) -> Result<Verified, DumpError> {
    let mut opened = open(source, dump, progress).await?;
    let format = opened.format;
    let bytes = match format {
        Format::Sql => sql(&mut opened).await?,
        Format::Custom => archive(source, &mut opened).await?,
        Format::Tar | Format::Directory => tar(&mut opened).await?,
    };
    Ok(Verified { format, bytes })
}

async fn sql(opened: &mut Opened<'_>) -> Result<u64, DumpError> {
    let (bytes, _) = opened.finish(tokio::io::sink()).await?;
    let end = String::from_utf8_lossy(&opened.tail);
    if COMPLETE.iter().any(|sentence| end.contains(sentence)) {
        return Ok(bytes);
    }
    let last = end.trim_end().lines().last().unwrap_or_default();
    let last: String = last.chars().take(80).collect();
    let expected = "expected 'PostgreSQL database dump complete' at its end";
    Err(opened.failed(&format!("is cut off: {expected}, seen '{last}'")))
}

/// `pg_restore` turns all of it into SQL that nobody reads: the only look that reaches its end.
async fn archive(source: &PlainSource, opened: &mut Opened<'_>) -> Result<u64, DumpError> {
    let found = tools::find("pg_restore", &source.folders).await;
    // The newest one reads every format.
    let newest = found.iter().map(|tool| tool.major).max().unwrap_or_default();
    let tool = tools::choose("pg_restore", &found, 1, newest)?;
    let nowhere = ConnectOptions::parse("")?;
    let program = Program::new(tool.path.clone(), &nowhere, "reading a dump".into())
        .arg("--format=custom")
        .arg("--file=/dev/null");
    let mut child = program.spawn(Stdio::piped(), Stdio::null())?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let Some(stdin) = stdin else { return Err(program.failed("no input".into())) };
    let (finished, said) = tokio::join!(opened.finish(stdin), child::messages(stderr));
    let (bytes, _) = finished?;
    let status = child.wait().await.map_err(|error| program.failed(error.to_string()))?;
    if status.success() {
        return Ok(bytes);
    }
    Err(opened.failed(&format!("is not whole: pg_restore {}", child::last_lines(&said))))
}

/// The list of a tar file reaches its end, which is there, and has the table of contents of
/// `pg_dump`. (`pg_restore` takes a tar file that is cut off for a whole one.)
async fn tar(opened: &mut Opened<'_>) -> Result<u64, DumpError> {
    let nowhere = ConnectOptions::parse("")?;
    let program = Program::new("/bin/tar".into(), &nowhere, "listing a tar file".into())
        .arg("--list")
        .arg("--file=-");
    let mut child = program.spawn(Stdio::piped(), Stdio::piped())?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let Some(stdin) = stdin else { return Err(program.failed("no input".into())) };
    let (finished, list, said) =
        tokio::join!(opened.finish(stdin), child::messages(stdout), child::messages(stderr));
    let (bytes, _) = finished?;
    let status = child.wait().await.map_err(|error| program.failed(error.to_string()))?;
    if !status.success() {
        return Err(opened.failed(&format!("is not whole: tar {}", child::last_lines(&said))));
    }
    if opened.tail.len() < TAIL_LEN || opened.tail.iter().any(|byte| *byte != 0) {
        return Err(opened.failed("is not whole: expected two blocks of zeros at its end"));
    }
    if list.text.lines().any(|line| line == "toc.dat" || line.ends_with("/toc.dat")) {
        return Ok(bytes);
    }
    Err(opened.failed("is a tar file without toc.dat: no dump of pg_dump"))
}
