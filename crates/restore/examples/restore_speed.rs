//! How fast a restore is.
//!
//! `cargo run --release --example restore_speed -- REPOSITORY KEY_FILE LINEAGE LABEL TARGET
//! [WORKERS]` restores one backup from a local repository into TARGET, which must not exist,
//! removes it again, and prints `{"bytes":…,"seconds":…,"mb_per_s":…,"peak_memory":"…"}`. With
//! `make CONNINFO DATA_DIRECTORY SPOOL REPOSITORY KEY_FILE` it makes such a backup of a server
//! whose archive command copies into SPOOL, and prints lineage and label.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pg::recovery::TargetAction;
use repository::key_file::KeyFile;
use repository::unlock::{self, NewRepository, NewSet};
use repository::wal_object::{self, Provenance, WalFile};
use repository::{Compression, Member, Repository, lineage, root};
use restore::{Destiny, Options, Quarantine, Remap};
use stdx::{Clock, Id, SystemClock};
use store::local::Access;
use store::{LocalStore, Store};

/// Says nothing.
struct Silent;

impl restore::Progress for Silent {
    fn total(&self, _bytes: u64, _files: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn note(&self, _text: &str) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = match words.as_slice() {
        ["make", conninfo, data, spool, repository, key] => {
            make(conninfo, Path::new(data), Path::new(spool), repository, key).await?
        }
        [repository, key, lineage, label, target] => {
            measure([repository, key, lineage, label], target, 2).await?
        }
        [repository, key, lineage, label, target, workers] => {
            measure([repository, key, lineage, label], target, workers.parse()?).await?
        }
        _ => return Err("usage: restore_speed REPOSITORY KEY_FILE LINEAGE LABEL TARGET".into()),
    };
    #[allow(clippy::print_stdout)] // the program's result
    {
        println!("{line}");
    }
    Ok(())
}

fn member(folder: &str) -> Member {
    let store = LocalStore::open(Path::new(folder), Access::Owner);
    Member { name: "local".into(), store: Arc::new(store) }
}

async fn measure(
    [repository, key, lineage, label]: [&str; 4],
    target: &str,
    workers: usize,
) -> Result<String, Box<dyn Error>> {
    let key = KeyFile::parse("key", &fs::read(key)?)?.unlock("key");
    let repository = unlock::open(vec![member(repository)], Some(&key)).await?;
    let root = root::read(&repository, lineage.parse()?, &label.parse()?).await?;
    let target = PathBuf::from(target);
    let timeline = root.summary.timeline;
    let recovery = Quarantine::recovery("false".into(), timeline, None, TargetAction::Promote);
    let options = Options {
        directory: target.clone(),
        tablespaces: Remap { single: Vec::new(), below: Some(target.with_extension("spaces")) },
        workers,
        quarantine: Quarantine {
            destiny: Destiny::Copy,
            port: 5432,
            socket_directory: target.clone(),
            recovery: Some(recovery),
            hba: String::new(),
        },
        histories: Vec::new(),
    };
    let report =
        restore::restore(&repository, &root, &options, &Silent, &SystemClock::new()).await?;
    fs::remove_dir_all(&target)?;
    let (bytes, seconds) = (report.size.get(), report.duration.as_secs_f64());
    #[allow(clippy::cast_precision_loss)] // a rate for people
    let rate = bytes as f64 / 1e6 / seconds;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("").trim();
    Ok(serde_json::json!({
        "bytes": bytes, "seconds": seconds, "mb_per_s": rate, "peak_memory": peak,
        "workers": workers,
    })
    .to_string())
}

async fn make(
    conninfo: &str,
    data: &Path,
    spool: &Path,
    folder: &str,
    key_file: &str,
) -> Result<String, Box<dyn Error>> {
    let (set, key, clock) = (NewSet::draw(true), KeyFile::random(), SystemClock::new());
    let store: Arc<dyn Store> = Arc::new(LocalStore::create(Path::new(folder), Access::Owner)?);
    let slots = [("machine".to_owned(), key.unlock("key"))];
    let new = NewRepository { slots: &slots, single_writer: false, created: clock.now() };
    set.create_member(&store, &new).await?;
    fs::write(key_file, key.render().as_str())?;
    let repository = Arc::new(Repository::new(vec![member(folder)], Arc::new(set.keys())));
    let connection = pgclient::ConnectOptions::parse(conninfo)?;
    let server = pgclient::Client::connect(&connection).await?.server().await?;
    let record = lineage::register(&repository, "speed", server.system_id, clock.now()).await?;
    let provenance = Provenance {
        lineage: record.id,
        system_id: server.system_id,
        writer: Id::random(),
        written: clock.now(),
    };
    let (archive, spool) = (Arc::clone(&repository), spool.to_owned());
    let size = server.wal_segment_size;
    let archiver = tokio::spawn(async move {
        let mut done = BTreeSet::new();
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            for entry in fs::read_dir(&spool).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Ok(segment) = pg::WalSegment::parse(&name, size) else { continue };
                let Ok(content) = fs::read(entry.path()) else { continue };
                let file = WalFile::Segment(segment, size);
                let how = Compression::default();

                if !done.contains(&name)
                    && wal_object::put(&archive, &file, &content, provenance, how, 1).await.is_ok()
                {
                    done.insert(name);
                }
            }
        }
    });
    let options = backup::Options::new("speed", record.id, data.to_owned(), connection);
    let report = backup::full(&repository, &options, &backup::Silent, &clock).await?;
    archiver.abort();
    Ok(format!("{} {}", record.id, report.summary.label))
}
