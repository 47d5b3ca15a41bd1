//! Where a server is and how to log in: what libpq calls conninfo.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::conninfo::{self, bad};
use crate::{Error, Secret, passfile};

/// Longest wait for a connection unless `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// PostgreSQL: `DEF_PGPORT`.
const DEFAULT_PORT: u16 = 5432;

/// Debian's and the packages' default folder for sockets. PostgreSQL: `DEFAULT_PGSOCKET_DIR`.
const DEFAULT_SOCKET_DIR: &str = "/var/run/postgresql";

/// Certificate bundles of the distributions, for `sslrootcert=system`; the first that exists.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// How much encryption is asked for, with libpq's meanings; ignored on Unix sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Without; with TLS only if the server refuses to go without.
    Allow,
    /// With TLS if the server can, else without. libpq's default.
    #[default]
    Prefer,
    /// With TLS; the certificate is looked at only if `sslrootcert` is given.
    Require,
    /// With TLS and a certificate that a root in `sslrootcert` vouches for.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host that was asked for.
    VerifyFull,
}

/// One place to try, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// A host name or address, or, starting with `/`, the folder of the socket.
    pub(crate) host: String,
    /// Connect there without asking the name service; `host` stays the name in the certificate.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_socket() {
            write!(f, "{}/.s.PGSQL.{}", self.host, self.port)
        } else if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A parsed connection string. Neither `Debug` nor `Display` shows the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    pub(crate) places: Vec<Place>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) password: Option<Secret>,
    pub(crate) passfile: Option<PathBuf>,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root_cert: Option<PathBuf>,
    pub(crate) connect_timeout: Duration,
    pub(crate) application_name: String,
    pub(crate) session_options: Option<String>,
}

impl ConnectOptions {
    /// Reads libpq's keyword/value or URI form. Keywords: `host` (a name, an address, or a folder
    /// with the socket), `hostaddr`, `port` (lists separated by commas are tried in order), `user`,
    /// `dbname`, `password`, `passfile`, `sslmode`, `sslrootcert` (a PEM file, or `system`),
    /// `connect_timeout` in seconds, `application_name`, `options`. No environment variable and no
    /// file in a home folder is read. Without `host` the socket folder of the packages is meant,
    /// without `user` it is `postgres`, without `dbname` the database named like the user.
    ///
    /// # Errors
    /// [`Error::Conninfo`]; it never repeats a value.
    ///
    /// PostgreSQL: doc/src/sgml/libpq.sgml, "Connection Strings".
    pub fn parse(conninfo: &str) -> Result<Self, Error> {
        let pairs = conninfo::parse(conninfo.trim())?;
        for (key, _) in &pairs {
            if !KEYWORDS.contains(&key.as_str()) {
                return Err(bad(format!("unknown keyword '{key}'")));
            }
        }
        // As in libpq the last one of a keyword wins, and an empty value is the default.
        let value = |key: &str| {
            let found = pairs.iter().rev().find(|(name, _)| name == key);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let user = value("user").unwrap_or("postgres").to_owned();
        let (ssl_mode, ssl_root_cert) = parse_ssl(value("sslmode"), value("sslrootcert"))?;
        Ok(Self {
            places: parse_places(value("host"), value("hostaddr"), value("port"))?,
            database: value("dbname").unwrap_or(&user).to_owned(),
            password: value("password").map(|text| Secret::new(text.to_owned())),
            passfile: value("passfile").map(PathBuf::from),
            ssl_mode,
            ssl_root_cert,
            connect_timeout: parse_timeout(value("connect_timeout"))?,
            application_name: value("application_name")
                .or(value("fallback_application_name"))
                .unwrap_or("rollforward")
                .to_owned(),
            session_options: value("options").map(str::to_owned),
            user,
        })
    }

    /// The superuser's way into a server on this machine: its socket folder and port.
    #[must_use]
    pub fn local(socket_dir: &Path, port: u16, user: &str) -> Self {
        Self {
            places: vec![Place {
                host: socket_dir.to_string_lossy().into_owned(),
                address: None,
                port,
            }],
            user: user.to_owned(),
            database: "postgres".to_owned(),
            password: None,
            passfile: None,
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            connect_timeout: CONNECT_TIMEOUT,
            application_name: "rollforward".to_owned(),
            session_options: None,
        }
    }

    /// The same login to another database of the server.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// The same login under another name in `pg_stat_activity`.
    #[must_use]
    pub fn with_application_name(&self, name: &str) -> Self {
        Self { application_name: name.to_owned(), ..self.clone() }
    }

    /// The database to connect to.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The role to log in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The first place's host or socket folder, and its port.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, u16) {
        self.places.first().map_or(("", DEFAULT_PORT), |place| (place.host.as_str(), place.port))
    }

    /// How much encryption is asked for.
    #[must_use]
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// The places, as messages name them.
    pub(crate) fn address(&self) -> String {
        self.places.iter().map(Place::to_string).collect::<Vec<_>>().join(",")
    }

    /// The password for `place`: the one given, else the first that fits in the passfile.
    pub(crate) fn password_for(&self, place: &Place) -> Result<Option<Secret>, Error> {
        match (&self.password, &self.passfile) {
            (Some(password), _) => Ok(Some(password.clone())),
            (None, Some(file)) => passfile::look_up(file, place, &self.database, &self.user),
            (None, None) => Ok(None),
        }
    }
}

const KEYWORDS: [&str; 13] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "dbname",
    "password",
    "passfile",
    "sslmode",
    "sslrootcert",
    "connect_timeout",
    "application_name",
    "fallback_application_name",
    "options",
];

fn parse_places(
    host: Option<&str>,
    hostaddr: Option<&str>,
    port: Option<&str>,
) -> Result<Vec<Place>, Error> {
    let names: Vec<&str> = host.map_or_else(Vec::new, |host| host.split(',').collect());
    let addresses: Vec<&str> = hostaddr.map_or_else(Vec::new, |list| list.split(',').collect());
    let ports: Vec<&str> = port.map_or_else(Vec::new, |port| port.split(',').collect());
    let count = names.len().max(addresses.len()).max(1);
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(bad("'host' and 'hostaddr' have different numbers of entries"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(bad("'port' and 'host' have different numbers of entries"));
    }
    (0..count)
        .map(|at| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or("");
            let address = match addresses.get(at).copied().unwrap_or("") {
                "" => None,
                text => Some(
                    text.parse::<IpAddr>().map_err(|_| bad("'hostaddr' is not an IP address"))?,
                ),
            };
            let host = match (names.get(at).copied().unwrap_or(""), address) {
                ("", Some(address)) => address.to_string(),
                ("", None) => DEFAULT_SOCKET_DIR.to_owned(),
                (name, _) => name.to_owned(),
            };
            Ok(Place { host, address, port: parse_port(port)? })
        })
        .collect()
}

fn parse_port(text: &str) -> Result<u16, Error> {
    match text {
        "" => Ok(DEFAULT_PORT),
        text => text
            .trim()
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| bad("'port' is not a number from 1 to 65535")),
    }
}

fn parse_timeout(text: Option<&str>) -> Result<Duration, Error> {
    let Some(text) = text else { return Ok(CONNECT_TIMEOUT) };
    let seconds: i64 =
        text.trim().parse().map_err(|_| bad("'connect_timeout' is not a number of seconds"))?;
    // Zero or less means "wait for ever" in libpq; here nothing does.
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Ok(CONNECT_TIMEOUT),
    }
}

fn parse_ssl(mode: Option<&str>, root: Option<&str>) -> Result<(SslMode, Option<PathBuf>), Error> {
    let parsed = match mode {
        None if root == Some("system") => SslMode::VerifyFull,
        None | Some("prefer") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        Some("allow") => SslMode::Allow,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(_) => {
            return Err(bad(
                "'sslmode' is none of disable, allow, prefer, require, verify-ca, verify-full",
            ));
        }
    };
    let root =
        match root {
            Some("system") if parsed != SslMode::VerifyFull => {
                return Err(bad("'sslrootcert=system' needs 'sslmode=verify-full'"));
            }
            Some("system") => {
                Some(SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(
                    || bad("'sslrootcert=system': this system has no bundle of roots"),
                )?)
            }
            root => root.map(PathBuf::from),
        };
    if root.is_none() && matches!(parsed, SslMode::VerifyCa | SslMode::VerifyFull) {
        return Err(bad("'sslmode' verify-ca and verify-full need 'sslrootcert'"));
    }
    Ok((parsed, root))
}

impl fmt::Display for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user '{}', database '{}' at '{}'", self.user, self.database, self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_what_is_not_said() {
        let check = |text: &str, expect: &str| {
            assert_eq!(ConnectOptions::parse(text).unwrap().to_string(), expect, "{text}");
        };
        check("", "user 'postgres', database 'postgres' at '/var/run/postgresql/.s.PGSQL.5432'");
        check("host=/run/x port=7 user=u", "user 'u', database 'u' at '/run/x/.s.PGSQL.7'");
        check("postgres://a,b:2/d", "user 'postgres', database 'd' at 'a:5432,b:2'");
        check("host=a,b port=9", "user 'postgres', database 'postgres' at 'a:9,b:9'");
        check("hostaddr=::1", "user 'postgres', database 'postgres' at '[::1]:5432'");
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let check = |text: &str, expect: &str| {
            let error = ConnectOptions::parse(text).unwrap_err().to_string();
            assert!(error.ends_with(expect), "{text}: {error}");
        };
        check("hots=a", "unknown keyword 'hots'");
        check("port=0", "'port' is not a number from 1 to 65535");
        check("host=a,b port=1,2,3", "'port' and 'host' have different numbers of entries");
        check("sslmode=verify-full", "verify-ca and verify-full need 'sslrootcert'");
        check("sslmode=require sslrootcert=system", "needs 'sslmode=verify-full'");
        check("connect_timeout=soon", "'connect_timeout' is not a number of seconds");
    }

    #[test]
    fn the_password_is_kept_and_never_shown() {
        let options = ConnectOptions::parse("postgres://u:hunter2@h/d").unwrap();
        assert_eq!(options.password.as_ref().map(Secret::expose), Some("hunter2"));
        assert!(!format!("{options} {options:?}").contains("hunter2"));
    }

    #[test]
    fn a_badly_written_password_is_refused_and_never_shown() {
        for text in [
            "postgres://u:hun@ter2@h/d",
            "postgres://u:12/hunter2@h/d",
            "postgres://u:hunter2%zz@h/d",
            "postgres://u:hunter2%0",
            "postgres://u@h:hunter2/d",
            "password='hunter2",
            "hunter2",
        ] {
            let error = ConnectOptions::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("ter2"), "{error:?}");
        }
    }
}
