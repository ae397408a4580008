//! Credentials, where they come from, and the SASL mechanisms that present them to the broker.
//!
//! AMQP 0-9-1 logs in by SASL: the broker offers mechanisms in `connection.start`, the client chooses one and answers
//! in `connection.start-ok`, and the broker may send further challenges in `connection.secure` (AMQP 0-9-1 §4.2.2,
//! specification of the class `connection`). A custom mechanism implements [`Sasl`]. Credentials that change, such as
//! tokens, come from a [`CredentialsProvider`], which is asked again for each connection.
//!
//! ```
//! use hopmq::sasl::{Credentials, Plain, Sasl};
//!
//! let credentials = Credentials::new("guest", "secret");
//! assert_eq!(Plain.initial(&credentials)?, b"\0guest\0secret");
//! assert!(!format!("{credentials:?}").contains("secret"));
//! # Ok::<(), hopmq::Error>(())
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hopmq_proto::{FieldTable, Quoted};

use crate::error::{Error, ErrorKind, Result};

#[cfg(test)]
mod tests;

/// A user name and a password or, for OAuth 2, any name and a token.
///
/// `Debug` hides the password, and dropping the value overwrites it in memory. Safe Rust can do no more: copies that
/// were encoded for sending are not overwritten.
#[derive(Clone)]
pub struct Credentials {
    username: String,
    password: String,
    lifetime: Option<Duration>,
}

impl Credentials {
    /// Creates credentials that do not expire.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into(), lifetime: None }
    }

    /// Sets the time after which the credentials expire, counted from now.
    ///
    /// Shortly before, the [`CredentialsProvider`] is asked for new ones, which are sent to the broker by
    /// `connection.update-secret`. This is meant for OAuth 2 tokens; for users of its own database, RabbitMQ accepts
    /// any secret and changes nothing.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Returns the time after which the credentials expire, if they do.
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Returns the user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Returns the password or token. Keep it out of logs.
    pub fn password(&self) -> &str {
        &self.password
    }
}

/// RabbitMQ's default account `guest`, password `guest`, which RabbitMQ accepts only from its own host.
impl Default for Credentials {
    fn default() -> Self {
        Self::new("guest", "guest")
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.password).into_bytes();
        bytes.fill(0);
        // Without this, the compiler may remove the overwriting.
        std::hint::black_box(&bytes);
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A source of credentials, asked before each connection is made and again before the credentials expire.
///
/// Implemented for [`Credentials`] and for closures that return a future.
///
/// ```
/// use hopmq::sasl::{Credentials, CredentialsProvider};
///
/// let provider = || async { Ok(Credentials::new("", "a fresh token")) };
/// let credentials = futures_lite::future::block_on(provider.fetch())?;
/// assert_eq!(credentials.password(), "a fresh token");
/// # Ok::<(), hopmq::Error>(())
/// ```
pub trait CredentialsProvider: Send + Sync {
    /// Returns the credentials for one connection. An error ends the attempt. Dropping the future must be harmless.
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Credentials>> + Send + '_>>;
}

impl<F, Fut> CredentialsProvider for F
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<Credentials>> + Send + 'static,
{
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Credentials>> + Send + '_>> {
        Box::pin(self())
    }
}

impl CredentialsProvider for Credentials {
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Credentials>> + Send + '_>> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

/// A SASL mechanism.
pub trait Sasl: Send + Sync {
    /// Returns the name under which the broker offers the mechanism, such as `PLAIN`.
    fn name(&self) -> &str;

    /// Returns the initial response, sent in `connection.start-ok`.
    ///
    /// # Errors
    /// If the credentials do not fit the mechanism.
    fn initial(&self, credentials: &Credentials) -> Result<Vec<u8>>;

    /// Returns the response to a challenge of `connection.secure`. The default returns [`ErrorKind::Authentication`],
    /// because none of the built-in mechanisms expects a challenge.
    ///
    /// # Errors
    /// If the challenge is invalid.
    fn respond(&self, challenge: &[u8], credentials: &Credentials) -> Result<Vec<u8>> {
        let _ = (challenge, credentials);
        let name = self.name();
        Err(Error::new(
            ErrorKind::Authentication,
            format!("the broker sent a challenge, which the mechanism {name} does not support"),
        ))
    }
}

/// `PLAIN`: user name and password in clear text ([RFC 4616](https://www.rfc-editor.org/rfc/rfc4616)). The default. Use
/// TLS, because anyone who can read the traffic can read the password.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

/// `AMQPLAIN`: user name and password in clear text, as a field table with `LOGIN` and `PASSWORD`. It is older than
/// `PLAIN` in AMQP; use TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct AmqPlain;

/// `EXTERNAL`: the TLS certificate identifies the user, by RabbitMQ's plugin `rabbitmq_auth_mechanism_ssl` ([RFC 4422,
/// appendix A](https://www.rfc-editor.org/rfc/rfc4422#appendix-A)). The credentials are not sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct External;

/// `ANONYMOUS`: the user is the one named by the broker's setting `anonymous_login_user`, since RabbitMQ 4.0 ([RFC
/// 4505](https://www.rfc-editor.org/rfc/rfc4505)). The credentials are not sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Sasl for Plain {
    fn name(&self) -> &str {
        PLAIN
    }

    fn initial(&self, credentials: &Credentials) -> Result<Vec<u8>> {
        let (username, password) = (credentials.username(), credentials.password());
        if username.contains('\0') || password.contains('\0') {
            return Err(Error::new(ErrorKind::Config, "PLAIN does not allow a zero byte in a user name or password"));
        }
        let mut response = Vec::with_capacity(2 + username.len() + password.len());
        response.push(0);
        response.extend_from_slice(username.as_bytes());
        response.push(0);
        response.extend_from_slice(password.as_bytes());
        Ok(response)
    }
}

impl Sasl for AmqPlain {
    fn name(&self) -> &str {
        AMQPLAIN
    }

    fn initial(&self, credentials: &Credentials) -> Result<Vec<u8>> {
        let login = FieldTable::new().with("LOGIN", credentials.username()).with("PASSWORD", credentials.password());
        login.validity()?;
        Ok(login.as_bytes().to_vec())
    }
}

impl Sasl for External {
    fn name(&self) -> &str {
        EXTERNAL
    }

    fn initial(&self, _credentials: &Credentials) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

impl Sasl for Anonymous {
    fn name(&self) -> &str {
        ANONYMOUS
    }

    fn initial(&self, _credentials: &Credentials) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

const PLAIN: &str = "PLAIN";
const AMQPLAIN: &str = "AMQPLAIN";
const EXTERNAL: &str = "EXTERNAL";
const ANONYMOUS: &str = "ANONYMOUS";

/// Returns the built-in mechanism of that name, in any case, with its name in capitals.
#[cfg(any(feature = "net", feature = "tokio", test))]
pub(crate) fn built_in(name: &str) -> Option<(&'static str, Arc<dyn Sasl>)> {
    let all: [(&'static str, Arc<dyn Sasl>); 4] = [
        (PLAIN, Arc::new(Plain)),
        (AMQPLAIN, Arc::new(AmqPlain)),
        (EXTERNAL, Arc::new(External)),
        (ANONYMOUS, Arc::new(Anonymous)),
    ];
    all.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// Returns the first of the client's mechanisms that the broker also offers in its space-separated list.
pub(crate) fn select(preferred: &[Arc<dyn Sasl>], offered: &str) -> Result<Arc<dyn Sasl>> {
    let fits = |mechanism: &&Arc<dyn Sasl>| {
        offered.split_ascii_whitespace().any(|offer| offer.eq_ignore_ascii_case(mechanism.name()))
    };
    preferred.iter().find(fits).cloned().ok_or_else(|| {
        let wanted: Vec<String> = preferred.iter().map(|mechanism| mechanism.name().to_owned()).collect();
        let (wanted, offered) = (wanted.join(" "), Quoted(offered));
        let wanted = Quoted(&wanted);
        let text = format!("no common login mechanism: the broker offers {offered}, this client is set to {wanted}");
        Error::new(ErrorKind::Authentication, text)
    })
}
