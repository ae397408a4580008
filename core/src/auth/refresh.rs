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
use hopmq_proto::method::connection::UpdateSecret;
use tracing::{debug, warn};

use crate::auth::sasl::{Credentials, CredentialsProvider};
use crate::state::Shared;
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

    /// Renews the credentials if it is time for it.
    pub(crate) fn poll(&mut self, shared: &Shared, context: &mut Context<'_>) {
        let Some(due) = self.due else { return };
        let now = shared.clock.now();
        if now < due {
            return;
        }
        let fetching = self.fetching.get_or_insert_with(|| {
            debug!("the credentials are about to expire: asking for new ones");
            let provider = Arc::clone(&self.provider);
            Fetching { future: Box::pin(async move { provider.fetch().await }), deadline: now + PATIENCE }
        });
        let fetched = match fetching.future.as_mut().poll(context) {
            Poll::Ready(fetched) => fetched,
            Poll::Pending if now < fetching.deadline => return,
            Poll::Pending => Err(Error::new(ErrorKind::Timeout, format!("it did not answer within {PATIENCE:?}"))),
        };
        self.fetching = None;
        match fetched {
            Ok(credentials) => {
                self.due = renewal(&credentials, now);
                let new_secret = credentials.password().as_bytes();
                let update = UpdateSecret { new_secret, reason: "the old secret is about to expire" };
                if let Err(error) = shared.lock().proto.request(0, &update, None) {
                    warn!(%error, "the new secret can't be sent");
                }
            }
            Err(error) => {
                warn!(%error, "the provider has no new credentials: asking again in {RETRY:?}");
                self.due = Some(now + RETRY);
            }
        }
    }
}

/// Credentials are renewed when four fifths of their life are over.
fn renewal(credentials: &Credentials, now: Time) -> Option<Time> {
    credentials.lifetime().map(|lifetime| now + lifetime.mul_f64(0.8).max(Duration::from_secs(1)))
}
