//! The HTTP side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::database::Database;
use crate::door::Door;
use crate::orders;
use crate::stats::Stats;

/// A database that needs longer is as good as down for those who wait for a page.
const HEALTH_DEADLINE: Duration = Duration::from_secs(1);

/// Longest wait for any other answer of the database.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Orders in one answer, at most and unless asked otherwise.
const ORDERS_MAX: i64 = 1000;
const ORDERS_DEFAULT: i64 = 20;

struct Shop {
    database: Database,
    stats: Arc<Stats>,
}

#[derive(Debug, Deserialize)]
struct OrdersQuery {
    limit: Option<i64>,
}

/// The routes.
pub(crate) fn router(database: Database, stats: Arc<Stats>, door: Arc<Door>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/api/orders", get(latest_orders))
        .route("/api/stats", get(statistics))
        .layer(middleware::from_fn_with_state(door, behind_the_door))
        .with_state(Arc::new(Shop { database, stats }))
}

/// Keeps everybody out while the shop is shut, but for whoever has the token.
async fn behind_the_door(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if door.lets_in(authorization) {
        return next.run(request).await;
    }
    let body = json!({ "status": "maintenance" });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

impl Shop {
    /// Runs one question within `deadline`, connecting included.
    async fn ask<F>(&self, deadline: Duration, question: F) -> anyhow::Result<Value>
    where
        F: AsyncFnOnce(&tokio_postgres::Client) -> anyhow::Result<Value>,
    {
        let answer = async { question(&*self.database.client().await?).await };
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.database.give_up().await;
                anyhow::bail!("the database did not answer within {} s", deadline.as_secs())
            }
        }
    }
}

async fn health(State(shop): State<Arc<Shop>>) -> Response {
    let started = Instant::now();
    match shop.ask(HEALTH_DEADLINE, orders::probe).await {
        Ok(database) => {
            let latency_ms = started.elapsed().as_secs_f64() * 1000.0;
            let body = json!({ "status": "ok", "database": database, "latency_ms": latency_ms });
            Json(body).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

async fn latest_orders(
    State(shop): State<Arc<Shop>>,
    Query(query): Query<OrdersQuery>,
) -> Response {
    let limit = query.limit.unwrap_or(ORDERS_DEFAULT).clamp(1, ORDERS_MAX);
    match shop.ask(ANSWER_DEADLINE, async |client| orders::latest(client, limit).await).await {
        Ok(orders) => Json(json!({ "orders": orders })).into_response(),
        Err(error) => unavailable(&error),
    }
}

/// The shop's own counters, whatever the database does.
async fn statistics(State(shop): State<Arc<Shop>>) -> Json<Value> {
    let database = shop.ask(HEALTH_DEADLINE, orders::summary).await.ok();
    Json(json!({ "shop": shop.stats.snapshot(), "database": database }))
}

fn unavailable(error: &anyhow::Error) -> Response {
    let body = json!({ "status": "unavailable", "reason": format!("{error:#}") });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}
