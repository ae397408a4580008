//! The reasons to end a session, and how the browser learns of them.

use std::time::Duration;

use hopmq_proto::{Error, code};
use tokio_tungstenite::tungstenite::Error as Ws;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::socket::OVER_LIMIT;
use crate::admission::limits::LimitError;
use crate::upstream::Unreachable;

/// The reason to end a session.
#[derive(Debug)]
pub(crate) struct End {
    /// The label in the metrics.
    pub(crate) reason: &'static str,
    /// The text for the log and the browser.
    pub(crate) text: String,
    /// Whether the end is logged at `info`, as a fault, or at `debug`.
    pub(crate) is_fault: bool,
    /// The code of the `connection.close` for the browser, if it handles one.
    pub(crate) amqp: Option<u16>,
    /// Whether the WebSocket cannot be read any more, although the browser may still send.
    pub(crate) is_unreadable: bool,
    /// The code of the WebSocket's close; `None` if the browser does not read.
    pub(crate) websocket: Option<CloseCode>,
}

const BROWSER_LEFT: &str = "browser_left";
const LOGIN_REFUSED: &str = "login_refused";
const TOKEN_REFUSED: &str = "token_refused";

/// The longest reason in a WebSocket close frame, in bytes (RFC 6455, section 5.5).
const REASON_MAX: usize = 123;

impl End {
    fn fault(reason: &'static str, text: impl Into<String>, amqp: u16, websocket: CloseCode) -> Self {
        Self {
            reason,
            text: text.into(),
            is_fault: true,
            is_unreadable: false,
            amqp: Some(amqp),
            websocket: Some(websocket),
        }
    }

    pub(crate) fn done() -> Self {
        let text = "the connection was closed".to_owned();
        Self {
            reason: "closed",
            text,
            is_fault: false,
            is_unreadable: false,
            amqp: None,
            websocket: Some(CloseCode::Normal),
        }
    }

    pub(crate) fn browser_gone(text: impl Into<String>) -> Self {
        Self {
            reason: BROWSER_LEFT,
            text: text.into(),
            is_fault: false,
            is_unreadable: false,
            amqp: None,
            websocket: None,
        }
    }

    pub(crate) fn browser_left(frame: Option<&CloseFrame>) -> Self {
        Self::browser_gone(match frame {
            Some(frame) => format!("the browser closed the WebSocket ({})", frame.code),
            None => "the browser closed the WebSocket".to_owned(),
        })
    }

    pub(crate) fn text() -> Self {
        Self::fault(
            "text",
            "received a text message; send AMQP in binary messages",
            code::FRAME_ERROR,
            CloseCode::Unsupported,
        )
    }

    pub(crate) fn not_amqp() -> Self {
        let mut end =
            Self::fault("not_amqp", "the first bytes are not the protocol header AMQP 0-0-9-1", 0, CloseCode::Protocol);
        end.amqp = None;
        end
    }

    /// `is_token` says whether the gateway checks tokens, and not RabbitMQ the password.
    pub(crate) fn browser_fault(error: &Error, is_token: bool) -> Self {
        if error.code() == code::ACCESS_REFUSED && !is_token {
            return Self::fault(LOGIN_REFUSED, error.message(), error.code(), CloseCode::Policy);
        }
        if error.code() == code::ACCESS_REFUSED {
            return Self::fault(TOKEN_REFUSED, error.message(), error.code(), CloseCode::Policy);
        }
        Self::fault("protocol", error.message(), error.code(), CloseCode::Protocol)
    }

    pub(crate) fn upstream_fault(error: &Error) -> Self {
        Self::fault(
            "upstream_protocol",
            format!("RabbitMQ broke the protocol: {}", error.message()),
            code::CONNECTION_FORCED,
            CloseCode::Error,
        )
    }

    pub(crate) fn upstream_lost(reason: &str) -> Self {
        let text = format!("the connection to RabbitMQ was lost: {reason}");
        Self::fault("upstream_lost", text, code::CONNECTION_FORCED, CloseCode::Error)
    }

    pub(crate) fn unreachable(error: &Unreachable) -> Self {
        let end = Self::fault("upstream_unreachable", error.to_string(), code::CONNECTION_FORCED, CloseCode::Again);
        // The change of state is logged, and not each page that tries meanwhile.
        Self { is_fault: false, ..end }
    }

    /// Ends the session as `self` does, for RabbitMQ's reason to refuse the login.
    pub(crate) fn refused_by_rabbitmq(self, reason: &str) -> Self {
        let websocket = self.websocket.map(|_| CloseCode::Policy);
        let text = format!("RabbitMQ refused the login: {reason}");
        Self { reason: LOGIN_REFUSED, text, is_fault: true, websocket, ..self }
    }

    /// Whether the login was refused, by RabbitMQ or by the gateway.
    pub(crate) fn is_refused_login(&self) -> bool {
        matches!(self.reason, LOGIN_REFUSED | TOKEN_REFUSED)
    }

    pub(crate) fn login_refused() -> Self {
        let text = "RabbitMQ refused the login; check the user, the password and the permission for the virtual host";
        Self::fault(LOGIN_REFUSED, text, code::ACCESS_REFUSED, CloseCode::Policy)
    }

    pub(crate) fn login_timeout(limit: Duration) -> Self {
        let text = format!("the login did not finish within {limit:?}");
        Self::fault("login_timeout", text, code::CONNECTION_FORCED, CloseCode::Policy)
    }

    /// A limit that a user has reached, or the gateway as a whole.
    pub(crate) fn limit(user: &str, error: LimitError) -> Self {
        if error == LimitError::UserConnections {
            let text = format!("{user} has too many connections; close one first");
            return Self::fault("user_connections", text, code::NOT_ALLOWED, CloseCode::Policy);
        }
        Self::fault("full", error.to_string(), code::CONNECTION_FORCED, CloseCode::Again)
    }

    /// `wait` is the pause that the rate limit would demand.
    pub(crate) fn too_fast(wait: Duration) -> Self {
        let text = format!("the user's connections are {} s ahead of their rate limit; send slower", wait.as_secs());
        Self::fault("too_fast", text, code::RESOURCE_ERROR, CloseCode::Policy)
    }

    pub(crate) fn expired() -> Self {
        let text = "the token has expired; connect again with a new token";
        Self::fault("token_expired", text, code::CONNECTION_FORCED, CloseCode::Policy)
    }

    pub(crate) fn stalled(limit: Duration) -> Self {
        let text = format!("the browser did not read for {limit:?}");
        Self { reason: "stalled", text, is_fault: true, is_unreadable: false, amqp: None, websocket: None }
    }

    pub(crate) fn silent(limit: Duration) -> Self {
        let text = format!("the browser sent nothing for {limit:?}");
        Self { reason: "silent", text, is_fault: true, is_unreadable: false, amqp: None, websocket: None }
    }

    pub(crate) fn draining() -> Self {
        let text = "the gateway is shutting down; connect again";
        Self { is_fault: false, ..Self::fault("draining", text, code::CONNECTION_FORCED, CloseCode::Away) }
    }

    /// Maps an error of the WebSocket library, after which the WebSocket cannot be read.
    pub(crate) fn websocket(error: Ws) -> Self {
        Self { is_unreadable: true, ..Self::of_websocket(&error) }
    }

    fn of_websocket(error: &Ws) -> Self {
        match error {
            Ws::Capacity(error) => Self::fault("too_large", error.to_string(), code::FRAME_ERROR, CloseCode::Size),
            Ws::Io(error) if error.kind() == OVER_LIMIT => {
                Self::fault("too_large", error.to_string(), code::FRAME_ERROR, CloseCode::Size)
            }
            Ws::Utf8(_) => Self::text(),
            Ws::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Ws::Io(_) => {
                Self::browser_gone(format!("the browser dropped the connection: {error}"))
            }
            Ws::Protocol(error) => Self::fault("websocket", error.to_string(), code::FRAME_ERROR, CloseCode::Protocol),
            _ => Self::browser_gone(error.to_string()),
        }
    }

    /// Whether the browser closed or dropped the WebSocket.
    pub(crate) fn is_by_browser(&self) -> bool {
        self.reason == BROWSER_LEFT
    }

    /// Returns the close frame for the WebSocket.
    pub(crate) fn frame(&self) -> Option<CloseFrame> {
        let mut reason = self.text.as_str();
        if reason.len() > REASON_MAX {
            let cut = (0..=REASON_MAX).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason = &reason[..cut];
        }
        self.websocket.map(|code| CloseFrame { code, reason: reason.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_to_fit_a_close_frame() {
        let end = End::upstream_lost(&"ä".repeat(200));
        let frame = end.frame().expect("a lost upstream closes the WebSocket with a reason");
        assert!(frame.reason.len() <= REASON_MAX && frame.reason.len() >= REASON_MAX - 1);
        assert_eq!(frame.code, CloseCode::Error);
    }
}
