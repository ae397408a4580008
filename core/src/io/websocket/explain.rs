//! What went wrong with a WebSocket, said so that it can be mended.

use async_tungstenite::tungstenite::Error as WsError;
use async_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::MAX_MESSAGE;
use crate::error::{Error, ErrorKind};

/// Why the handshake with `place` failed.
pub(super) fn handshake(place: &str, error: WsError) -> Error {
    let why = match &error {
        WsError::Http(response) => {
            let hint = match response.status().as_u16() {
                200..=299 => ": it serves something else there; is the path right?",
                300..=399 => ": it sends elsewhere, and redirects are not followed",
                401 | 403 => ": it lets nobody in like that; does it demand a login or an Origin of its own?",
                404 | 405 => ": is the path right?",
                426 => ": it wants another version of the protocol",
                502..=504 => ": the server behind the proxy does not answer",
                _ => "",
            };
            return Error::new(ErrorKind::WebSocket, format!("{place} answered HTTP {}{hint}", response.status()));
        }
        WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            format!("{place} and this client don't agree on a subprotocol")
        }
        WsError::Protocol(ProtocolError::HandshakeIncomplete) => format!("{place} hung up during the handshake"),
        WsError::Protocol(_) | WsError::Capacity(_) | WsError::AttackAttempt | WsError::Utf8(_) => {
            format!("{place} does not answer like a WebSocket server; is it the plain AMQP port?")
        }
        WsError::Io(error) => {
            if let Some(explained) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
                return explained.clone();
            }
            format!("the connection to {place} broke during the handshake")
        }
        _ => format!("the handshake with {place} failed"),
    };
    Error::with_source(ErrorKind::WebSocket, why, error)
}

/// Why the peer closed, or `None` if it just wanted to.
pub(super) fn close(frame: Option<&CloseFrame>) -> Option<String> {
    let frame = frame?;
    match (frame.code, &*frame.reason) {
        (CloseCode::Normal, "") => None,
        (code, "") => Some(format!("the peer closed the WebSocket with code {code}")),
        (code, reason) => Some(format!("the peer closed the WebSocket with code {code}: {reason}")),
    }
}

/// Why an open WebSocket is no more.
pub(super) fn broken(error: &WsError) -> String {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { size, .. }) => {
            format!("the peer sent a WebSocket message of {size} bytes, and {MAX_MESSAGE} are allowed")
        }
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the peer dropped the WebSocket without closing it".to_owned()
        }
        error => format!("the WebSocket broke: {error}"),
    }
}
