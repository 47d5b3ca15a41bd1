//! A small online shop over PostgreSQL: the application whose database the demonstration destroys
//! and brings back.
//!
//! `rollforward-shop --settings FILE` serves `/health`, `/api/orders` and `/api/stats` and keeps
//! placing orders; `rollforward-shop load` makes the tables and fills them. It depends on nothing
//! of Rollforward: like any application it knows one connection string, which it reads when it
//! starts, so that after a switch of the database it must be started again.

mod api;
mod arguments;
mod database;
mod door;
mod load;
mod orders;
mod schema;
mod settings;
mod stats;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::arguments::{Arguments, Command, LoadArguments};
use crate::database::Database;
use crate::door::Door;
use crate::stats::Stats;

/// Open requests and the order being placed get this long when the shop is told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Load(LoadArguments { settings, size, seed })) => {
            load::run(&settings::read(&settings.settings)?, size, seed).await
        }
        None => {
            let settings = arguments.settings.context("--settings FILE is missing")?;
            let config = settings::read(&settings)?;
            let door = Door::new(arguments.maintenance, arguments.token.as_deref())?;
            serve(config, arguments.listen, arguments.writes_per_second, door).await
        }
    }
}

async fn serve(
    config: tokio_postgres::Config,
    listen: SocketAddr,
    writes_per_second: f64,
    door: Door,
) -> anyhow::Result<()> {
    // Before anything is announced: a signal that comes early must not kill.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stats = Arc::new(Stats::new(writes_per_second));
    let (stop, stopped) = watch::channel(false);
    let listener = TcpListener::bind(listen).await.context("listen")?;
    announce(listener.local_addr()?);

    let door = Arc::new(door);
    let writer =
        worker::run(config.clone(), Arc::clone(&stats), Arc::clone(&door), stopped.clone());
    let writer = tokio::spawn(writer);
    let app = api::router(Database::new(config), stats, door);
    let mut http_stopped = stopped;
    let until_stopped = async move {
        // An error means that the sender is gone: then it is time, too.
        let _ = http_stopped.wait_for(|stop| *stop).await;
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(until_stopped);
    let server = tokio::spawn(server.into_future());

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.send_replace(true);
    // What is not done by then is cut off: PostgreSQL rolls back.
    let _ = tokio::time::timeout(STOP_DEADLINE, async { tokio::join!(writer, server) }).await;
    Ok(())
}

/// The one line on standard output: where the shop listens.
#[allow(clippy::print_stdout)] // it is what callers read
fn announce(address: SocketAddr) {
    println!("{}", serde_json::json!({ "listening": address.to_string() }));
}
