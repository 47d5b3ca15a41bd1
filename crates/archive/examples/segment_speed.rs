//! Times one segment's way into a local, encrypted repository and back, the process's start
//! excluded.
//!
//!     cargo run --release -p archive --example segment_speed -- FOLDER [SEGMENT-FILE]
//!
//! Without a file, a segment is made of rows like those of an order table.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)] // a benchmark

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::credential::Credential;
use archive::prefetch::{Expectations, FillRequest, Spool, fill, take};
use archive::{GetRequest, PushRequest, Route, Verdict, get, push};
use jiff::Timestamp;
use pg::{SegmentSize, SystemId, TimelineHistory, TimelineId, WalSegment};
use repository::lineage::{self, Lineage, State};
use repository::seal::Secret;
use repository::timeline::TimelinePath;
use repository::unlock::NewSet;
use repository::{Compression, Member, Repository};
use store::LocalStore;
use store::local::Access;

const SYSTEM: u64 = 7_301_000_000_000_000_001;
const COUNT: u64 = 40;

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap());
    let given = std::env::args().nth(2).map(|path| std::fs::read(path).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&folder, given));
}

/// What all measurements share.
struct Bench {
    repository: Repository,
    lineage: Lineage,
    credential: Credential,
    data: PathBuf,
    destination: PathBuf,
    route: Route,
}

async fn measure(folder: &Path, given: Option<Vec<u8>>) {
    let bench = Bench::make(folder).await;
    for number in 1..=COUNT {
        std::fs::write(bench.source(number), segment(number, given.as_deref())).unwrap();
    }
    bench.push().await;
    bench.get().await;
    bench.take().await;
}

impl Bench {
    async fn make(folder: &Path) -> Self {
        let data = folder.join("data");
        for sub in ["data/pg_wal", "data/global", "to"] {
            std::fs::create_dir_all(folder.join(sub)).unwrap();
        }
        std::fs::write(data.join("PG_VERSION"), "16\n").unwrap();
        std::fs::write(data.join("global/pg_control"), "").unwrap();
        let store = LocalStore::create(&folder.join("repository"), Access::Owner).unwrap();
        let members = vec![Member { name: "local".into(), store: Arc::new(store) }];
        let repository = Repository::new(members, Arc::new(NewSet::draw(true).keys()));
        let (lineage, credential) = register(&repository, &data, folder).await;
        let path = TimelinePath::new(TimelineHistory::without_ancestors(TimelineId::FIRST));
        let route = Route::along(&path, size());
        let destination = folder.join("to/RECOVERYXLOG");
        Self { repository, lineage, credential, data, destination, route }
    }

    fn source(&self, number: u64) -> PathBuf {
        self.data.join("pg_wal").join(name(number))
    }

    async fn push(&self) {
        let (mut times, cpu) = (Vec::new(), cpu_ticks());
        for number in 1..=COUNT {
            let request = PushRequest {
                path: &self.source(number),
                credential: &self.credential,
                host: "here",
                hold: false,
                compression: Compression::default(),
                threads: 2,
                now: Timestamp::now(),
            };
            let began = Instant::now();
            push(&self.repository, &request).await.unwrap();
            times.push(began.elapsed());
        }
        report("push", cpu, times);
    }

    async fn get(&self) {
        let (mut times, cpu) = (Vec::new(), cpu_ticks());
        for number in 1..=COUNT {
            let request = GetRequest {
                name: &name(number),
                destination: &self.destination,
                lineage: &self.lineage,
                route: &self.route,
                end: None,
                reserved: None,
                standby: false,
                allow_partial: false,
            };
            let began = Instant::now();
            let verdict = get(&self.repository, &request).await;
            assert!(matches!(verdict, Verdict::Delivered), "{verdict:?}");
            times.push(began.elapsed());
        }
        report("get", cpu, times);
    }

    async fn take(&self) {
        let (mut times, cpu) = (Vec::new(), cpu_ticks());
        let spool = Spool::beside(&self.destination).unwrap();
        let expected =
            Expectations { restore: "r1", system_id: SystemId::new(SYSTEM), segment_size: size() };
        for begin in (1..=COUNT).step_by(8) {
            let request = FillRequest {
                spool: &spool,
                restore: "r1",
                lineage: &self.lineage,
                route: &self.route,
                next: begin,
                end: None,
                count: 8,
                linger: Duration::ZERO,
            };
            fill(&self.repository, &request).await.unwrap();
            for number in begin..begin + 8 {
                let began = Instant::now();
                take(&name(number), &self.destination, &expected).unwrap();
                times.push(began.elapsed());
            }
        }
        report("fill and take", cpu, times);
    }
}

fn name(number: u64) -> String {
    WalSegment { timeline: TimelineId::FIRST, number }.name(size())
}

async fn register(repository: &Repository, data: &Path, folder: &Path) -> (Lineage, Credential) {
    let now = Timestamp::now();
    let lineage = lineage::register(repository, "shop", SystemId::new(SYSTEM), now).await.unwrap();
    let data = std::fs::canonicalize(data).unwrap();
    let (token, place) = (Secret::random(), data.to_str().unwrap());
    let writer = lineage::add_writer(repository, lineage.id, "here", place, token.expose(), now)
        .await
        .unwrap();
    let state = State {
        number: 1,
        timeline: TimelineId::FIRST,
        writer: writer.id,
        reason: "registered".into(),
        since: now,
    };
    lineage::advance(repository, lineage.id, &state).await.unwrap();
    let file = folder.join("token");
    let credential = Credential { lineage: lineage.id, writer: writer.id, token, file };
    credential.write().unwrap();
    (lineage, credential)
}

fn size() -> SegmentSize {
    SegmentSize::DEFAULT
}

/// A segment of PostgreSQL 16 with a true header and, behind it, the given bytes or rows.
fn segment(number: u64, given: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 << 20);
    bytes.extend(0xD113_u16.to_le_bytes());
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend((number << 24).to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(SYSTEM.to_le_bytes());
    bytes.extend((16_u32 << 20).to_le_bytes());
    bytes.extend(8192_u32.to_le_bytes());
    let mut row = number;
    while bytes.len() < 16 << 20 {
        match given {
            Some(given) => bytes.extend_from_slice(given.get(bytes.len()..).unwrap()),
            None => {
                let noise = stdx::Id::random();
                bytes.extend_from_slice(noise.as_bytes());
                bytes.extend_from_slice(format!("{row:>12}|order line|pending|EUR").as_bytes());
                row += 1;
            }
        }
    }
    bytes.truncate(16 << 20);
    bytes
}

fn report(what: &str, cpu_before: u64, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let cpu =
        Duration::from_millis((cpu_ticks() - cpu_before) * 10) / u32::try_from(COUNT).unwrap();
    println!("{what:>13}: median {:?}, 90 % within {:?}, processor {cpu:?}", at(50), at(90));
}

/// Processor time of all threads, in hundredths of a second (proc(5), utime and stime).
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields = rest.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}
