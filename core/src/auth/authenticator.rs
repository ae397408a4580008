//! The client's part of the handshake: choosing a mechanism and answering challenges.

use std::sync::Arc;

use hopmq_proto::{Connection, Event, FieldTable};
use tracing::debug;

use crate::auth::sasl::{self, Credentials, Sasl};
use crate::error::{Error, ErrorKind, Result};

/// Answers the broker's handshake until the connection is open.
pub(crate) struct Authenticator {
    pub(crate) mechanisms: Vec<Arc<dyn Sasl>>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) properties: FieldTable,
    pub(crate) chosen: Option<Arc<dyn Sasl>>,
    /// The broker's properties, from `connection.start`.
    pub(crate) server_properties: Option<FieldTable>,
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
                proto.start_ok(&self.properties, mechanism.name(), &response)?;
                self.server_properties = Some(server_properties);
                self.chosen = Some(mechanism);
            }
            Event::Secure { challenge } => {
                let Some(mechanism) = &self.chosen else {
                    return Err(Error::new(ErrorKind::Protocol, "received connection.secure before connection.start"));
                };
                let response = mechanism.respond(&challenge, self.credentials()?)?;
                proto.secure_ok(&response)?;
            }
            Event::Opened => {
                // The secret is not needed any more, so it is dropped early.
                self.credentials = None;
                return Ok(Some(event));
            }
            event => return Ok(Some(event)),
        }
        Ok(None)
    }

    fn credentials(&self) -> Result<&Credentials> {
        self.credentials.as_ref().ok_or_else(|| Error::new(ErrorKind::Authentication, "no credentials are set"))
    }
}
