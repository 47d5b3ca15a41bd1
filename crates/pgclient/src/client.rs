//! One session with a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tokio_postgres::config::SslMode as WireSslMode;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::options::Place;
use crate::rows::Row;
use crate::{ConnectOptions, Error, SslMode, tls};

/// Deadline of a call that only asks for facts, unless [`Client::with_deadline`] says otherwise.
/// Generous: a loaded server must not look dead.
pub const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// How long a cancel request may take before it is given up.
const CANCEL_DEADLINE: Duration = Duration::from_secs(5);

/// A silent peer is probed after this long, so that a dead network path ends the session.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Sent data that stays unacknowledged this long ends the session.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// A session. Calls may run at the same time; the server answers them in order. Dropping it ends
/// the session.
pub struct Client {
    pub(crate) sql: Arc<tokio_postgres::Client>,
    pub(crate) ended: Ended,
    options: ConnectOptions,
    address: String,
    tls: Option<MakeRustlsConnect>,
    deadline: Duration,
}

/// Why the session is over; `None` while it is not.
pub(crate) type Ended = Arc<watch::Sender<Option<String>>>;

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Opens a session at the first place that takes one; encrypted as `sslmode` asks. Each place
    /// gets `connect_timeout` for everything up to the login. Needs a tokio runtime, on which a
    /// task serves the connection until the client is dropped.
    ///
    /// # Errors
    /// [`Error::Connect`] (nobody there; try again), [`Error::NotReady`] (starting, recovering or
    /// stopping; wait), [`Error::Refused`] (login), [`Error::Tls`], [`Error::Timeout`],
    /// [`Error::Conninfo`] (the passfile).
    pub async fn connect(options: &ConnectOptions) -> Result<Self, Error> {
        let mut last = Error::Connect { address: String::new(), reason: "no host".into() };
        for place in &options.places {
            match connect_place(options, place).await {
                Ok(client) => return Ok(client),
                // A wrong password is wrong at every host: libpq stops here, too.
                Err(error @ Error::Refused { .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The same session with another deadline for its calls.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same session without the server's own limits, which are for applications: statements
    /// and waits for locks may take long, and it may stand idle, also in a transaction.
    ///
    /// # Errors
    /// As [`query_text`](Self::query_text).
    pub async fn unlimited(self) -> Result<Self, Error> {
        // The last one is there from 17 on.
        let sql = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_session_timeout = 0; \
                   SET idle_in_transaction_session_timeout = 0; \
                   SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
                   WHERE name = 'transaction_timeout'";
        self.query_text(sql, self.deadline).await?;
        Ok(self)
    }

    /// How the connection was opened.
    #[must_use]
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// The server's host and port, or its socket.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sql.is_closed()
    }

    /// Runs `sql` as it is, in the session's own `search_path`, and returns the rows of all its
    /// statements in text form. Several statements in one string are one transaction.
    ///
    /// # Errors
    /// [`Error::Sql`] with the server's words; [`Error::Timeout`] after `deadline`, when the
    /// statement is cancelled on the server; [`Error::Lost`].
    pub async fn query_text(
        &self,
        sql: &str,
        deadline: Duration,
    ) -> Result<Vec<Vec<Option<String>>>, Error> {
        let rows = self.simple("run the query", sql, deadline).await?;
        let texts = |row: &SimpleQueryRow| {
            (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()
        };
        Ok(rows.iter().map(texts).collect())
    }

    /// [`Client::query_text`] with the columns' names: for consoles that speak the protocol and
    /// know no types, as PgBouncer's. Nulls are left out.
    ///
    /// # Errors
    /// As [`Client::query_text`].
    pub async fn query_named(
        &self,
        sql: &str,
        deadline: Duration,
    ) -> Result<Vec<BTreeMap<String, String>>, Error> {
        let rows = self.simple("run the query", sql, deadline).await?;
        let named = |row: &SimpleQueryRow| {
            let columns = row.columns().iter().enumerate();
            columns
                .filter_map(|(at, column)| {
                    row.get(at).map(|value| (column.name().to_owned(), value.to_owned()))
                })
                .collect()
        };
        Ok(rows.iter().map(named).collect())
    }

    /// Rows of a query of ours, which must not depend on anybody's `search_path`: a function in a
    /// schema before `pg_catalog` would run with our rights.
    pub(crate) async fn facts(
        &self,
        verb: &'static str,
        sql: &str,
    ) -> Result<Vec<SimpleQueryRow>, Error> {
        self.facts_within(verb, sql, self.deadline).await
    }

    pub(crate) async fn facts_within(
        &self,
        verb: &'static str,
        sql: &str,
        deadline: Duration,
    ) -> Result<Vec<SimpleQueryRow>, Error> {
        // Two statements in one message are one transaction, so that LOCAL reaches the second.
        self.simple(verb, &format!("SET LOCAL search_path = ''; {sql}"), deadline).await
    }

    /// The single row of such a query.
    pub(crate) async fn fact<T>(
        &self,
        verb: &'static str,
        sql: &str,
        read: impl FnOnce(Row<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let rows = self.facts(verb, sql).await?;
        match rows.as_slice() {
            [row] => read(Row::new(row, verb)),
            rows => Err(Error::Unexpected {
                verb,
                expected: "one row".into(),
                seen: format!("{} rows", rows.len()),
            }),
        }
    }

    /// Every row of such a query, read by `read`.
    pub(crate) async fn list<T>(
        &self,
        verb: &'static str,
        sql: &str,
        read: impl Fn(Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.facts(verb, sql).await?;
        rows.iter().map(|row| read(Row::new(row, verb))).collect()
    }

    /// Sends `sql` as one simple query, within `deadline`.
    pub(crate) async fn simple(
        &self,
        verb: &'static str,
        sql: &str,
        deadline: Duration,
    ) -> Result<Vec<SimpleQueryRow>, Error> {
        let Ok(answer) = tokio::time::timeout(deadline, self.sql.simple_query(sql)).await else {
            self.cancel().await;
            let address = self.address.clone();
            return Err(Error::Timeout { address, verb, after: deadline });
        };
        let messages = answer.map_err(|error| self.failed(verb, &error))?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Asks the server to end what it does for the caller. It may come too late; an error only
    /// means that the statement ends by itself.
    async fn cancel(&self) {
        let token = self.sql.cancel_token();
        let cancelled = async {
            match &self.tls {
                Some(tls) => token.cancel_query(tls.clone()).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        if !matches!(tokio::time::timeout(CANCEL_DEADLINE, cancelled).await, Ok(Ok(()))) {
            tracing::debug!(address = self.address, "the cancel request did not get through");
        }
    }

    pub(crate) fn failed(&self, verb: &'static str, error: &tokio_postgres::Error) -> Error {
        match error.as_db_error() {
            // FATAL means that the server ends the session after this message.
            Some(db) if !matches!(db.severity(), "FATAL" | "PANIC") => Error::Sql {
                verb,
                sqlstate: db.code().code().to_owned(),
                message: [Some(db.message()), db.detail()]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("; "),
            },
            _ => {
                let heard = self.ended.borrow().clone();
                let reason = heard.unwrap_or_else(|| chain(error));
                Error::Lost { address: self.address.clone(), verb, reason }
            }
        }
    }
}

async fn connect_place(options: &ConnectOptions, place: &Place) -> Result<Client, Error> {
    let attempt = attempt_all(options, place);
    match tokio::time::timeout(options.connect_timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout {
            address: place.to_string(),
            verb: "connect",
            after: options.connect_timeout,
        }),
    }
}

/// libpq's order: `allow` begins without TLS, `prefer` with it; each falls back to the other only
/// when that can help.
async fn attempt_all(options: &ConnectOptions, place: &Place) -> Result<Client, Error> {
    if place.is_socket() || options.ssl_mode == SslMode::Disable {
        return attempt(options, place, None).await;
    }
    let connector = tls::connector(options)?;
    // Without a name that TLS can carry there is nothing to begin a handshake with.
    if ServerName::try_from(place.host.as_str()).is_err() && options.ssl_mode > SslMode::Prefer {
        let reason = "the host name cannot stand in a certificate".into();
        return Err(Error::Tls { address: place.to_string(), reason });
    }
    match options.ssl_mode {
        SslMode::Allow => match attempt(options, place, None).await {
            Err(error) if no_entry(&error) => attempt(options, place, connector).await,
            other => other,
        },
        SslMode::Prefer => match attempt(options, place, connector).await {
            Err(error) if no_entry(&error) || matches!(error, Error::Tls { .. }) => {
                attempt(options, place, None).await
            }
            other => other,
        },
        _ => attempt(options, place, connector).await,
    }
}

/// Whether the server has no line in pg_hba.conf for this kind of connection: the other kind may
/// have one. (A wrong password would only be sent twice.)
fn no_entry(error: &Error) -> bool {
    matches!(error, Error::Refused { reason, .. } if reason.ends_with("(SQLSTATE 28000)"))
}

async fn attempt(
    options: &ConnectOptions,
    place: &Place,
    tls: Option<MakeRustlsConnect>,
) -> Result<Client, Error> {
    let config = wire_config(options, place, tls.is_some())?;
    let ended = Ended::new(watch::Sender::new(None));
    let connected = match &tls {
        Some(connector) => config.connect(connector.clone()).await.map(|(sql, connection)| {
            serve(connection, &ended);
            sql
        }),
        None => config.connect(NoTls).await.map(|(sql, connection)| {
            serve(connection, &ended);
            sql
        }),
    };
    let sql = connected.map_err(|error| connect_error(options, place, &error))?;
    Ok(Client {
        sql: Arc::new(sql),
        ended,
        options: options.clone(),
        address: place.to_string(),
        tls,
        deadline: CALL_DEADLINE,
    })
}

fn wire_config(options: &ConnectOptions, place: &Place, tls: bool) -> Result<Config, Error> {
    let mut config = Config::new();
    config
        .host(&place.host)
        .port(place.port)
        .user(&options.user)
        .dbname(&options.database)
        .application_name(&options.application_name)
        .keepalives_idle(KEEPALIVE_IDLE)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .ssl_mode(match (tls, options.ssl_mode) {
            (false, _) => WireSslMode::Disable,
            (true, SslMode::Prefer) => WireSslMode::Prefer,
            (true, _) => WireSslMode::Require,
        });
    if let Some(address) = place.address {
        config.hostaddr(address);
    }
    if let Some(session_options) = &options.session_options {
        config.options(session_options);
    }
    if let Some(password) = options.password_for(place)? {
        config.password(password.expose());
    }
    Ok(config)
}

/// Runs the connection's side of the conversation until the session ends.
fn serve<F>(connection: F, ended: &Ended)
where
    F: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    let ended = Arc::clone(ended);
    tokio::spawn(async move {
        let reason = match connection.await {
            Ok(()) => "the session was closed".to_owned(),
            Err(error) => chain(&error),
        };
        tracing::debug!(reason, "a database session ended");
        ended.send_replace(Some(reason));
    });
}

fn connect_error(options: &ConnectOptions, place: &Place, error: &tokio_postgres::Error) -> Error {
    let address = place.to_string();
    let reason = chain(error);
    if let Some(db) = error.as_db_error() {
        // 57P03 cannot_connect_now; 57P01, 57P02 shutdown; class 53 too many connections.
        return match db.code().code() {
            "57P01" | "57P02" | "57P03" => Error::NotReady { address, reason },
            code if code.starts_with("53") => Error::NotReady { address, reason },
            _ => Error::Refused { address, user: options.user.clone(), reason },
        };
    }
    // tokio-postgres has no public kind; its own level of the text is the kind's.
    match error.to_string().as_str() {
        "error performing TLS handshake" => Error::Tls { address, reason },
        "authentication error" | "invalid configuration" => {
            Error::Refused { address, user: options.user.clone(), reason }
        }
        _ => Error::Connect { address, reason },
    }
}

/// An error's text with those of its sources; a server's message in its own words.
pub(crate) fn chain(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{}: {} (SQLSTATE {})", db.severity(), db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
