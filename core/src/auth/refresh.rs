//! The renewal of secrets that expire while the connection is open.
//!
//! Owns the time of the next renewal and the provider's future while it runs. New credentials are sent as
//! `connection.update-secret`. The driver polls the renewal, so it needs no task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hopmq_proto::{Elapsed, Time};
use tracing::{debug, warn};

use crate::auth::sasl::{Credentials, CredentialsProvider};
use crate::error::{Error, ErrorKind, Result};

/// The renewal of a connection's credentials. See the [module's documentation](self).
pub(crate) struct Refresh {
    provider: Arc<dyn CredentialsProvider>,
    due: Option<Time>,
    fetching: Option<Fetching>,
}

/// A running call of the provider.
struct Fetching {
    future: Pin<Box<dyn Future<Output = Result<Credentials>> + Send>>,
    deadline: Time,
}

/// The delay before a provider that failed is asked again.
const RETRY: Duration = Duration::from_secs(10);
/// The timeout of one call of the provider.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Refresh {
    pub(crate) fn new(provider: Arc<dyn CredentialsProvider>, credentials: &Credentials, now: Time) -> Self {
        Self { provider, due: renewal(credentials, now), fetching: None }
    }

    /// Returns when the renewal must be polled.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.fetching.as_ref().map(|fetching| fetching.deadline).or(self.due)
    }

    /// Renews the credentials if they are due. Returns the new ones, which the broker must get.
    pub(crate) fn poll(&mut self, now: Time, context: &mut Context<'_>) -> Option<Credentials> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        let fetching = self.fetching.get_or_insert_with(|| {
            debug!("the credentials are about to expire: asking the provider for new ones");
            let provider = Arc::clone(&self.provider);
            Fetching { future: Box::pin(async move { provider.fetch().await }), deadline: now + TIMEOUT }
        });
        let fetched = match fetching.future.as_mut().poll(context) {
            Poll::Ready(fetched) => fetched,
            Poll::Pending if now < fetching.deadline => return None,
            Poll::Pending => Err(Error::new(ErrorKind::Timeout, format!("no answer within {}", Elapsed(TIMEOUT)))),
        };
        self.fetching = None;
        match fetched {
            Ok(credentials) => {
                self.due = renewal(&credentials, now);
                Some(credentials)
            }
            Err(error) => {
                warn!(%error, "the credentials provider failed: asking again in {}", Elapsed(RETRY));
                self.due = Some(now + RETRY);
                None
            }
        }
    }
}

/// Credentials are renewed when four fifths of their lifetime have passed.
fn renewal(credentials: &Credentials, now: Time) -> Option<Time> {
    credentials.lifetime().map(|lifetime| now + lifetime.mul_f64(0.8).max(Duration::from_secs(1)))
}
