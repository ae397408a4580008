//! Secrets that expire: asked for anew while the connection lives.
//!
//! Owns the moment of the next renewal and the provider's future while it runs. New credentials go out as
//! `connection.update-secret`. It is polled by the driver, so it needs no task of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hopmq_proto::Time;
use tracing::{debug, warn};

use crate::auth::sasl::{Credentials, CredentialsProvider};
use crate::{Error, ErrorKind, Result};

/// The renewal of a connection's credentials. See the [module's documentation](self).
pub(crate) struct Refresh {
    provider: Arc<dyn CredentialsProvider>,
    due: Option<Time>,
    fetching: Option<Fetching>,
}

/// A provider at work.
struct Fetching {
    future: Pin<Box<dyn Future<Output = Result<Credentials>> + Send>>,
    deadline: Time,
}

/// How long after a provider's failure it is asked again.
const RETRY: Duration = Duration::from_secs(10);
/// How long a provider may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl Refresh {
    pub(crate) fn new(provider: Arc<dyn CredentialsProvider>, credentials: &Credentials, now: Time) -> Self {
        Self { provider, due: renewal(credentials, now), fetching: None }
    }

    /// When it is to be polled.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.fetching.as_ref().map(|fetching| fetching.deadline).or(self.due)
    }

    /// Renews the credentials if it is time for it. Returns the new ones, for the broker.
    pub(crate) fn poll(&mut self, now: Time, context: &mut Context<'_>) -> Option<Credentials> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        let fetching = self.fetching.get_or_insert_with(|| {
            debug!("the credentials are about to expire: asking for new ones");
            let provider = Arc::clone(&self.provider);
            Fetching { future: Box::pin(async move { provider.fetch().await }), deadline: now + PATIENCE }
        });
        let fetched = match fetching.future.as_mut().poll(context) {
            Poll::Ready(fetched) => fetched,
            Poll::Pending if now < fetching.deadline => return None,
            Poll::Pending => Err(Error::new(ErrorKind::Timeout, format!("it did not answer within {PATIENCE:?}"))),
        };
        self.fetching = None;
        match fetched {
            Ok(credentials) => {
                self.due = renewal(&credentials, now);
                Some(credentials)
            }
            Err(error) => {
                warn!(%error, "the provider has no new credentials: asking again in {RETRY:?}");
                self.due = Some(now + RETRY);
                None
            }
        }
    }
}

/// Credentials are renewed when four fifths of their life are over.
fn renewal(credentials: &Credentials, now: Time) -> Option<Time> {
    credentials.lifetime().map(|lifetime| now + lifetime.mul_f64(0.8).max(Duration::from_secs(1)))
}
