//! One connection that is opened again whenever it is gone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Config, NoTls};

/// Longest wait for a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// A database, reached through one connection that all users share.
#[derive(Debug)]
pub(crate) struct Database {
    config: Config,
    current: Mutex<Option<Arc<Client>>>,
}

impl Database {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, current: Mutex::new(None) }
    }

    /// The connection, opened if there is none that lives.
    pub(crate) async fn client(&self) -> anyhow::Result<Arc<Client>> {
        let mut current = self.current.lock().await;
        if let Some(client) = current.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(connect(&self.config).await?);
        *current = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Gives the connection up: a call on it did not answer, so the next one would wait, too.
    pub(crate) async fn give_up(&self) {
        *self.current.lock().await = None;
    }
}

/// Opens a connection; a task serves it until the client is dropped.
pub(crate) async fn connect(config: &Config) -> anyhow::Result<Client> {
    let connected = tokio::time::timeout(CONNECT_DEADLINE, config.connect(NoTls)).await;
    let (client, connection) =
        connected.context("the database does not answer")?.context("connect to the database")?;
    // How it ends is seen by whoever uses the client.
    tokio::spawn(async move { connection.await.is_ok() });
    Ok(client)
}
