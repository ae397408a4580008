//! The login of a connection, up to the virtual host that it opens.
//!
//! Owns the steps between `start-ok` and `open-ok`. In come the client's answers and what became of a password that was
//! verified elsewhere; out go the answers of the protocol, or a refusal. It must never compute a hash.

use hopmq_proto::method::MethodId;
use hopmq_proto::{Time, code};

use crate::engine::Engine;
use crate::engine::access::{Claim, Login, RefusedLogin};
use crate::engine::invariant::Invariant;
use crate::engine::keys::SessionKey;
use crate::engine::refusal::Refusal;

impl Engine {
    pub(super) fn login(&mut self, id: SessionKey, mechanism: &str, response: &[u8]) {
        let local = self.sessions.get(id).is_some_and(|session| session.local);
        let login = match self.faults.refuse_login() {
            true => Login::Refused(RefusedLogin::new(mechanism, b"", "the test kit refuses it")),
            false => self.access.login(mechanism, response, local),
        };
        self.finish_login(id, login);
    }

    /// Whether [`Engine::take_claim`] returns something.
    pub(crate) fn has_claim(&self, id: SessionKey) -> bool {
        self.sessions.get(id).is_some_and(|session| session.claim.is_some())
    }

    /// Returns a password that must be verified, which is too slow for the engine. The result goes to
    /// [`Engine::judge`].
    pub(crate) fn take_claim(&mut self, id: SessionKey) -> Option<Claim> {
        self.sessions.get_mut(id)?.claim.take()
    }

    /// Handles the verification of a password.
    pub(crate) fn judge(&mut self, now: Time, id: SessionKey, claim: &Claim, holds: bool) {
        self.now = now;
        self.begin(id);
        let login = self.access.judge(claim, holds);
        self.finish_login(id, login);
        self.end();
    }

    /// Closes a connection whose login could not be verified in time.
    pub(crate) fn turn_away(&mut self, now: Time, id: SessionKey) {
        self.now = now;
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        let text = "too many logins wait to be verified; try again later";
        session.ends_because(text);
        match session.can("authentication_failure_close") {
            true => self.close_session(now, id, code::CONNECTION_FORCED, text),
            false => {
                self.begin(id);
                self.end_session(id);
                self.end();
            }
        }
    }

    fn finish_login(&mut self, id: SessionKey, login: Login) {
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        match login {
            Login::Check(claim) => session.claim = Some(claim),
            Login::In(user) => {
                session.user = Some(user);
                // It can't fail: the client has just sent its credentials.
                let _ = session.proto.tune();
                Self::wake(&mut self.woken, id, session);
            }
            Login::NotOffered(login) => {
                session.ends_because("login refused");
                self.log_refused_login(id, &login);
                self.end_session(id);
            }
            Login::Refused(login) => {
                session.ends_because("login refused");
                let closes = session.can("authentication_failure_close");
                self.log_refused_login(id, &login);
                match closes {
                    true => self.refuse_connection(id, MethodId::default(), login.refusal),
                    false => self.end_session(id),
                }
            }
        }
    }

    pub(super) fn open_vhost(&mut self, id: SessionKey, name: &str) {
        let most = self.config.connection_max;
        if self.sessions.len() > most {
            let text = format_args!("connection refused: node connection limit ({most}) is reached");
            return self.refused(id, 0, MethodId::CONNECTION_OPEN, Err(Refusal::not_allowed(text)));
        }
        let vhost = self.vhost_named(name);
        let user = self.sessions.get(id).and_then(|session| session.user.as_ref());
        if let (Some(vhost), Some(user)) = (vhost, user)
            && let Err(refusal) = self.check_connection_limits(vhost, &user.name)
        {
            return self.refused(id, 0, MethodId::CONNECTION_OPEN, Err(refusal));
        }
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        let user = session.user.clone().filter(|user| self.access.may_open(user, name));
        match (vhost, user) {
            (Some(vhost), Some(_)) => {
                session.vhost = Some(vhost);
                session.deadline = None;
                let _ = session.proto.open_ok();
                self.log_opened(id, name);
            }
            (None, _) => {
                let refusal = Refusal::not_allowed(format_args!("vhost {name} not found"));
                self.refused(id, 0, MethodId::CONNECTION_OPEN, Err(refusal));
            }
            (Some(_), None) => {
                let user = session.user.as_ref().map_or("", |user| &*user.name);
                let text = format!("access to vhost '{name}' refused for user '{user}'");
                self.refused(id, 0, MethodId::CONNECTION_OPEN, Err(Refusal::not_allowed(text)));
            }
        }
    }
}
