//! The server's end of an open connection: it opens and closes channels and passes on what clients ask.
//!
//! What the methods mean is the broker's to know; here only the order of things is kept.

use bytes::Bytes;

use super::channel::Phase;
use super::client::not_open;
use super::{Body, CLASS_CHANNEL, CLASS_CONNECTION, CloseReason, Connection, Event, State, unasked};
use crate::content::ContentKind;
use crate::method::{Encode, Method, MethodId, channel, connection};
use crate::{Arguments, Content, Error, FieldTable, Properties, code};

impl Connection {
    /// Server: sends a method on a channel, or on 0: an answer, or one of the server's own.
    ///
    /// # Errors
    /// If the channel is not open, or if an argument can't be encoded.
    pub fn answer<M: Encode>(&mut self, number: u16, method: &M) -> Result<(), Error> {
        self.check_channel(number)?;
        self.send_often(number, method)
    }

    /// Server: sends a message: `basic.deliver`, `basic.get-ok` or `basic.return`.
    ///
    /// # Errors
    /// As for [`Connection::answer`].
    pub fn answer_content<M: Encode>(
        &mut self,
        number: u16,
        method: &M,
        properties: Properties<&[u8]>,
        body: Body<'_>,
    ) -> Result<(), Error> {
        self.check_channel(number)?;
        self.send_content(number, method, properties, body)
    }

    /// Server: sends a message, `basic.deliver`, `basic.get-ok` or `basic.return`, with names as publishers wrote them,
    /// UTF-8 or not.
    ///
    /// # Errors
    /// As for [`Connection::answer`].
    #[inline]
    pub fn answer_message(
        &mut self,
        number: u16,
        kind: ContentKind,
        arguments: &Arguments<'_>,
        properties: Properties<&[u8]>,
        body: Body<'_>,
    ) -> Result<(), Error> {
        self.check_channel(number)?;
        self.send_message(number, kind.method(), |out| arguments.put(kind, out), properties, body)
    }

    /// Server: closes a channel for a fault on it. Until the client has agreed, what it sends there is dropped.
    ///
    /// # Errors
    /// If the channel is not open.
    pub fn refuse_channel(&mut self, number: u16, reason: &CloseReason) -> Result<(), Error> {
        self.check_channel(number)?;
        let MethodId { class: class_id, method: method_id } = reason.method;
        let close = channel::Close { reply_code: reason.code, reply_text: &reason.text, class_id, method_id };
        self.send(number, &close)?;
        if let Some(channel) = self.channel_mut(number) {
            channel.phase = Phase::Closing;
        }
        Ok(())
    }

    /// Server: closes the connection for a fault on it, in the handshake or later. During the login it says why only
    /// to clients that announced `authentication_failure_close`; for others, drop the transport.
    pub fn refuse(&mut self, reason: &CloseReason) {
        if matches!(self.state, State::Closing | State::Closed) {
            return;
        }
        let MethodId { class: class_id, method: method_id } = reason.method;
        let close = connection::Close { reply_code: reason.code, reply_text: &reason.text, class_id, method_id };
        // Its text is cut to what fits.
        let _ = self.send(0, &close);
        self.state = State::Closing;
    }

    /// Whether the peer's properties announce a capability: `basic.nack`, `connection.blocked`, …
    pub fn has_capability(properties: &FieldTable, name: &str) -> bool {
        let capabilities = properties.get("capabilities").and_then(|value| value.as_table());
        capabilities.and_then(|table| table.get(name)?.as_bool()).unwrap_or(false)
    }

    fn check_channel(&mut self, number: u16) -> Result<(), Error> {
        let open = match number {
            0 => true,
            _ => self.channel_mut(number).is_some_and(|channel| channel.phase == Phase::Open),
        };
        if open && self.state == State::Open {
            return Ok(());
        }
        Err(Error::caller(format!("channel {number} is not open")))
    }

    pub(super) fn content_from_client(&mut self, number: u16, content: Content) -> Result<Option<Event>, Error> {
        let Some(channel) = self.channel_mut(number) else { return Err(not_open(number)) };
        if channel.phase == Phase::Closing {
            return Ok(None);
        }
        if content.kind() != ContentKind::Publish {
            let name = content.kind().method().name();
            return Err(Error::peer(code::COMMAND_INVALID, format!("{name} from a client")));
        }
        content.try_arguments()?;
        content.properties().check()?;
        Ok(Some(Event::Published { channel: number, content }))
    }

    pub(super) fn method_from_client(
        &mut self,
        number: u16,
        id: MethodId,
        payload: Bytes,
    ) -> Result<Option<Event>, Error> {
        let method = Method::decode(&payload)?;
        if id.class == CLASS_CONNECTION {
            let in_handshake_only = !matches!(method, Method::ConnectionUpdateSecret(_));
            return if in_handshake_only { Err(unasked(id)) } else { Ok(Some(Event::Method { channel: 0, payload })) };
        }
        let phase = self.channel_mut(number).map(|channel| channel.phase);
        match (phase, method) {
            (None, Method::ChannelOpen(_)) if number <= self.tuning.channel_max => {
                self.insert_channel(number, Phase::Open);
                self.send(number, &channel::OpenOk {})?;
                Ok(Some(Event::ChannelOpened { channel: number }))
            }
            (None, _) => Err(not_open(number)),
            (Some(Phase::Closing), Method::ChannelCloseOk(_)) => {
                self.remove_channel(number);
                Ok(None)
            }
            (Some(phase), Method::ChannelClose(close)) => {
                self.send(number, &channel::CloseOk {})?;
                if phase == Phase::Closing {
                    return Ok(None);
                }
                self.remove_channel(number);
                let method = MethodId { class: close.class_id, method: close.method_id };
                let reason = CloseReason { code: close.reply_code, text: close.reply_text.to_owned(), method };
                Ok(Some(Event::ChannelClosed { channel: number, reason }))
            }
            (Some(Phase::Closing), _) => Ok(None),
            (Some(_), Method::ChannelOpen(_)) => {
                Err(Error::peer(code::CHANNEL_ERROR, format!("channel {number} is open already")))
            }
            (Some(_), _) if id.class == CLASS_CHANNEL && id == channel::CloseOk::ID => Err(unasked(id)),
            (Some(_), _) => Ok(Some(Event::Method { channel: number, payload })),
        }
    }
}
