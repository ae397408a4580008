//! From a request to a session.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tracing::info;

use super::handshake::Upgrade;
use crate::admission::forwarded;
use crate::admission::limits::Refusal;
use crate::amqp::proxy::Login;
use crate::context::Context;
use crate::session::socket::Allowance;
use crate::session::{self, Client};

/// Takes WebSockets on any path, and lets all else pass.
pub(super) async fn upgrade(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let wants = request.headers().get(header::UPGRADE);
    if !wants.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return next.run(request).await;
    }
    let (mut parts, _body) = request.into_parts();
    let Some(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0) else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the server does not tell who connects\n").into_response();
    };
    let forwarded = context.proxies.client(peer.ip(), &parts.headers);
    let refuse = |refused: Refused| {
        context.metrics.refused(refused.reason);
        info!(address = %forwarded.address, reason = refused.reason, "refused: {}", refused.text);
        refused.into_response()
    };
    let admitted = admit(&context, &forwarded, &parts.headers)
        .and_then(|client| Ok((client, login(&context, parts.uri.query().unwrap_or_default())?)));
    let (client, login) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => return refuse(refused),
    };
    match Upgrade::of(&mut parts) {
        Ok(upgrade) => accept(context, upgrade, &parts.headers, client, login),
        Err(why) => refuse(Refused::new(StatusCode::BAD_REQUEST, "handshake", why)),
    }
}

/// Whether they may connect, as far as the request tells.
fn admit(context: &Arc<Context>, forwarded: &forwarded::Client, headers: &HeaderMap) -> Result<Client, Refused> {
    if !context.drain.is_serving() {
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "draining", "the gateway goes away; try again"));
    }
    let permit = context.limits.connect(forwarded.address, Instant::now()).map_err(Refused::limit)?;
    context
        .origins
        .check(headers, forwarded.host.as_deref())
        .map_err(|why| Refused::new(StatusCode::FORBIDDEN, "origin", why))?;
    subprotocol(&context.config.websocket.subprotocols, headers)?;
    Ok(Client::new(forwarded.address, permit))
}

/// Who decides who they are: RabbitMQ, a token to come, or the ticket in the URL.
fn login(context: &Context, query: &str) -> Result<Login, Refused> {
    let Some(auth) = &context.auth else { return Ok(Login::RabbitMq) };
    match auth.ticket(query) {
        Ok(Some(grant)) => Ok(Login::Granted(Some(Box::new(grant)))),
        Ok(None) => Ok(Login::Token(Arc::clone(auth))),
        Err(why) => Err(Refused::new(StatusCode::UNAUTHORIZED, "ticket", why)),
    }
}

fn accept(context: Arc<Context>, upgrade: Upgrade, headers: &HeaderMap, client: Client, login: Login) -> Response {
    let (websocket, limits) = (&context.config.websocket, &context.config.limits);
    let message_max = Some(websocket.message_max.0 as usize);
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        // One message more than what a frame may take waits to be written at most.
        .max_write_buffer_size(2 * (limits.frame_max.0 as usize).max(crate::amqp::framer::MESSAGE) + (16 << 10))
        .max_message_size(message_max)
        .max_frame_size(message_max);
    let response =
        upgrade.response(offers(headers).find(|offer| websocket.subprotocols.iter().any(|name| name == offer)));
    context.metrics.accepted.add(1);
    tokio::spawn(async move {
        // A login is the protocol's header and some frames, of which one may be as large as a token.
        let allowance = Allowance::new(2 * context.config.limits.login_frame_max.0 as usize + (1 << 10));
        match upgrade.socket(config, Arc::clone(&allowance)).await {
            Ok(socket) => session::run(context, socket, allowance, client, login).await,
            Err(_gone) => context.metrics.ended("browser_left"),
        }
    });
    response
}

/// The subprotocols that a client offers.
fn offers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Who offers subprotocols must offer one that is known, for to choose none breaks their handshake.
fn subprotocol(known: &[String], headers: &HeaderMap) -> Result<(), Refused> {
    let mut offers = offers(headers).peekable();
    if offers.peek().is_none() || offers.any(|offer| known.iter().any(|name| name == offer)) {
        return Ok(());
    }
    let why = format!("none of the offered subprotocols is known here; offer none, or {}", known.join(" or "));
    Err(Refused::new(StatusCode::BAD_REQUEST, "subprotocol", why))
}

/// Why an upgrade is refused.
struct Refused {
    status: StatusCode,
    /// One word for the metrics.
    reason: &'static str,
    text: String,
    retry_after: Option<u64>,
}

impl Refused {
    fn new(status: StatusCode, reason: &'static str, text: impl Into<String>) -> Self {
        Self { status, reason, text: text.into(), retry_after: None }
    }

    fn limit(refusal: Refusal) -> Self {
        let (status, reason, text, wait) = match refusal {
            Refusal::Full => (StatusCode::SERVICE_UNAVAILABLE, "full", "the gateway is full", 10),
            Refusal::AddressConnections => {
                (StatusCode::TOO_MANY_REQUESTS, "address_connections", "your address has too many connections", 10)
            }
            Refusal::AddressRate(wait) => {
                let wait = wait.as_secs().max(1);
                (StatusCode::TOO_MANY_REQUESTS, "address_rate", "your address connects too often", wait)
            }
        };
        Self { retry_after: Some(wait), ..Self::new(status, reason, text) }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text + "\n").into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, wait.into());
        }
        response
    }
}
