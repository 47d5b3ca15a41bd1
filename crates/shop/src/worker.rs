//! The background worker that keeps placing orders.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_postgres::{Client, Config};

use crate::database::connect;
use crate::door::Door;
use crate::orders;
use crate::stats::Stats;

/// One order must be placed within this, or the connection is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Waits between attempts to reach the database: doubled from the first to the last.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// Every so many orders, one is moved on.
const ORDERS_PER_MOVE: u64 = 4;

/// Places orders at the rate of `stats` until `stop`, through every outage of the database.
pub(crate) async fn run(
    config: Config,
    stats: Arc<Stats>,
    door: Arc<Door>,
    mut stop: watch::Receiver<bool>,
) {
    let rate = stats.snapshot().writes_per_second;
    if rate.is_nan() || rate <= 0.0 {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    // After an outage customers do not come all at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut client: Option<Client> = None;
    let mut back_off = BACK_OFF_MIN;
    let mut turn: u64 = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if door.is_shut() {
            continue;
        }
        turn += 1;
        match write(&config, &mut client, &stats, turn).await {
            Ok(()) => back_off = BACK_OFF_MIN,
            Err(error) => {
                client = None;
                stats.failed(format!("{error:#}"));
                tokio::select! {
                    () = tokio::time::sleep(back_off) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
        }
    }
}

/// One order, and now and then a step of an earlier one, on a connection that is opened if need be.
async fn write(
    config: &Config,
    client: &mut Option<Client>,
    stats: &Stats,
    turn: u64,
) -> anyhow::Result<()> {
    let alive = client.take().filter(|client| !client.is_closed());
    let open = match alive {
        Some(alive) => client.insert(alive),
        None => {
            let opened = connect(config).await?;
            if turn > 1 {
                stats.reconnected();
            }
            client.insert(opened)
        }
    };
    let written = tokio::time::timeout(WRITE_DEADLINE, async {
        stats.placed(orders::place(open).await?);
        if turn.is_multiple_of(ORDERS_PER_MOVE) && orders::move_on(open).await? {
            stats.moved_on();
        }
        anyhow::Ok(())
    });
    match written.await {
        Ok(result) => result,
        Err(_) => {
            anyhow::bail!("the database did not answer within {} s", WRITE_DEADLINE.as_secs())
        }
    }
}
