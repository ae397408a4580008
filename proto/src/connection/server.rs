//! The calls and methods of a server on an open connection.
//!
//! This module opens and closes channels and checks the order of methods; the broker knows what the methods mean.

use bytes::Bytes;

use super::channel::{Phase, unexpected};
use super::event::{CloseReason, Event};
use super::message::Body;
use super::{CLASS_CHANNEL, CLASS_CONNECTION, Connection, State, cannot_use, forbidden, not_open};
use crate::content::{Arguments, Content, ContentKind};
use crate::error::{Error, code};
use crate::method::{Encode, Method, channel, connection};
use crate::method_id::MethodId;
use crate::properties::Properties;
use crate::table::FieldTable;
use crate::violation::Violation;

impl Connection {
    /// Server: sends a method on a channel or on channel 0: a reply, or a method that the server initiates.
    ///
    /// # Errors
    /// The caller's fault, if the channel is not open or an argument cannot be encoded.
    pub fn answer<M: Encode>(&mut self, number: u16, method: &M) -> Result<(), Error> {
        self.check_channel(number)?;
        self.send_often(number, method)
    }

    /// Server: sends a message: `basic.deliver`, `basic.get-ok` or `basic.return`.
    ///
    /// # Errors
    /// The errors of [`Connection::answer`].
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

    /// Server: sends a message: `basic.deliver`, `basic.get-ok` or `basic.return`. Names are bytes and need not be
    /// UTF-8.
    ///
    /// # Errors
    /// The errors of [`Connection::answer`].
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

    /// Server: closes a channel with a reason. What the client sends on the channel before its reply is dropped.
    ///
    /// # Errors
    /// The caller's fault, if the channel is not open.
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

    /// Server: closes the connection with a reason, during the handshake or later. During the login, call this only for
    /// clients that announced `authentication_failure_close`; for others, drop the transport.
    pub fn refuse(&mut self, reason: &CloseReason) {
        if matches!(self.state, State::Closing | State::Closed) {
            return;
        }
        let MethodId { class: class_id, method: method_id } = reason.method;
        let close = connection::Close { reply_code: reason.code, reply_text: &reason.text, class_id, method_id };
        // Encoding truncates the text, so it cannot fail.
        let _ = self.send(0, &close);
        self.state = State::Closing;
    }

    /// Returns whether the properties of the peer announce a capability: `basic.nack`, `connection.blocked`, …
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
        Err(cannot_use(number))
    }

    pub(super) fn content_from_client(&mut self, number: u16, content: Content) -> Result<Option<Event>, Error> {
        let Some(channel) = self.channel_mut(number) else { return Err(not_open(number)) };
        if channel.phase == Phase::Closing {
            return Ok(None);
        }
        if content.kind() != ContentKind::Publish {
            return Err(forbidden(content.kind().method()));
        }
        content.try_arguments()?;
        content.properties().check()?;
        Ok(Some(Event::Published { channel: number, content }))
    }

    pub(super) fn oversized_from_client(&mut self, number: u16, size: u64) -> Result<Option<Event>, Error> {
        let Some(channel) = self.channel_mut(number) else { return Err(not_open(number)) };
        Ok((channel.phase != Phase::Closing).then_some(Event::Oversized { channel: number, size }))
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
            return if in_handshake_only {
                Err(unexpected(id))
            } else {
                Ok(Some(Event::Method { channel: 0, payload }))
            };
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
                let text = format!("received channel.open on channel {number}, which is already open");
                Err(Violation::ChannelInUse { channel: number }.by_peer(code::CHANNEL_ERROR, text))
            }
            (Some(_), _) if id.class == CLASS_CHANNEL && id == channel::CloseOk::ID => Err(unexpected(id)),
            (Some(_), _) => Ok(Some(Event::Method { channel: number, payload })),
        }
    }
}
