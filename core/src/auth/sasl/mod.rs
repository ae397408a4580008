//! Who you are: credentials, where they come from, and the mechanisms that present them to the broker.
//!
//! AMQP 0-9-1 logs in by SASL: the broker offers mechanisms in `connection.start`, the client chooses one and answers
//! in `connection.start-ok`, and the broker may go on asking in `connection.secure`
//! (AMQP 0-9-1 §4.2.2, specification of the class `connection`).
//! A mechanism of your own implements [`Sasl`]; credentials that change, such as tokens, come from a
//! [`CredentialsProvider`], which is asked anew for each connection.
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

use hopmq_proto::FieldTable;

use crate::error::{Error, ErrorKind, Result};

#[cfg(test)]
mod tests;

/// A user name and a password, or, for OAuth 2, any name and a token.
///
/// `Debug` hides the password, and dropping the value overwrites it in memory. That is the best effort of safe Rust:
/// copies that were encoded to be sent are not reached.
#[derive(Clone)]
pub struct Credentials {
    username: String,
    password: String,
    lifetime: Option<Duration>,
}

impl Credentials {
    /// Takes the user name and the password.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into(), lifetime: None }
    }

    /// Says that they expire, counted from now: shortly before, the [`CredentialsProvider`] is asked for new ones, and
    /// the broker gets them by `connection.update-secret`. For OAuth 2 tokens; for users of its own database, RabbitMQ
    /// takes any and changes nothing.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// After how long they expire, if they do.
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password or token. Keep it out of logs.
    pub fn password(&self) -> &str {
        &self.password
    }
}

/// RabbitMQ's default account, `guest` with the password `guest`, which it lets in from its own host only.
impl Default for Credentials {
    fn default() -> Self {
        Self::new("guest", "guest")
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.password).into_bytes();
        bytes.fill(0);
        // Without a reader the compiler may leave the overwriting out.
        std::hint::black_box(&bytes);
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Where credentials come from: asked for each connection before it is made, and again before they
/// expire.
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
    /// Gets the credentials for one connection. Its error ends that attempt; dropping the future must be harmless.
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

/// One way to log in.
pub trait Sasl: Send + Sync {
    /// The name by which the broker offers it, such as `PLAIN`.
    fn name(&self) -> &str;

    /// The first answer, sent in `connection.start-ok`.
    ///
    /// # Errors
    /// When the credentials do not fit the mechanism.
    fn initial(&self, credentials: &Credentials) -> Result<Vec<u8>>;

    /// The answer to a challenge of `connection.secure`. None of the built-in mechanisms has one, and so the default
    /// is an error of [`ErrorKind::Authentication`].
    ///
    /// # Errors
    /// When the challenge makes no sense.
    fn respond(&self, challenge: &[u8], credentials: &Credentials) -> Result<Vec<u8>> {
        let _ = (challenge, credentials);
        let name = self.name();
        Err(Error::new(
            ErrorKind::Authentication,
            format!("the broker challenges, and the mechanism {name} has no answer"),
        ))
    }
}

/// `PLAIN`: user name and password as they are ([RFC 4616](https://www.rfc-editor.org/rfc/rfc4616)). The default.
/// Whoever reads the line reads them too: use TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

/// `AMQPLAIN`: the same as a field table with `LOGIN` and `PASSWORD`, from before AMQP settled on `PLAIN`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AmqPlain;

/// `EXTERNAL`: who you are follows from the TLS certificate, by RabbitMQ's plugin `rabbitmq_auth_mechanism_ssl`
/// ([RFC 4422, appendix A](https://www.rfc-editor.org/rfc/rfc4422#appendix-A)). The credentials are not sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct External;

/// `ANONYMOUS`: whoever comes is the user that the broker's `anonymous_login_user` names, since RabbitMQ 4.0
/// ([RFC 4505](https://www.rfc-editor.org/rfc/rfc4505)). The credentials are not sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Sasl for Plain {
    fn name(&self) -> &str {
        PLAIN
    }

    fn initial(&self, credentials: &Credentials) -> Result<Vec<u8>> {
        let (username, password) = (credentials.username(), credentials.password());
        if username.contains('\0') || password.contains('\0') {
            return Err(Error::new(ErrorKind::Config, "PLAIN can't carry a zero byte in a user name or password"));
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

/// The built-in mechanism of that name, in any case, with its name in capitals.
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

/// The first of the client's mechanisms that the broker offers too, in its list separated by spaces.
pub(crate) fn select(preferred: &[Arc<dyn Sasl>], offered: &str) -> Result<Arc<dyn Sasl>> {
    let fits = |mechanism: &&Arc<dyn Sasl>| {
        offered.split_ascii_whitespace().any(|offer| offer.eq_ignore_ascii_case(mechanism.name()))
    };
    preferred.iter().find(fits).cloned().ok_or_else(|| {
        let wanted: Vec<&str> = preferred.iter().map(|mechanism| mechanism.name()).collect();
        let wanted = wanted.join(" ");
        Error::new(
            ErrorKind::Authentication,
            format!("no way to log in: the broker offers {offered:?}, and this client is set to {wanted:?}"),
        )
    })
}
