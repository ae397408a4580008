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

use crate::Result;
use crate::sasl::{Credentials, CredentialsProvider};
use crate::shared::Shared;

/// The renewal of a connection's credentials. See the [module's documentation](self).
pub(crate) struct Refresh {
    provider: Arc<dyn CredentialsProvider>,
    due: Option<Time>,
    fetching: Option<Pin<Box<dyn Future<Output = Result<Credentials>> + Send>>>,
}

/// How long after a provider's failure it is asked again.
const RETRY: Duration = Duration::from_secs(10);

impl Refresh {
    pub(crate) fn new(provider: Arc<dyn CredentialsProvider>, credentials: &Credentials, now: Time) -> Self {
        Self { provider, due: renewal(credentials, now), fetching: None }
    }

    /// When it is to be polled.
    pub(crate) fn deadline(&self) -> Option<Time> {
        if self.fetching.is_some() { None } else { self.due }
    }

    /// Renews the credentials if it is time for it.
    pub(crate) fn poll(&mut self, shared: &Shared, context: &mut Context<'_>) {
        if self.fetching.is_none() {
            let Some(due) = self.due else { return };
            if shared.clock.now() < due {
                return;
            }
            debug!("the credentials are about to expire: asking for new ones");
            let provider = Arc::clone(&self.provider);
            self.fetching = Some(Box::pin(async move { provider.fetch().await }));
        }
        let Some(fetching) = &mut self.fetching else { return };
        let Poll::Ready(fetched) = fetching.as_mut().poll(context) else { return };
        self.fetching = None;
        let now = shared.clock.now();
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
