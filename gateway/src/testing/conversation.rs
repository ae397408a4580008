//! A browser and RabbitMQ that talk through the gateway's AMQP side.
//!
//! Owns one `AmqpProxy` and the framers of both directions. In go the bytes of one side; out come the bytes that would
//! be sent to each side. It uses the code of a session, and knows no sockets, no WebSockets and no timeouts. It must
//! never decide about a frame: what passes is the proxy's decision, which the tests judge.

use std::collections::VecDeque;

use hopmq_proto::Error;

use crate::admission::account::Batch;
use crate::amqp::framer::{Framer, Split};
use crate::amqp::proxy::{AmqpProxy, Bounds, Login};
use crate::amqp::verdict::Side;
use crate::config::Config;

/// One conversation; see the [module](self).
pub(crate) struct Conversation {
    pub(crate) proxy: AmqpProxy,
    from_browser: Framer,
    from_upstream: Framer,
    /// What RabbitMQ was sent.
    pub(crate) to_upstream: Vec<u8>,
    /// What the browser was sent.
    pub(crate) to_browser: Vec<u8>,
}

impl Conversation {
    /// Begins after the protocol header of the browser.
    pub(crate) fn new(config: &Config, login: Login) -> Self {
        let bounds = Bounds {
            login_frame_max: config.limits.login_frame_max.0 as u32,
            frame_max: config.limits.frame_max.0 as u32,
            channel_max: config.limits.channels,
            temporary_queues: config.limits.temporary_queues,
        };
        Self {
            proxy: AmqpProxy::new(bounds, login),
            from_browser: Framer::new(),
            from_upstream: Framer::new(),
            to_upstream: Vec::new(),
            to_browser: Vec::new(),
        }
    }

    /// Takes bytes of the browser.
    ///
    /// # Errors
    /// [`Error`] if the browser broke the protocol, which ends the conversation.
    pub(crate) fn browser(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = VecDeque::new();
        self.from_browser.push(bytes);
        let result = loop {
            let result = self.from_browser.split(&mut self.proxy, Side::Browser, Batch::UNLIMITED, &mut out);
            self.to_browser.append(&mut self.proxy.take_to_browser());
            // What is left waits for replies of RabbitMQ.
            if result != Ok(Split::Stopped) || self.proxy.is_saturated() {
                break result;
            }
        };
        self.to_upstream.extend(out.iter().flatten());
        result.map(drop)
    }

    /// Takes bytes of RabbitMQ.
    ///
    /// # Errors
    /// [`Error`] if RabbitMQ broke the protocol, which ends the conversation.
    pub(crate) fn upstream(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = VecDeque::new();
        self.from_upstream.push(bytes);
        let result = self.from_upstream.split(&mut self.proxy, Side::Upstream, Batch::UNLIMITED, &mut out);
        self.to_browser.extend(out.iter().flatten());
        self.to_browser.append(&mut self.proxy.take_to_browser());
        result.map(drop)
    }
}
