//! What a server says about itself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use pg::{MajorVersion, SegmentSize, SystemId, TimelineId};

use crate::rows::list_elements;
use crate::{Client, Error};

/// What a server says about itself at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// `server_version_num`, such as 160014.
    pub version_num: u32,
    /// The major of it.
    pub major: MajorVersion,
    /// The cluster's system identifier.
    pub system_id: SystemId,
    /// The data directory, on the server's machine.
    pub data_directory: PathBuf,
    /// The timeline WAL is written on; in recovery the newest one replay has reached.
    pub timeline: TimelineId,
    /// Whether it is a standby or a cluster being recovered.
    pub in_recovery: bool,
    /// Size of a WAL segment.
    pub wal_segment_size: SegmentSize,
    /// Bytes per page.
    pub block_size: u32,
    /// Bytes per WAL page.
    pub wal_block_size: u32,
    /// Pages per segment file of a relation.
    pub segment_pages: u32,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// Whether WAL holds the full image of a page changed first after a checkpoint.
    pub full_page_writes: bool,
    /// Whether hint bits are WAL-logged.
    pub wal_log_hints: bool,
    /// `off`, `on` or `always`.
    pub archive_mode: String,
    /// The command; `(disabled)` as long as `archive_mode` is off, whatever is set.
    pub archive_command: String,
    /// The archive module; empty without one, and before 15.
    pub archive_library: String,
    /// The TCP port, also part of the socket's name.
    pub port: u16,
    /// Folders of the Unix sockets, on the server's machine.
    pub unix_socket_directories: Vec<PathBuf>,
    /// What a standby must not have less of.
    pub limits: StandbyLimits,
    /// Libraries that must be there for the server to start.
    pub shared_preload_libraries: String,
    /// The main configuration file.
    pub config_file: PathBuf,
    /// Client authentication.
    pub hba_file: PathBuf,
    /// User name maps.
    pub ident_file: PathBuf,
    /// Messages, money, numbers and dates: `lc_messages`, `lc_monetary`, `lc_numeric`, `lc_time`.
    pub locale: Vec<(String, String)>,
}

/// Settings which on a standby must be at least as large as on the primary, or replay stops.
///
/// PostgreSQL: `CheckRequiredParameterValues`, src/backend/access/transam/xlogrecovery.c.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandbyLimits {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
}

const VERB: &str = "read the server's settings";

impl Client {
    /// What the server says about itself. Needs the rights of `pg_read_all_settings`.
    ///
    /// # Errors
    /// [`Error::Version`] outside 14 to 18; [`Error::Unexpected`] naming a setting that this role
    /// may not see; otherwise as [`Client::query_text`].
    pub async fn server(&self) -> Result<ServerInfo, Error> {
        let rows = self
            .list(VERB, "SELECT name, setting FROM pg_catalog.pg_settings", |row| {
                Ok((row.string("name")?, row.string("setting")?))
            })
            .await?;
        let settings = Settings(rows.into_iter().collect());
        let version_num: u32 = settings.number("server_version_num")?;
        let major = self.supported_major(version_num)?;
        let control = self.control().await?;
        let socket_dirs = settings.text("unix_socket_directories")?;
        Ok(ServerInfo {
            version_num,
            major,
            system_id: control.system_id,
            data_directory: settings.path("data_directory")?,
            timeline: control.timeline,
            in_recovery: control.in_recovery,
            wal_segment_size: control.wal_segment_size,
            block_size: settings.number("block_size")?,
            wal_block_size: settings.number("wal_block_size")?,
            segment_pages: settings.number("segment_size")?,
            data_checksums: settings.text("data_checksums")? != "off",
            wal_level: settings.owned("wal_level")?,
            full_page_writes: settings.text("full_page_writes")? == "on",
            wal_log_hints: settings.text("wal_log_hints")? == "on",
            archive_mode: settings.owned("archive_mode")?,
            archive_command: settings.owned("archive_command")?,
            // PostgreSQL 14 has none.
            archive_library: settings.0.get("archive_library").cloned().unwrap_or_default(),
            port: settings.number("port")?,
            unix_socket_directories: list_elements(socket_dirs)
                .into_iter()
                .map(PathBuf::from)
                .collect(),
            limits: settings.limits()?,
            shared_preload_libraries: settings.owned("shared_preload_libraries")?,
            config_file: settings.path("config_file")?,
            hba_file: settings.path("hba_file")?,
            ident_file: settings.path("ident_file")?,
            locale: settings.locale()?,
        })
    }

    /// The server's major version, without any special right.
    ///
    /// # Errors
    /// [`Error::Version`] outside 14 to 18; otherwise as [`Client::query_text`].
    pub async fn major(&self) -> Result<MajorVersion, Error> {
        let sql = "SELECT pg_catalog.current_setting('server_version_num') AS number";
        let number: u32 = self.fact("read the version", sql, |row| row.parse("number")).await?;
        self.supported_major(number)
    }

    fn supported_major(&self, version_num: u32) -> Result<MajorVersion, Error> {
        let refuse = |reason: String| Error::Version { address: self.address().into(), reason };
        let major = MajorVersion::from_server_version_num(version_num)
            .map_err(|error| refuse(error.to_string()))?;
        if major.is_supported() {
            Ok(major)
        } else {
            Err(refuse(format!("expected PostgreSQL 14 to 18, seen {major}")))
        }
    }

    async fn control(&self) -> Result<Control, Error> {
        // The control file's timeline is that of the last checkpoint and lags after a promotion;
        // the name of the current segment does not, but cannot be asked for in recovery.
        let sql = "SELECT s.system_identifier AS system_id, i.bytes_per_wal_segment AS segment,
                pg_catalog.pg_is_in_recovery() AS in_recovery,
                CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE pg_catalog.substr(
                    pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)
                END AS inserting,
                GREATEST(c.timeline_id, r.min_recovery_end_timeline) AS replayed
            FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_init() i,
                pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r";
        self.fact("read pg_control", sql, |row| {
            let segment: u32 = row.parse("segment")?;
            let timeline = match row.opt_text("inserting")? {
                Some(digits) => u32::from_str_radix(digits, 16)
                    .map_err(|_| row.unexpected("inserting", "a timeline", digits))?,
                None => row.parse("replayed")?,
            };
            Ok(Control {
                // The view shows the unsigned number as a signed one.
                system_id: SystemId::new(row.parse::<i64>("system_id")?.cast_unsigned()),
                in_recovery: row.bool("in_recovery")?,
                timeline: TimelineId::new(timeline),
                wal_segment_size: SegmentSize::new(segment).map_err(|error| {
                    row.unexpected("segment", "a segment size", &error.to_string())
                })?,
            })
        })
        .await
    }
}

struct Control {
    system_id: SystemId,
    in_recovery: bool,
    timeline: TimelineId,
    wal_segment_size: SegmentSize,
}

struct Settings(HashMap<String, String>);

impl Settings {
    /// Roles without `pg_read_all_settings` do not see the rows of some settings.
    fn text(&self, name: &str) -> Result<&str, Error> {
        self.0.get(name).map(String::as_str).ok_or_else(|| Error::Unexpected {
            verb: VERB,
            expected: format!("a value of '{name}'"),
            seen: "nothing; this role needs pg_read_all_settings".into(),
        })
    }

    fn owned(&self, name: &str) -> Result<String, Error> {
        self.text(name).map(str::to_owned)
    }

    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        self.text(name).map(PathBuf::from)
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        let text = self.text(name)?;
        text.parse().map_err(|_| Error::Unexpected {
            verb: VERB,
            expected: format!("a number as '{name}'"),
            seen: format!("'{text}'"),
        })
    }

    fn limits(&self) -> Result<StandbyLimits, Error> {
        Ok(StandbyLimits {
            max_connections: self.number("max_connections")?,
            max_worker_processes: self.number("max_worker_processes")?,
            max_wal_senders: self.number("max_wal_senders")?,
            max_prepared_transactions: self.number("max_prepared_transactions")?,
            max_locks_per_transaction: self.number("max_locks_per_transaction")?,
        })
    }

    fn locale(&self) -> Result<Vec<(String, String)>, Error> {
        ["lc_messages", "lc_monetary", "lc_numeric", "lc_time"]
            .into_iter()
            .map(|name| Ok((name.to_owned(), self.owned(name)?)))
            .collect()
    }
}
