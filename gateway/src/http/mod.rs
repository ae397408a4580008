//! The HTTP paths. Every path accepts WebSockets.

mod handshake;
pub(crate) mod server;
mod sockets;
mod upgrade;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use tower_http::services::ServeDir;

use crate::context::Context;
use upgrade::upgrade;

/// Returns the router of `listen`.
pub(crate) fn router(context: Arc<Context>) -> Router {
    let mut router = Router::new();
    if let Some(folder) = &context.config.static_folder {
        router = router.fallback_service(ServeDir::new(folder));
    } else {
        router = router.route("/", get(root));
    }
    if context.config.admin.is_none() {
        router = router.merge(admin_routes());
    }
    router.layer(from_fn_with_state(Arc::clone(&context), upgrade)).with_state(context)
}

/// Returns the router of `admin`.
pub(crate) fn admin(context: Arc<Context>) -> Router {
    admin_routes().with_state(context)
}

fn admin_routes() -> Router<Arc<Context>> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

async fn root() -> &'static str {
    concat!(
        "hopmq-gateway ",
        env!("CARGO_PKG_VERSION"),
        ": AMQP 0-9-1 over WebSocket, to RabbitMQ.\n\nOpen a WebSocket, by convention to /ws/amqp, and send binary \
         messages. /healthz, /readyz and /metrics are for operators.\n"
    )
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(context): State<Arc<Context>>) -> (StatusCode, &'static str) {
    if !context.drain.is_serving() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if !context.upstreams.any_up() {
        (StatusCode::SERVICE_UNAVAILABLE, "no RabbitMQ can be reached\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    let text = context.metrics.text(
        [context.limits.connections(), context.limits.connections_max(), context.limits.pending_logins()],
        &context.upstreams.report(),
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
