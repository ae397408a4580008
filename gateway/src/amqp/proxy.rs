//! The state of one AMQP connection between a browser and RabbitMQ.
//!
//! Tracks the stage of the connection and the negotiated limits, and holds the frames that the gateway itself sends to
//! the browser. [`AmqpProxy::handle_frame`] takes each frame with its sender and decides what happens to it.

use std::sync::Arc;

use hopmq_proto::method::{Encode, Method, MethodId, connection};
use hopmq_proto::{Connection, Error, Frame, Kind, MIN_FRAME_MAX, ReceiveLimits, code};

use super::credentials::check_remote;
use super::encode::method_frame;
use super::policy_filter::PolicyFilter;
use super::verdict::{Side, Verdict};
use crate::admission::limits::Rates;
use crate::auth::error::AuthError;
use crate::auth::{Auth, Grant};
use crate::metrics::Counts;

/// The number of bytes of its own for the browser from which the gateway takes no more frames of the browser.
const OUTPUT_MAX: usize = 16 << 10;

/// The stage of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// RabbitMQ has not accepted the login yet.
    Login,
    /// RabbitMQ has accepted the login.
    Authenticated,
    /// `connection.open-ok` was passed on.
    Open,
    /// One side has sent `connection.close`.
    Closing,
    /// The other side has sent `connection.close-ok`.
    Closed,
}

/// How the client authenticates.
pub(crate) enum Login {
    /// By user and password, which RabbitMQ checks, but for the users that may log in from this machine only. They are
    /// none if the page is on this machine.
    RabbitMq { loopback_users: Arc<[String]> },
    /// By a token in place of the password, which the gateway checks.
    Token(Arc<Auth>),
    /// By a ticket, which the gateway has checked. The grant is `None` after the login.
    Granted { grant: Option<Box<Grant>>, auth: Arc<Auth> },
}

/// Upper bounds for the negotiated limits, and for what a policy allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) login_frame_max: u32,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    /// Temporary queues, where a policy applies.
    pub(crate) temporary_queues: usize,
}

/// One AMQP connection between a browser and RabbitMQ; see the [module](self).
pub(crate) struct AmqpProxy {
    stage: Stage,
    bounds: Bounds,
    browser: ReceiveLimits,
    upstream: ReceiveLimits,
    /// Whether RabbitMQ has sent its limits: it has accepted the login, and those of a login end.
    is_tuned: bool,
    /// The largest frame, and the highest channel, that both sides have agreed to so far.
    agreed: (u32, u16),
    /// Whether RabbitMQ must get a `connection.close`.
    upstream_open: bool,
    /// Whether the client announced `authentication_failure_close`: it handles a close during the login.
    handles_login_close: bool,
    /// Whether the client has sent `connection.start-ok`.
    login_sent: bool,
    user: Option<String>,
    /// RabbitMQ's reason to refuse the login or the virtual host.
    refusal: Option<String>,
    login: Login,
    /// The next step of the browser's handshake, where the gateway authenticates.
    step: Step,
    /// Boxed, because it is large and a connection without a token has none.
    filter: Option<Box<PolicyFilter>>,
    /// Frames of the gateway for the browser.
    to_browser: Vec<u8>,
    pub(crate) counts: Counts,
}

/// The browser's steps of the handshake, in order.
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
            is_tuned: false,
            agreed: (bounds.frame_max, bounds.channel_max),
            upstream_open: false,
            handles_login_close: false,
            login_sent: false,
            user: None,
            refusal: None,
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

    /// Whether RabbitMQ must get a `connection.close`.
    pub(crate) fn upstream_open(&self) -> bool {
        self.upstream_open
    }

    /// Whether the client handles a `connection.close` at this stage.
    pub(crate) fn browser_handles_close(&self) -> bool {
        match self.stage {
            Stage::Login => self.handles_login_close,
            Stage::Authenticated | Stage::Open => true,
            Stage::Closing | Stage::Closed => false,
        }
    }

    /// Whether the client has sent credentials and RabbitMQ has not answered.
    pub(crate) fn awaits_login(&self) -> bool {
        self.stage == Stage::Login && self.login_sent
    }

    /// Returns RabbitMQ's reason to refuse the login or the virtual host.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Returns the user name that the client sent, or the subject of its token.
    pub(crate) fn user_name(&self) -> &str {
        self.user().map_or("", |(user, _)| user)
    }

    /// Returns the user and, if the gateway authenticated the user, its rates. The user is the subject of the token, or
    /// the user name that RabbitMQ accepted.
    pub(crate) fn user(&self) -> Option<(&str, Option<Rates>)> {
        match &self.filter {
            Some(filter) => Some((&filter.grant().subject, Some(filter.grant().rates))),
            None => self.user.as_deref().map(|user| (user, None)),
        }
    }

    /// Returns [`user`](Self::user) once the gateway or RabbitMQ has authenticated it.
    pub(crate) fn authenticated_user(&self) -> Option<(&str, Option<Rates>)> {
        self.user().filter(|_| self.filter.is_some() || self.stage >= Stage::Authenticated)
    }

    /// Whether so much is pending for the browser, or from RabbitMQ, that no more frames of the browser must be taken.
    pub(crate) fn is_saturated(&self) -> bool {
        self.to_browser.len() >= OUTPUT_MAX || self.filter.as_deref().is_some_and(PolicyFilter::is_saturated)
    }

    /// Returns when the token expires, in seconds since 1970.
    pub(crate) fn expires(&self) -> Option<u64> {
        self.filter.as_ref()?.grant().expires
    }

    /// Takes the frames of the gateway for the browser.
    pub(crate) fn take_to_browser(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_browser)
    }

    /// Whether there are frames of the gateway for the browser.
    pub(crate) fn has_to_browser(&self) -> bool {
        !self.to_browser.is_empty()
    }

    /// Returns the limits for frames from one side.
    pub(crate) fn limits(&self, from: Side) -> &ReceiveLimits {
        match from {
            Side::Browser => &self.browser,
            Side::Upstream => &self.upstream,
        }
    }

    /// Decides about one frame.
    ///
    /// # Errors
    /// [`Error`] if the sender broke the protocol.
    #[inline]
    pub(crate) fn handle_frame(&mut self, from: Side, frame: &Frame<'_>) -> Result<Verdict, Error> {
        if frame.channel() != 0
            && (from == Side::Upstream || self.step == Step::Done)
            && let Some(filter) = &mut self.filter
        {
            let verdict = match from {
                Side::Browser => filter.handle_browser_frame(frame, &mut self.to_browser)?,
                Side::Upstream => filter.handle_upstream_frame(frame)?,
            };
            return Ok(self.count(from, frame, verdict));
        }
        if from == Side::Browser {
            self.check_place(frame)?;
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
        Ok(self.count(from, frame, Verdict::Pass))
    }

    #[inline]
    fn count(&mut self, from: Side, frame: &Frame<'_>, verdict: Verdict) -> Verdict {
        if let Verdict::Refuse(bytes) = verdict {
            self.counts.refused += 1;
            return Verdict::Replace(bytes);
        }
        // A message is counted with its method, or with its header if the method was held back.
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
        if !matches!(self.login, Login::RabbitMq { .. }) {
            self.advance_handshake(id)?;
        }
        match id {
            connection::StartOk::ID => {
                let Method::ConnectionStartOk(start) = Method::decode(frame.payload())? else {
                    return Err(undecodable(id));
                };
                let properties = start.client_properties.into();
                self.handles_login_close = Connection::has_capability(&properties, "authentication_failure_close");
                self.login_sent = true;
                return self.log_in(&start);
            }
            connection::Open::ID => {
                if let Some(filter) = &self.filter {
                    let open = connection::Open { virtual_host: &filter.grant().vhost };
                    return Ok(Verdict::Replace(method_frame(0, &open)));
                }
            }
            connection::UpdateSecret::ID if !matches!(self.login, Login::RabbitMq { .. }) => {
                let Method::ConnectionUpdateSecret(update) = Method::decode(frame.payload())? else {
                    return Err(undecodable(id));
                };
                return self.renew(update.new_secret);
            }
            connection::TuneOk::ID => {
                let Method::ConnectionTuneOk(tune) = Method::decode(frame.payload())? else {
                    return Err(undecodable(id));
                };
                self.negotiate(tune.frame_max, tune.channel_max);
            }
            connection::Close::ID => self.stage = self.stage.max(Stage::Closing),
            connection::CloseOk::ID => self.stage = Stage::Closed,
            _ => {}
        }
        Ok(Verdict::Pass)
    }

    /// Checks that a frame comes where it belongs, where the gateway authenticates: methods and heartbeats on channel
    /// 0, and all others once the browser has sent `connection.open`.
    fn check_place(&self, frame: &Frame<'_>) -> Result<(), Error> {
        if matches!(self.login, Login::RabbitMq { .. }) {
            return Ok(());
        }
        match (frame.channel(), frame.kind()) {
            (0, Kind::Method | Kind::Heartbeat) => Ok(()),
            (0, _) => Err(Error::peer(code::UNEXPECTED_FRAME, "received a content on channel 0")),
            (number, _) => {
                let text = format!("received a frame on channel {number} before connection.open");
                Err(Error::peer(code::CHANNEL_ERROR, text))
            }
        }
    }

    /// Checks that each step of the handshake comes once and in order, where the gateway authenticates.
    fn advance_handshake(&mut self, id: MethodId) -> Result<(), Error> {
        let next = match (self.step, id) {
            (_, connection::Close::ID | connection::CloseOk::ID) => return Ok(()),
            (Step::StartOk, connection::StartOk::ID) => Step::TuneOk,
            (Step::TuneOk, connection::TuneOk::ID) => Step::Open,
            (Step::Open, connection::Open::ID) => Step::Done,
            (Step::Done, connection::UpdateSecret::ID) => return Ok(()),
            _ => return Err(out_of_order(id)),
        };
        self.step = next;
        Ok(())
    }

    /// Passes on user and password, or replaces them by those of the grant.
    fn log_in(&mut self, start: &connection::StartOk<'_>) -> Result<Verdict, Error> {
        let plain = || start.response.split(|byte| *byte == 0);
        let grant = match &mut self.login {
            Login::RabbitMq { loopback_users } => {
                if start.mechanism == "PLAIN" {
                    self.user = plain().nth(1).and_then(|name| String::from_utf8(name.to_vec()).ok());
                }
                let checked = check_remote(loopback_users, start.mechanism, start.response);
                return checked.map(|()| Verdict::Pass).map_err(refused);
            }
            Login::Granted { grant, .. } => *grant.take().ok_or_else(|| out_of_order(connection::StartOk::ID))?,
            Login::Token(auth) => {
                let token = plain().nth(2).filter(|_| start.mechanism == "PLAIN");
                let token = token.and_then(|token| std::str::from_utf8(token).ok());
                let token = token.ok_or_else(|| refused(AuthError::NotPlain))?;
                auth.token(token).map_err(refused)?
            }
        };
        let response = format!("\0{}\0{}", grant.username, grant.password);
        let start = connection::StartOk { mechanism: "PLAIN", response: response.as_bytes(), ..*start };
        self.filter = Some(Box::new(PolicyFilter::new(grant, self.bounds.temporary_queues)));
        Ok(Verdict::Replace(method_frame(0, &start)))
    }

    /// Replaces the grant by that of a newer token of the same bearer. The secret is for the gateway, and does not
    /// reach RabbitMQ.
    fn renew(&mut self, secret: &[u8]) -> Result<Verdict, Error> {
        let secret = std::str::from_utf8(secret).map_err(|_| refused(AuthError::NotText))?;
        let grant = match &self.login {
            Login::RabbitMq { .. } => return Ok(Verdict::Pass),
            Login::Token(auth) => auth.token(secret),
            Login::Granted { auth, .. } => auth.newer(secret),
        };
        let grant = grant.map_err(refused)?;
        let Some(filter) = &mut self.filter else { return Ok(Verdict::Drop) };
        let current = filter.grant();
        let is_same_bearer =
            current.subject == grant.subject && current.username == grant.username && current.vhost == grant.vhost;
        if !is_same_bearer {
            return Err(refused(AuthError::OtherBearer));
        }
        filter.renew(grant);
        self.to_browser.extend_from_slice(&method_frame(0, &connection::UpdateSecretOk {}));
        Ok(Verdict::Drop)
    }

    fn connection_from_upstream(&mut self, id: MethodId, frame: &Frame<'_>) -> Result<Verdict, Error> {
        match id {
            connection::Start::ID if !matches!(self.login, Login::RabbitMq { .. }) => {
                let Method::ConnectionStart(start) = Method::decode(frame.payload())? else {
                    return Err(undecodable(id));
                };
                return Ok(Verdict::Replace(method_frame(0, &connection::Start { mechanisms: b"PLAIN", ..start })));
            }
            connection::Tune::ID => {
                let Method::ConnectionTune(mut tune) = Method::decode(frame.payload())? else {
                    return Err(undecodable(id));
                };
                self.stage = self.stage.max(Stage::Authenticated);
                tune.frame_max = lower(tune.frame_max, self.bounds.frame_max);
                tune.channel_max = lower(u32::from(tune.channel_max), u32::from(self.bounds.channel_max)) as u16;
                self.is_tuned = true;
                self.negotiate(tune.frame_max, tune.channel_max);
                return Ok(Verdict::Replace(method_frame(0, &tune)));
            }
            connection::OpenOk::ID => {
                self.stage = self.stage.max(Stage::Open);
                self.upstream_open = true;
            }
            connection::Close::ID => {
                let Method::ConnectionClose(close) = Method::decode(frame.payload())? else {
                    return Err(undecodable(id));
                };
                let is_refusal = matches!(close.reply_code, code::ACCESS_REFUSED | code::NOT_ALLOWED);
                if self.stage < Stage::Open && is_refusal {
                    self.refusal = Some(format!("{} {}", close.reply_code, close.reply_text));
                }
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

    /// Lowers the limits of both sides to those of `tune` or `tune-ok`, in whichever order they come: a browser that
    /// does not wait sends `tune-ok` first.
    fn negotiate(&mut self, frame_max: u32, channel_max: u16) {
        let (agreed_size, agreed_channel) = self.agreed;
        let frame_max = lower(frame_max, agreed_size).max(MIN_FRAME_MAX);
        let channel_max = lower(u32::from(channel_max), u32::from(agreed_channel)) as u16;
        self.agreed = (frame_max, channel_max);
        for limits in [&mut self.browser, &mut self.upstream] {
            limits.frame_max = frame_max;
            limits.channel_max = channel_max;
        }
        if !self.is_tuned {
            self.browser.frame_max = lower(frame_max, self.bounds.login_frame_max).max(MIN_FRAME_MAX);
        }
    }
}

/// Returns the smaller limit, where 0 is no limit.
fn lower(a: u32, b: u32) -> u32 {
    [a, b].into_iter().filter(|limit| *limit != 0).min().unwrap_or(0)
}

#[cold]
fn undecodable(id: MethodId) -> Error {
    Error::peer(code::SYNTAX_ERROR, format!("received {id} that cannot be decoded"))
}

#[cold]
fn out_of_order(id: MethodId) -> Error {
    Error::peer(code::COMMAND_INVALID, format!("received {id} out of order in the handshake"))
}

#[cold]
fn refused(error: AuthError) -> Error {
    Error::peer(code::ACCESS_REFUSED, format!("ACCESS_REFUSED - {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::framer::{Framer, Split};
    use super::*;
    use crate::admission::account::Batch;

    const BOUNDS: Bounds = Bounds { login_frame_max: 4096, frame_max: 4096, channel_max: 9, temporary_queues: 9 };
    const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0xce];

    #[test]
    fn no_more_frames_are_taken_while_the_gateways_own_answers_are_not_sent() {
        let mut proxy = AmqpProxy::new(BOUNDS, Login::RabbitMq { loopback_users: Arc::default() });
        proxy.to_browser = vec![0; OUTPUT_MAX];
        let (mut framer, mut out) = (Framer::new(), VecDeque::new());
        framer.push(&HEARTBEAT.repeat(3));
        let split = framer.split(&mut proxy, Side::Browser, Batch::UNLIMITED, &mut out);
        assert_eq!((split, out.len()), (Ok(Split::Stopped), 0));
        proxy.take_to_browser();
        let split = framer.split(&mut proxy, Side::Browser, Batch::UNLIMITED, &mut out);
        assert_eq!((split, out.pop_front().map(|bytes| bytes.len())), (Ok(Split::Done), Some(24)));
    }

    #[test]
    fn frames_are_taken_until_the_batch_is_full() {
        let mut proxy = AmqpProxy::new(BOUNDS, Login::RabbitMq { loopback_users: Arc::default() });
        let (mut framer, mut out) = (Framer::new(), VecDeque::new());
        framer.push(&HEARTBEAT.repeat(5));
        let batch = Batch { messages: 1, bytes: 9 };
        for (split, size) in [(Split::Stopped, 16), (Split::Stopped, 16), (Split::Done, 8)] {
            assert_eq!(framer.split(&mut proxy, Side::Browser, batch, &mut out), Ok(split));
            assert_eq!(out.pop_front().map(|bytes| bytes.len()), Some(size));
        }
    }
}
