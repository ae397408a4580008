//! Explanations of WebSocket failures, with what to do about them.

use async_tungstenite::tungstenite::Error as WsError;
use async_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::MAX_MESSAGE;
use crate::error::{Error, ErrorKind};

/// Explains why the handshake with `place` failed.
pub(super) fn handshake(place: &str, error: WsError) -> Error {
    let why = match &error {
        WsError::Http(response) => {
            let hint = match response.status().as_u16() {
                200..=299 => "; the path leads to something else, so check it",
                300..=399 => "; it redirects, which is not supported, so use the final address",
                401 | 403 => "; it refuses access, so check whether it requires a login or a certain Origin",
                404 | 405 => "; is the path right?",
                426 => "; it requires another version of the protocol",
                502..=504 => "; the server behind the proxy does not answer",
                _ => "",
            };
            return Error::new(ErrorKind::WebSocket, format!("{place} answered HTTP {}{hint}", response.status()));
        }
        WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            format!("{place} and this client share no subprotocol: set it with websocket_protocols")
        }
        WsError::Protocol(ProtocolError::HandshakeIncomplete) => {
            format!("{place} closed the connection during the handshake")
        }
        WsError::Protocol(_) | WsError::Capacity(_) | WsError::AttackAttempt | WsError::Utf8(_) => {
            format!("{place} does not answer as a WebSocket server; is this the plain AMQP port?")
        }
        WsError::Io(error) => {
            if let Some(explained) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
                return explained.clone();
            }
            format!("the connection to {place} failed during the handshake")
        }
        _ => format!("the WebSocket handshake with {place} failed"),
    };
    Error::new(ErrorKind::WebSocket, format!("{why}: {error}"))
}

/// Returns why the peer closed, or `None` for a normal close.
pub(super) fn close(frame: Option<&CloseFrame>) -> Option<String> {
    let frame = frame?;
    match (frame.code, &*frame.reason) {
        (CloseCode::Normal, "") => None,
        (code, "") => Some(format!("the peer closed the WebSocket with code {code}")),
        (code, reason) => Some(format!("the peer closed the WebSocket with code {code}: {reason}")),
    }
}

/// Explains why an open WebSocket failed.
pub(super) fn broken(error: &WsError) -> String {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { size, .. }) => {
            format!("the peer sent a WebSocket message of {size} bytes, but at most {MAX_MESSAGE} are allowed")
        }
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the peer dropped the WebSocket without closing it".to_owned()
        }
        error => format!("the WebSocket failed: {error}"),
    }
}
