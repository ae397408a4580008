//! One connection of AMQP, as somebody in the middle hears it.
//!
//! Owns what must be known of both sides: how far the handshake is, the limits in force, and what the gateway itself
//! has to say to either side. Frames come in one by one with the side that they come from; what goes out is whether to
//! pass each on. It knows no socket and no clock.

use hopmq_proto::method::{Encode, Method, MethodId, connection};
use hopmq_proto::{Connection, Error, Frame, Kind, MIN_FRAME_MAX, ReceiveLimits, code, put_method};

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Browser,
    Upstream,
}

/// What becomes of a frame.
#[derive(Debug)]
pub(crate) enum Verdict {
    Pass,
    Drop,
    Replace(Vec<u8>),
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Until RabbitMQ knows who it is.
    Login,
    /// The password was right.
    Known,
    /// `connection.open-ok` was passed on.
    Open,
    /// One side asked for the end.
    Closing,
    /// And the other agreed.
    Closed,
}

/// Bounds on what the two may agree on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) login_frame_max: u32,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
}

/// What was counted since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) refused: u64,
}

/// See the [module](self).
pub(crate) struct Conversation {
    stage: Stage,
    bounds: Bounds,
    browser: ReceiveLimits,
    upstream: ReceiveLimits,
    /// RabbitMQ's side was opened, so it is to be told goodbye.
    upstream_open: bool,
    /// The client said that it understands a close during login.
    hears_refusals: bool,
    /// Something came from the client after the protocol header.
    login_sent: bool,
    user: Option<String>,
    pub(crate) counts: Counts,
}

impl Conversation {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let limits = |frame_max| ReceiveLimits { frame_max, channel_max: 0, message_max: u64::MAX };
        Self {
            stage: Stage::Login,
            bounds,
            browser: limits(bounds.login_frame_max.max(MIN_FRAME_MAX)),
            upstream: limits(bounds.frame_max.max(MIN_FRAME_MAX)),
            upstream_open: false,
            hears_refusals: false,
            login_sent: false,
            user: None,
            counts: Counts::default(),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether RabbitMQ's side is open and is to be closed in good order.
    pub(crate) fn upstream_open(&self) -> bool {
        self.upstream_open
    }

    /// Whether the client understands a `connection.close`.
    pub(crate) fn browser_listens(&self) -> bool {
        match self.stage {
            Stage::Login => self.hears_refusals,
            Stage::Known | Stage::Open => true,
            Stage::Closing | Stage::Closed => false,
        }
    }

    /// Whether credentials were sent and not answered.
    pub(crate) fn awaits_login(&self) -> bool {
        self.stage == Stage::Login && self.login_sent
    }

    /// Who logged in, as they call themselves.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn limits(&self, from: Side) -> &ReceiveLimits {
        match from {
            Side::Browser => &self.browser,
            Side::Upstream => &self.upstream,
        }
    }

    /// Decides about one frame.
    ///
    /// # Errors
    /// If its sender broke the protocol.
    #[inline]
    pub(crate) fn judge(&mut self, from: Side, frame: &Frame<'_>) -> Result<Verdict, Error> {
        if frame.kind() != Kind::Method {
            return Ok(Verdict::Pass);
        }
        let id = frame.method()?;
        if frame.channel() == 0 {
            return match from {
                Side::Browser => self.connection_from_browser(id, frame),
                Side::Upstream => self.connection_from_upstream(id, frame),
            };
        }
        if id.has_content() {
            match from {
                Side::Browser => self.counts.published += 1,
                Side::Upstream => self.counts.delivered += 1,
            }
        }
        Ok(Verdict::Pass)
    }

    fn connection_from_browser(&mut self, id: MethodId, frame: &Frame<'_>) -> Result<Verdict, Error> {
        match id {
            connection::StartOk::ID => {
                let Method::ConnectionStartOk(start) = Method::decode(frame.payload())? else { return Err(odd(id)) };
                let properties = start.client_properties.into();
                self.hears_refusals = Connection::has_capability(&properties, "authentication_failure_close");
                self.login_sent = true;
                if start.mechanism == "PLAIN" {
                    let name = start.response.split(|byte| *byte == 0).nth(1);
                    self.user = name.and_then(|name| String::from_utf8(name.to_vec()).ok());
                }
            }
            connection::TuneOk::ID => {
                let Method::ConnectionTuneOk(tune) = Method::decode(frame.payload())? else { return Err(odd(id)) };
                self.agree(tune.frame_max, tune.channel_max);
            }
            connection::Close::ID => self.stage = self.stage.max(Stage::Closing),
            connection::CloseOk::ID => self.stage = Stage::Closed,
            _ => {}
        }
        Ok(Verdict::Pass)
    }

    fn connection_from_upstream(&mut self, id: MethodId, frame: &Frame<'_>) -> Result<Verdict, Error> {
        match id {
            connection::Tune::ID => {
                let Method::ConnectionTune(mut tune) = Method::decode(frame.payload())? else { return Err(odd(id)) };
                self.stage = self.stage.max(Stage::Known);
                tune.frame_max = lower(tune.frame_max, self.bounds.frame_max);
                tune.channel_max = lower(u32::from(tune.channel_max), u32::from(self.bounds.channel_max)) as u16;
                self.agree(tune.frame_max, tune.channel_max);
                return Ok(Verdict::Replace(frame_of(0, &tune)));
            }
            connection::OpenOk::ID => {
                self.stage = self.stage.max(Stage::Open);
                self.upstream_open = true;
            }
            connection::Close::ID => {
                self.upstream_open = false;
                self.stage = self.stage.max(Stage::Closing);
            }
            connection::CloseOk::ID => {
                self.upstream_open = false;
                self.stage = Stage::Closed;
            }
            _ => {}
        }
        Ok(Verdict::Pass)
    }

    /// What `tune` proposes bounds the sides, and what `tune-ok` accepts bounds them further.
    fn agree(&mut self, frame_max: u32, channel_max: u16) {
        let frame_max = lower(frame_max, self.bounds.frame_max).max(MIN_FRAME_MAX);
        let channel_max = lower(u32::from(channel_max), u32::from(self.bounds.channel_max)) as u16;
        for limits in [&mut self.browser, &mut self.upstream] {
            limits.frame_max = frame_max;
            limits.channel_max = channel_max;
        }
    }
}

/// The smaller limit, where 0 is none.
fn lower(a: u32, b: u32) -> u32 {
    [a, b].into_iter().filter(|limit| *limit != 0).min().unwrap_or(0)
}

#[cold]
fn odd(id: MethodId) -> Error {
    Error::peer(code::SYNTAX_ERROR, format!("{} that is none", id.name()))
}

/// A method frame of the gateway's own. What it says is bounded, so it fits.
pub(crate) fn frame_of<M: Encode>(channel: u16, method: &M) -> Vec<u8> {
    let mut out = Vec::new();
    let written = put_method(&mut out, usize::MAX, channel, method);
    debug_assert!(written.is_ok(), "what the gateway writes can be written");
    out
}

/// A `connection.close` of the gateway's own. Its text is cut to what fits.
pub(crate) fn close_frame(code: u16, text: &str) -> Vec<u8> {
    frame_of(0, &connection::Close { reply_code: code, reply_text: text, class_id: 0, method_id: 0 })
}
