//! Admits or refuses requests for WebSockets, and starts a session for each admitted one.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tracing::info;

use super::handshake::{Handshake, HandshakeError};
use super::server::OutOfFiles;
use crate::admission::forwarded;
use crate::admission::limits::LimitError;
use crate::admission::origin::OriginError;
use crate::amqp::framer::MESSAGE_MAX;
use crate::amqp::proxy::Login;
use crate::auth::error::AuthError;
use crate::context::Context;
use crate::session::socket::Allowance;
use crate::session::{self, Client};
use hopmq_proto::printable;

/// Handles requests for WebSockets on any path, and passes on all others.
pub(super) async fn upgrade(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let upgrade = request.headers().get(header::UPGRADE);
    if !upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return next.run(request).await;
    }
    let (mut parts, _body) = request.into_parts();
    let Some(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0) else {
        let text = "the client's address is unknown; serve the router with ConnectInfo<SocketAddr>\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    let forwarded = context.trusted_proxies.client(peer.ip(), &parts.headers);
    let refuse = |refusal: Refusal| {
        context.metrics.refused(refusal.reason());
        if let Some(left_out) = context.log_limit.line(refusal.reason(), Instant::now()) {
            let text = refusal.to_string();
            let (address, text) = (forwarded.address, &*printable(&text));
            info!(%address, reason = refusal.reason(), text, left_out, "refused a WebSocket");
        }
        refusal.into_response()
    };
    if parts.extensions.get::<OutOfFiles>().is_some() {
        return refuse(Refusal::Limit(LimitError::Files));
    }
    let client = match admit(&context, &forwarded, peer, &parts.headers) {
        Ok(client) => client,
        Err(refusal) => return refuse(refusal),
    };
    let login = match login(&context, parts.uri.query().unwrap_or_default(), forwarded.is_local) {
        Ok(login) => login,
        Err(error) => {
            context.limits.login_refused(forwarded.address, Instant::now());
            return refuse(Refusal::Ticket(error));
        }
    };
    match Handshake::parse(&mut parts) {
        Ok(handshake) => accept(context, handshake, &parts.headers, client, login),
        Err(error) => refuse(Refusal::Handshake(error)),
    }
}

/// Checks the phase, the limits, the origin and the subprotocols.
fn admit(
    context: &Context,
    forwarded: &forwarded::Client,
    peer: SocketAddr,
    headers: &HeaderMap,
) -> Result<Client, Refusal> {
    if !context.drain.is_serving() {
        return Err(Refusal::Draining);
    }
    let permit = context.limits.connect(forwarded.address, Instant::now()).map_err(Refusal::Limit)?;
    context.origins.check(headers, forwarded.host.as_deref()).map_err(Refusal::Origin)?;
    check_subprotocols(&context.config.websocket.subprotocols, headers)?;
    let port = if forwarded.address == peer.ip().to_canonical() { peer.port() } else { 0 };
    Ok(Client::new(SocketAddr::new(forwarded.address, port), permit))
}

/// Returns how the client authenticates: by RabbitMQ, by a token in the login, or by the ticket in the query.
fn login(context: &Context, query: &str, is_local: bool) -> Result<Login, AuthError> {
    let Some(auth) = &context.auth else {
        let loopback_users = if is_local { Arc::default() } else { Arc::clone(&context.loopback_users) };
        return Ok(Login::RabbitMq { loopback_users });
    };
    Ok(match auth.ticket(query)? {
        Some(grant) => Login::Granted { grant: Some(Box::new(grant)), auth: Arc::clone(auth) },
        None => Login::Token(Arc::clone(auth)),
    })
}

fn accept(context: Arc<Context>, handshake: Handshake, headers: &HeaderMap, client: Client, login: Login) -> Response {
    let websocket = &context.config.websocket;
    let limits = &context.config.limits;
    let message_max = Some(websocket.message_max.0 as usize);
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        // At most one message waits to be written besides the largest frame.
        .max_write_buffer_size(2 * (limits.frame_max.0 as usize).max(MESSAGE_MAX) + (16 << 10))
        .max_message_size(message_max)
        .max_frame_size(message_max);
    let subprotocol = offers(headers).find(|offer| websocket.subprotocols.iter().any(|name| name == offer));
    let response = handshake.response(subprotocol);
    context.metrics.accepted.add(1);
    tokio::spawn(async move {
        // A login is the protocol header and a few frames, of which one may hold a token and be as large as allowed.
        let allowance = Allowance::new(2 * context.config.limits.login_frame_max.0 as usize + (1 << 10));
        match handshake.socket(config, Arc::clone(&allowance)).await {
            Ok(socket) => session::run(context, socket, allowance, client, login).await,
            Err(_gone) => context.metrics.ended("browser_left"),
        }
    });
    response
}

/// Returns the subprotocols that a client offers.
fn offers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Checks that a client that offers subprotocols offers a known one: browsers fail if the server chooses none.
fn check_subprotocols(known: &[String], headers: &HeaderMap) -> Result<(), Refusal> {
    let mut offers = offers(headers).peekable();
    if offers.peek().is_none() || offers.any(|offer| known.iter().any(|name| name == offer)) {
        return Ok(());
    }
    Err(Refusal::Subprotocol { known: known.to_vec() })
}

/// The reason to refuse a WebSocket before it opens.
#[derive(Debug)]
enum Refusal {
    Draining,
    Limit(LimitError),
    Origin(OriginError),
    Subprotocol { known: Vec<String> },
    Ticket(AuthError),
    Handshake(HandshakeError),
}

impl Refusal {
    /// Returns the label in the metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Limit(LimitError::Connections) => "full",
            Self::Limit(LimitError::PendingLogins) => "pending_logins",
            Self::Limit(LimitError::Files) => "files",
            Self::Limit(LimitError::AddressConnections) => "address_connections",
            Self::Limit(LimitError::AddressPendingLogins) => "address_pending_logins",
            Self::Limit(LimitError::AddressRate(_)) => "address_rate",
            Self::Limit(LimitError::AddressRefusals(_)) => "refused_logins",
            Self::Limit(LimitError::UserConnections) => "user_connections",
            Self::Origin(_) => "origin",
            Self::Subprotocol { .. } => "subprotocol",
            Self::Ticket(_) => "ticket",
            Self::Handshake(_) => "handshake",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Draining | Self::Limit(LimitError::Connections | LimitError::PendingLogins | LimitError::Files) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Limit(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::Ticket(_) => StatusCode::UNAUTHORIZED,
            Self::Subprotocol { .. } | Self::Handshake(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("the gateway is shutting down; try again"),
            Self::Limit(error) => write!(f, "{error}"),
            Self::Origin(error) => write!(f, "{error}"),
            Self::Subprotocol { known } => {
                write!(f, "none of the offered subprotocols is known; offer none, or {}", known.join(" or "))
            }
            Self::Ticket(error) => write!(f, "{error}"),
            Self::Handshake(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // The text may quote the request, and must not be taken for a page.
        let headers = [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
        let text = format!("{}\n", printable(&self.to_string()));
        let mut response = (self.status(), headers, text).into_response();
        if let Self::Limit(error) = &self {
            response.headers_mut().insert(header::RETRY_AFTER, error.retry_after().into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::testing::logs::HOSTILE;

    #[test]
    fn an_answer_quotes_a_request_on_one_line_and_in_part() {
        for text in [HOSTILE.to_owned(), "x".repeat(60_000)] {
            for refusal in [
                Refusal::Origin(OriginError::NotAllowed(text.clone())),
                Refusal::Origin(OriginError::UnknownHost(text.clone())),
                Refusal::Ticket(AuthError::UserUnknown { mechanism: text.clone() }),
            ] {
                let response = refusal.into_response();
                assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
                let body = futures_util::FutureExt::now_or_never(response.into_body().collect());
                let body = body.expect("the body is there").expect("the body is whole").to_bytes();
                let body = std::str::from_utf8(&body).expect("the body is text");
                assert!(body.len() < 700 && body.lines().count() == 1 && body.ends_with('\n'), "{body}");
                assert!(!body.trim_end().contains(char::is_control), "{body:?}");
            }
        }
    }
}
