//! One connection of AMQP, as somebody in the middle hears it.
//!
//! Owns what must be known of both sides: how far the handshake is, the limits in force, and what the gateway itself
//! has to say to either side. Frames come in one by one with the side that they come from; what goes out is whether to
//! pass each on. It knows no socket and no clock.

use std::sync::Arc;

use hopmq_proto::method::{Encode, Method, MethodId, connection};
use hopmq_proto::{Connection, Error, Frame, Kind, MIN_FRAME_MAX, ReceiveLimits, code};

use super::encode::method_frame;
use super::policy_filter::PolicyFilter;
use super::verdict::{Side, Verdict};
use crate::admission::limits::Rates;
use crate::auth::{Auth, Grant};
use crate::metrics::Counts;

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

/// Who decides who somebody is.
pub(crate) enum Login {
    /// RabbitMQ: user and password pass through.
    RabbitMq,
    /// The gateway, by the token that comes as the password.
    Token(Arc<Auth>),
    /// The gateway has, by a ticket.
    Granted(Option<Box<Grant>>),
}

/// Bounds on what the two may agree on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) login_frame_max: u32,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
}

/// See the [module](self).
pub(crate) struct AmqpProxy {
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
    login: Login,
    /// What comes next of the browser's login, where the gateway decides.
    step: Step,
    filter: Option<PolicyFilter>,
    /// What the gateway itself says to the browser.
    to_browser: Vec<u8>,
    pub(crate) counts: Counts,
}

/// The browser's part of the handshake, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    StartOk,
    TuneOk,
    Open,
    Done,
}

impl AmqpProxy {
    pub(crate) fn new(bounds: Bounds, login: Login) -> Self {
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
            login,
            step: Step::StartOk,
            filter: None,
            to_browser: Vec::new(),
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

    /// Who logged in, and what they may send: as they call themselves, or as their token does.
    pub(crate) fn user(&self) -> Option<(&str, Option<Rates>)> {
        match &self.filter {
            Some(filter) => Some((&filter.grant().subject, Some(filter.grant().rates))),
            None => self.user.as_deref().map(|user| (user, None)),
        }
    }

    /// When the token expires, in seconds since 1970.
    pub(crate) fn expires(&self) -> Option<u64> {
        self.filter.as_ref()?.grant().expires
    }

    /// What the gateway itself has to say to the browser.
    pub(crate) fn take_to_browser(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_browser)
    }

    /// Whether it has something to say.
    pub(crate) fn has_to_browser(&self) -> bool {
        !self.to_browser.is_empty()
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
        if frame.channel() != 0
            && let Some(filter) = &mut self.filter
        {
            let verdict = match from {
                Side::Browser => filter.of_browser(frame, &mut self.to_browser)?,
                Side::Upstream => filter.of_upstream(frame)?,
            };
            return Ok(self.counted(from, frame, verdict));
        }
        if frame.kind() != Kind::Method {
            return Ok(Verdict::Pass);
        }
        if frame.channel() == 0 {
            let id = frame.method()?;
            return match from {
                Side::Browser => self.connection_from_browser(id, frame),
                Side::Upstream => self.connection_from_upstream(id, frame),
            };
        }
        Ok(self.counted(from, frame, Verdict::Pass))
    }

    #[inline]
    fn counted(&mut self, from: Side, frame: &Frame<'_>, verdict: Verdict) -> Verdict {
        if let Verdict::Refuse(bytes) = verdict {
            self.counts.refused += 1;
            return Verdict::Replace(bytes);
        }
        // A message counts with its method, or with its header where the method was held back until then.
        let is_message = match (frame.kind(), &verdict) {
            (Kind::Method, Verdict::Pass) => frame.method().is_ok_and(MethodId::has_content),
            (Kind::Header, Verdict::Replace(_)) => true,
            _ => false,
        };
        if is_message {
            match from {
                Side::Browser => self.counts.published += 1,
                Side::Upstream => self.counts.delivered += 1,
            }
        }
        verdict
    }

    fn connection_from_browser(&mut self, id: MethodId, frame: &Frame<'_>) -> Result<Verdict, Error> {
        if !matches!(self.login, Login::RabbitMq) {
            self.in_order(id)?;
        }
        match id {
            connection::StartOk::ID => {
                let Method::ConnectionStartOk(start) = Method::decode(frame.payload())? else { return Err(odd(id)) };
                let properties = start.client_properties.into();
                self.hears_refusals = Connection::has_capability(&properties, "authentication_failure_close");
                self.login_sent = true;
                return self.log_in(&start);
            }
            connection::Open::ID => {
                if let Some(filter) = &self.filter {
                    let open = connection::Open { virtual_host: &filter.grant().vhost };
                    return Ok(Verdict::Replace(method_frame(0, &open)));
                }
            }
            connection::UpdateSecret::ID => {
                if let Login::Token(auth) = &self.login {
                    let auth = Arc::clone(auth);
                    let Method::ConnectionUpdateSecret(update) = Method::decode(frame.payload())? else {
                        return Err(odd(id));
                    };
                    return self.renew(&auth, update.new_secret);
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

    /// Where the gateway logs in, the browser's part of the handshake comes once and in its order.
    fn in_order(&mut self, id: MethodId) -> Result<(), Error> {
        let next = match (self.step, id) {
            (_, connection::Close::ID | connection::CloseOk::ID) => return Ok(()),
            (Step::StartOk, connection::StartOk::ID) => Step::TuneOk,
            (Step::TuneOk, connection::TuneOk::ID) => Step::Open,
            (Step::Open, connection::Open::ID) => Step::Done,
            (Step::Done, connection::UpdateSecret::ID) => return Ok(()),
            _ => return Err(Error::peer(code::COMMAND_INVALID, format!("{id} is out of its order"))),
        };
        self.step = next;
        Ok(())
    }

    /// Lets user and password pass, or puts RabbitMQ's in their place.
    fn log_in(&mut self, start: &connection::StartOk<'_>) -> Result<Verdict, Error> {
        let plain = || start.response.split(|byte| *byte == 0);
        let refused = |why: String| Error::peer(code::ACCESS_REFUSED, format!("ACCESS_REFUSED - {why}"));
        let grant = match &mut self.login {
            Login::RabbitMq => {
                if start.mechanism == "PLAIN" {
                    self.user = plain().nth(1).and_then(|name| String::from_utf8(name.to_vec()).ok());
                }
                return Ok(Verdict::Pass);
            }
            Login::Granted(grant) => *grant.take().ok_or_else(|| odd(connection::StartOk::ID))?,
            Login::Token(auth) => {
                let token = plain().nth(2).filter(|_| start.mechanism == "PLAIN");
                let token = token.and_then(|token| std::str::from_utf8(token).ok());
                let token = token.ok_or_else(|| refused("the token must come as the password of PLAIN".to_owned()))?;
                auth.token(token).map_err(refused)?
            }
        };
        let response = format!("\0{}\0{}", grant.username, grant.password);
        let start = connection::StartOk { mechanism: "PLAIN", response: response.as_bytes(), ..*start };
        self.filter = Some(PolicyFilter::new(grant));
        Ok(Verdict::Replace(method_frame(0, &start)))
    }

    /// Takes a newer token of the same bearer.
    fn renew(&mut self, auth: &Auth, token: &[u8]) -> Result<Verdict, Error> {
        let refused = |why: String| Error::peer(code::ACCESS_REFUSED, format!("ACCESS_REFUSED - {why}"));
        let token = std::str::from_utf8(token).map_err(|_| refused("the token is no text".to_owned()))?;
        let grant = auth.token(token).map_err(refused)?;
        let Some(filter) = &mut self.filter else { return Ok(Verdict::Drop) };
        let (old, new) = (filter.grant(), &grant);
        if (&old.subject, &old.username, &old.vhost) != (&new.subject, &new.username, &new.vhost) {
            return Err(refused("the new token is for somebody else".to_owned()));
        }
        filter.renew(grant);
        self.to_browser.extend_from_slice(&method_frame(0, &connection::UpdateSecretOk {}));
        Ok(Verdict::Drop)
    }

    fn connection_from_upstream(&mut self, id: MethodId, frame: &Frame<'_>) -> Result<Verdict, Error> {
        match id {
            connection::Start::ID if !matches!(self.login, Login::RabbitMq) => {
                let Method::ConnectionStart(start) = Method::decode(frame.payload())? else { return Err(odd(id)) };
                return Ok(Verdict::Replace(method_frame(0, &connection::Start { mechanisms: b"PLAIN", ..start })));
            }
            connection::Tune::ID => {
                let Method::ConnectionTune(mut tune) = Method::decode(frame.payload())? else { return Err(odd(id)) };
                self.stage = self.stage.max(Stage::Known);
                tune.frame_max = lower(tune.frame_max, self.bounds.frame_max);
                tune.channel_max = lower(u32::from(tune.channel_max), u32::from(self.bounds.channel_max)) as u16;
                self.agree(tune.frame_max, tune.channel_max);
                return Ok(Verdict::Replace(method_frame(0, &tune)));
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
