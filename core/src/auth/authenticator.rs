//! The client's part of the handshake: choosing a mechanism and answering challenges.

use std::sync::Arc;

use hopmq_proto::{Connection, Event, FieldTable, Violation, code};
use tracing::debug;

use crate::auth::sasl::{self, Credentials, Sasl};
use crate::error::{Error, ErrorKind, Result};

/// Answers the broker's handshake until the connection is open.
pub(crate) struct Authenticator {
    pub(crate) mechanisms: Vec<Arc<dyn Sasl>>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) properties: FieldTable,
    pub(crate) chosen: Option<Arc<dyn Sasl>>,
    /// What was sent to log in.
    pub(crate) login: Option<LoginSize>,
    /// The broker's properties, from `connection.start`.
    pub(crate) server_properties: Option<FieldTable>,
}

/// The sizes of a frame that carries a secret, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginSize {
    secret: usize,
    frame: usize,
}

/// The largest frame that RabbitMQ takes during the login by default, before release 4.1.
const LEAST_LIMIT: usize = 4096;

impl LoginSize {
    /// Returns the likely cause of a broker that closes the socket instead of answering.
    pub(crate) fn guess(self) -> Option<String> {
        let Self { secret, frame } = self;
        (frame > LEAST_LIMIT).then(|| {
            format!(
                "the secret has {secret} bytes, so its frame has {frame}, and by default RabbitMQ takes {LEAST_LIMIT} \
                 bytes before release 4.1, and 8192 since: raise initial_frame_max in rabbitmq.conf?"
            )
        })
    }
}

impl Authenticator {
    /// Handles the events of the handshake, and returns all others.
    #[inline]
    pub(crate) fn handle(&mut self, proto: &mut Connection, event: Event) -> Result<Option<Event>> {
        match event {
            Event::Start { server_properties, mechanisms } => {
                debug!(mechanisms, server = ?server_properties, "received connection.start");
                let mechanism = sasl::select(&self.mechanisms, &mechanisms)?;
                let response = mechanism.initial(self.credentials()?)?;
                let before = proto.queued();
                let sent = proto.start_ok(&self.properties, mechanism.name(), &response);
                self.note_login(proto, before, response.len(), sent)?;
                self.server_properties = Some(server_properties);
                self.chosen = Some(mechanism);
            }
            Event::Secure { challenge } => {
                let Some(mechanism) = &self.chosen else {
                    return Err(Error::new(ErrorKind::Protocol, "received connection.secure before connection.start"));
                };
                let response = mechanism.respond(&challenge, self.credentials()?)?;
                let before = proto.queued();
                let sent = proto.secure_ok(&response);
                self.note_login(proto, before, response.len(), sent)?;
            }
            Event::Opened => {
                // The secret is not needed any more, so it is dropped early.
                self.credentials = None;
                self.login = None;
                return Ok(Some(event));
            }
            event => return Ok(Some(event)),
        }
        Ok(None)
    }

    /// Notes the size of a secret that was sent, or explains why it could not be sent.
    fn note_login(
        &mut self,
        proto: &Connection,
        before: usize,
        secret: usize,
        sent: Result<(), hopmq_proto::Error>,
    ) -> Result<()> {
        match sent.as_ref().map_err(hopmq_proto::Error::violation) {
            Ok(()) => self.login = Some(LoginSize { secret, frame: proto.queued() - before }),
            Err(Violation::FrameTooLarge { size, limit }) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "the secret has {secret} bytes, so its frame has {size}, and the limit during the login is \
                         {limit}: set initial_frame_max of the connection, and that of the broker in rabbitmq.conf, \
                         to {size} or more"
                    ),
                ));
            }
            Err(_) => {}
        }
        Ok(sent?)
    }

    /// Adds the likely cause to the error of a broker that refused a frame of the login.
    #[cold]
    pub(crate) fn explain(&self, error: Error) -> Error {
        let guess = self.login.filter(|_| error.code() == Some(code::FRAME_ERROR)).and_then(LoginSize::guess);
        match guess {
            Some(guess) => error.wrapped(error.kind(), format!("{error}: {guess}")),
            None => error,
        }
    }

    fn credentials(&self) -> Result<&Credentials> {
        self.credentials.as_ref().ok_or_else(|| Error::new(ErrorKind::Authentication, "no credentials are set"))
    }
}
