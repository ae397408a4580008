//! Why a session ends, and what each side is told of it.

use std::time::Duration;

use hopmq_proto::{Error, code};
use tokio_tungstenite::tungstenite::Error as Ws;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::socket::BEYOND;

/// The reason, for the log, for the metrics, and for the browser.
#[derive(Debug)]
pub(crate) struct End {
    /// One word for the metrics.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) text: String,
    /// Whether somebody should look at it.
    pub(crate) is_fault: bool,
    /// The code of the `connection.close` that the browser gets, if it can hear one.
    pub(crate) amqp: Option<u16>,
    /// Whether nothing more can be read of the WebSocket although the browser may still send.
    pub(crate) is_deaf: bool,
    /// The code that the WebSocket closes with; `None` if there is nobody who would read it.
    pub(crate) websocket: Option<CloseCode>,
}

const BROWSER_LEFT: &str = "browser_left";

/// What the WebSocket's close reason may take, in bytes (RFC 6455, section 5.5).
const REASON: usize = 123;

impl End {
    fn fault(reason: &'static str, text: impl Into<String>, amqp: u16, websocket: CloseCode) -> Self {
        Self { reason, text: text.into(), is_fault: true, is_deaf: false, amqp: Some(amqp), websocket: Some(websocket) }
    }

    pub(crate) fn done() -> Self {
        let text = "the connection was closed".to_owned();
        Self { reason: "closed", text, is_fault: false, is_deaf: false, amqp: None, websocket: Some(CloseCode::Normal) }
    }

    pub(crate) fn browser_gone(text: impl Into<String>) -> Self {
        Self { reason: BROWSER_LEFT, text: text.into(), is_fault: false, is_deaf: false, amqp: None, websocket: None }
    }

    pub(crate) fn browser_left(frame: Option<&CloseFrame>) -> Self {
        Self::browser_gone(match frame {
            Some(frame) => format!("the browser closed the WebSocket ({})", frame.code),
            None => "the browser closed the WebSocket".to_owned(),
        })
    }

    pub(crate) fn text() -> Self {
        Self::fault("text", "AMQP travels in binary messages", code::FRAME_ERROR, CloseCode::Unsupported)
    }

    pub(crate) fn not_amqp() -> Self {
        let mut end = Self::fault("not_amqp", "the first bytes must be AMQP 0-0-9-1", 0, CloseCode::Protocol);
        end.amqp = None;
        end
    }

    pub(crate) fn browser_fault(error: &Error) -> Self {
        if error.code() == code::ACCESS_REFUSED {
            return Self::fault("token_refused", error.message(), error.code(), CloseCode::Policy);
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

    pub(crate) fn upstream_lost(why: &str) -> Self {
        let text = format!("the connection to RabbitMQ was lost: {why}");
        Self::fault("upstream_lost", text, code::CONNECTION_FORCED, CloseCode::Error)
    }

    pub(crate) fn unreachable(why: &str) -> Self {
        Self::fault("upstream_unreachable", why, code::CONNECTION_FORCED, CloseCode::Again)
    }

    pub(crate) fn login_refused() -> Self {
        let text = "RabbitMQ refused the login: user and password are wrong, or the user may not connect";
        Self::fault("login_refused", text, code::ACCESS_REFUSED, CloseCode::Policy)
    }

    pub(crate) fn login_timeout(limit: Duration) -> Self {
        let text = format!("the login was not done within {limit:?}");
        Self::fault("login_timeout", text, code::CONNECTION_FORCED, CloseCode::Policy)
    }

    pub(crate) fn user_connections(user: &str) -> Self {
        let text = format!("{user} has as many connections as one user may have");
        Self::fault("user_connections", text, code::NOT_ALLOWED, CloseCode::Policy)
    }

    pub(crate) fn expired() -> Self {
        let text = "the token has expired; connect again with another";
        Self::fault("token_expired", text, code::CONNECTION_FORCED, CloseCode::Policy)
    }

    pub(crate) fn stalled(limit: Duration) -> Self {
        let text = format!("the browser read nothing for {limit:?}");
        Self { reason: "stalled", text, is_fault: true, is_deaf: false, amqp: None, websocket: None }
    }

    pub(crate) fn silent(limit: Duration) -> Self {
        let text = format!("nothing was heard of the browser for {limit:?}");
        Self { reason: "silent", text, is_fault: true, is_deaf: false, amqp: None, websocket: None }
    }

    pub(crate) fn draining() -> Self {
        let text = "the gateway goes away; connect again".to_owned();
        let (amqp, websocket) = (Some(code::CONNECTION_FORCED), Some(CloseCode::Away));
        Self { reason: "draining", text, is_fault: false, is_deaf: false, amqp, websocket }
    }

    /// What the WebSocket library found.
    pub(crate) fn websocket(error: Ws) -> Self {
        Self { is_deaf: true, ..Self::of_websocket(&error) }
    }

    fn of_websocket(error: &Ws) -> Self {
        match error {
            Ws::Capacity(error) => Self::fault("too_large", error.to_string(), code::FRAME_ERROR, CloseCode::Size),
            Ws::Io(error) if error.kind() == BEYOND => {
                Self::fault("too_large", error.to_string(), code::FRAME_ERROR, CloseCode::Size)
            }
            Ws::Utf8(_) => Self::text(),
            Ws::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Ws::Io(_) => {
                Self::browser_gone(format!("the browser went without a word: {error}"))
            }
            Ws::Protocol(error) => Self::fault("websocket", error.to_string(), code::FRAME_ERROR, CloseCode::Protocol),
            _ => Self::browser_gone(error.to_string()),
        }
    }

    /// Whether the browser closes the WebSocket, or has.
    pub(crate) fn is_browsers(&self) -> bool {
        self.reason == BROWSER_LEFT
    }

    /// The close frame for the WebSocket.
    pub(crate) fn frame(&self) -> Option<CloseFrame> {
        let mut reason = self.text.as_str();
        if reason.len() > REASON {
            let cut = (0..=REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason = &reason[..cut];
        }
        self.websocket.map(|code| CloseFrame { code, reason: reason.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        let end = End::upstream_lost(&"ä".repeat(200));
        let frame = end.frame().expect("there is one");
        assert!(frame.reason.len() <= REASON && frame.reason.len() >= REASON - 1);
        assert_eq!(frame.code, CloseCode::Error);
    }
}
