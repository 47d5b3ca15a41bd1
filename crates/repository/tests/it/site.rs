//! A real cluster whose WAL is archived, a backup of it, and recoveries from that backup by
//! PostgreSQL itself.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use pg::wal::rmgr::xact::Xact;
use pg::wal::{RecordReader, TimestampTz, WalBlockSize};
use pg::{BackupLabel, FullXid, Lsn, SegmentSize, SystemId, TimelineId, WalFileName, WalSegment};
use repository::lineage::Lineage;
use repository::root::Summary;
use repository::target::Stop;
use repository::wal_object::{self, WalFile, WalPut};
use repository::{Compression, Repository};
use testbed::postgres::{Cluster, Install, StartFailure};
use testbed::{Port, Workdir, as_postgres, poll};

use crate::support::{self, Backup};

const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster with an archive directory.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) install: Install,
    workdir: Workdir,
    archive: PathBuf,
    copies: u32,
}

/// A file-level backup and what the server said of it.
#[derive(Debug, Clone)]
pub(crate) struct BaseBackup {
    files: PathBuf,
    label: String,
    redo: Lsn,
    stop: Lsn,
    started: Timestamp,
    stopped: Timestamp,
    timeline: TimelineId,
}

/// A transaction that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) xid: FullXid,
}

impl BaseBackup {
    /// Where it is consistent.
    pub(crate) fn stop(&self) -> Lsn {
        self.stop
    }
}

impl Site {
    pub(crate) fn new(install: &Install) -> Self {
        let workdir = Workdir::new();
        let archive = workdir.folder("archive", 0o755);
        let cluster = Cluster::builder(install)
            .wal_segsize_mb(1)
            .setting("archive_mode", "on")
            .setting("archive_command", &archive_command(&archive))
            .setting("max_prepared_transactions", "5")
            .setting("track_commit_timestamp", "on")
            .setting("autovacuum", "off")
            .start();
        cluster.psql("CREATE TABLE t (i int)");
        Self { cluster, install: install.clone(), workdir, archive, copies: 0 }
    }

    pub(crate) fn size() -> SegmentSize {
        SegmentSize::new(1 << 20).unwrap()
    }

    pub(crate) fn system_id(&self) -> SystemId {
        let text = self.cluster.psql("SELECT system_identifier FROM pg_control_system()");
        SystemId::new(text.parse().unwrap())
    }

    /// Commits a row.
    pub(crate) fn insert(&self, row: u32) -> Done {
        let sql = format!("INSERT INTO t VALUES ({row}) RETURNING pg_current_xact_id()");
        Done { xid: FullXid::new(self.cluster.psql(&sql).parse().unwrap()) }
    }

    /// Runs a transaction with a row to another end than a commit.
    pub(crate) fn insert_and(&self, row: u32, end: &str) -> Done {
        let sql =
            format!("BEGIN; INSERT INTO t VALUES ({row}) RETURNING pg_current_xact_id(); {end};");
        Done { xid: FullXid::new(self.cluster.psql(&sql).parse().unwrap()) }
    }

    pub(crate) fn time_of(&self, done: Done) -> Timestamp {
        let xid = done.xid.xid();
        let sql = format!(
            "SELECT to_char(pg_xact_commit_timestamp('{xid}'::xid) AT TIME ZONE 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        );
        self.cluster.psql(&sql).parse().unwrap()
    }

    pub(crate) fn insert_position(&self) -> Lsn {
        self.cluster.psql("SELECT pg_current_wal_insert_lsn()").parse().unwrap()
    }

    fn clock(&self) -> Timestamp {
        let sql = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', \
                   'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        self.cluster.psql(sql).parse().unwrap()
    }

    /// Completes the current segment and waits until it is archived.
    pub(crate) fn archive_all(&self) {
        let name = self.cluster.switch_wal();
        let path = self.archive.join(&name);
        poll(PATIENCE, "the segment to be archived", || path.exists());
    }

    pub(crate) fn backup(&mut self) -> BaseBackup {
        let started = self.clock();
        let old = self.install.major < 15;
        let mut session = self.cluster.spawn_psql();
        session.query(if old {
            "SELECT pg_start_backup('test', true, false);"
        } else {
            "SELECT pg_backup_start('test', true);"
        });
        self.copies += 1;
        let files = self.copy(self.cluster.data_dir(), &format!("base{}", self.copies));
        let answer = session.query(if old {
            "SELECT lsn || E'\\n' || labelfile FROM pg_stop_backup(false, false);"
        } else {
            "SELECT lsn || E'\\n' || labelfile FROM pg_backup_stop(false);"
        });
        let (stop, label) = answer.split_once('\n').unwrap();
        let parsed = BackupLabel::parse(&format!("{}\n", label.trim_end())).unwrap();
        self.archive_all();
        BaseBackup {
            files,
            label: format!("{}\n", label.trim_end()),
            redo: parsed.start_lsn,
            stop: stop.parse().unwrap(),
            started,
            stopped: self.clock(),
            timeline: parsed.start_timeline,
        }
    }

    /// Copies a data directory without what belongs to the running server. Files of it may vanish
    /// meanwhile, as in any base backup.
    fn copy(&self, from: &std::path::Path, name: &str) -> PathBuf {
        let to = self.workdir.join(name);
        let script = format!(
            "cp -a {from} {to}; cd {to} && [ -s PG_VERSION ] && rm -rf postmaster.pid postmaster.opts && \
             find pg_wal pg_replslot -mindepth 1 -type f -delete",
            from = from.display(),
            to = to.display()
        );
        let mut command = Command::new("sh");
        let status = as_postgres(command.args(["-c", &script])).status().unwrap();
        assert!(status.success(), "copy of {}", from.display());
        to
    }

    /// Stores everything in the archive directory that is not in the repository yet.
    pub(crate) async fn push(&self, repository: &Repository, lineage: &Lineage) {
        let provenance = support::provenance(lineage.id, lineage.system_id);
        for name in self.archived() {
            let content = Bytes::from(fs::read(self.archive.join(&name)).unwrap());
            let file = match name.parse::<WalFileName>().unwrap() {
                WalFileName::Segment(segment) => {
                    WalFile::Segment(segment.segment(Self::size()).unwrap(), Self::size())
                }
                WalFileName::History(timeline) => WalFile::History(timeline),
                WalFileName::BackupHistory { .. } => WalFile::BackupHistory(name),
                WalFileName::Partial(_) => WalFile::Partial(name),
            };
            let how = Compression::default();
            let put =
                wal_object::put(repository, &file, &content, provenance, how, 1).await.unwrap();
            assert!(matches!(put, WalPut::Stored | WalPut::AlreadyThere), "{put:?}");
        }
    }

    pub(crate) fn archived(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.archive).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.parse::<WalFileName>().is_ok());
        names.sort();
        names
    }

    /// Publishes the backup under a label.
    pub(crate) async fn publish(
        &self,
        repository: &Repository,
        lineage: &Lineage,
        backup: &BaseBackup,
        label: &str,
    ) -> Summary {
        let mut files = vec!["PG_VERSION".to_owned()];
        for entry in fs::read_dir(backup.files.join("pg_twophase")).unwrap() {
            files.push(format!("pg_twophase/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
        let described = Backup {
            label,
            timeline: backup.timeline.get(),
            redo: backup.redo,
            stop: backup.stop,
            started: backup.started,
            stopped: backup.stopped,
            segment_size: Self::size().get(),
            files,
        };
        support::publish(repository, lineage, &described).await
    }

    /// Recovers a copy of the backup with these settings, up to the promotion.
    pub(crate) fn recover(
        &mut self,
        backup: &BaseBackup,
        settings: &[(&str, String)],
    ) -> Result<Recovered, StartFailure> {
        self.copies += 1;
        let data_dir = self.copy(&backup.files, &format!("copy{}", self.copies));
        self.write_as_postgres(&data_dir.join("backup_label"), &backup.label);
        self.write_as_postgres(&data_dir.join("recovery.signal"), "");
        let port = Port::reserve();
        let mut cluster = Cluster::attach(&self.install, &data_dir, port.number());
        let restore = format!("cp {}/%f %p", self.archive.display());
        cluster.append_setting("archive_mode", "off");
        cluster.append_setting("restore_command", &restore);
        cluster.append_setting("recovery_target_action", "promote");
        for (name, value) in settings {
            cluster.append_setting(name, value);
        }
        cluster.try_start()?;
        // A hot standby takes sessions before recovery ends, and may still end without its target.
        testbed::poll(PATIENCE, "the recovery to end", || {
            !cluster.is_running() || cluster.log_text().contains("archive recovery complete")
        });
        let log = cluster.log_text();
        if !log.contains("archive recovery complete") {
            let status = std::os::unix::process::ExitStatusExt::from_raw(1 << 8);
            return Err(StartFailure { status, log });
        }
        cluster.wait_until("SELECT pg_is_in_recovery()", "f", PATIENCE);
        Ok(Recovered { cluster, _port: port })
    }

    fn write_as_postgres(&self, path: &std::path::Path, content: &str) {
        fs::write(path, content).unwrap();
        testbed::give_to_postgres(path);
    }

    /// The segment being written and its bytes up to where it was flushed.
    pub(crate) fn current_segment(&self) -> (WalSegment, Vec<u8>) {
        let flushed: Lsn = self.cluster.psql("SELECT pg_current_wal_flush_lsn()").parse().unwrap();
        let segment = WalSegment::containing(flushed, TimelineId::FIRST, Self::size());
        let path = self.cluster.data_dir().join("pg_wal").join(segment.name(Self::size()));
        let mut content = fs::read(path).unwrap();
        content.truncate(usize::try_from(Self::size().offset(flushed)).unwrap());
        (segment, content)
    }

    pub(crate) fn add_to_archive(&self, name: &str, content: &[u8]) {
        fs::write(self.archive.join(name), content).unwrap();
    }

    /// Changes the time in the archived commit record of a transaction, as another clock would have
    /// had it.
    pub(crate) fn set_commit_time(&self, done: Done, time: Timestamp) {
        let mut names = self.archived();
        names.retain(|name| name.len() == 24);
        let first = WalSegment::parse(&names[0], Self::size()).unwrap();
        let begin = first.begin(Self::size());
        let mut reader = RecordReader::new(begin, Self::size(), WalBlockSize::DEFAULT);
        for name in &names {
            let mut content = fs::read(self.archive.join(name)).unwrap();
            reader.feed(&content);
            while let Some(record) = reader.next_record().unwrap() {
                let wanted = done.xid.xid();
                if !matches!(Xact::decode(&record), Ok(Xact::Commit(ended)) if ended.xid == wanted)
                {
                    continue;
                }
                let at = usize::try_from(Self::size().offset(record.start)).unwrap();
                let len = record.bytes().len();
                assert!(at % 8192 + len <= 8192, "the record crosses a page: choose another one");
                let time_at = len - record.main_data().len();
                let record = &mut content[at..at + len];
                let time = TimestampTz::from_timestamp_floor(time).micros();
                record[time_at..time_at + 8].copy_from_slice(&time.to_le_bytes());
                let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
                crc.update(&record[24..]);
                crc.update(&record[..20]);
                let crc = u32::try_from(crc.finalize()).unwrap();
                record[20..24].copy_from_slice(&crc.to_le_bytes());
                fs::write(self.archive.join(name), &content).unwrap();
                return;
            }
        }
        panic!("no commit of {} in the archive", done.xid);
    }

    pub(crate) fn archive_setting(&self) -> (&'static str, String) {
        ("archive_command", archive_command(&self.archive))
    }
}

fn archive_command(archive: &std::path::Path) -> String {
    let archive = archive.display();
    format!("test ! -f {archive}/%f && cp %p {archive}/%f.tmp && mv {archive}/%f.tmp {archive}/%f")
}

/// A recovered and promoted cluster.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) cluster: Cluster,
    _port: Port,
}

impl Recovered {
    /// The rows that are there.
    pub(crate) fn rows(&self) -> String {
        self.cluster.psql("SELECT string_agg(i::text, ' ' ORDER BY i) FROM t")
    }

    /// The names of the prepared transactions.
    pub(crate) fn prepared(&self) -> String {
        self.cluster.psql("SELECT string_agg(gid, ' ' ORDER BY gid) FROM pg_prepared_xacts")
    }
}

/// The settings that carry a resolved target to PostgreSQL.
pub(crate) fn settings(resolved: &repository::target::Resolved) -> Vec<(&'static str, String)> {
    let mut settings = vec![("recovery_target_timeline", resolved.timeline.to_string())];
    match resolved.stop {
        Stop::AtRecord { lsn, inclusive } => {
            settings.push(("recovery_target_lsn", lsn.to_string()));
            settings.push(("recovery_target_inclusive", on_off(inclusive)));
        }
        Stop::Consistency => settings.push(("recovery_target", "immediate".into())),
        Stop::EndOfWal => {}
    }
    settings
}

pub(crate) fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.into()
}
