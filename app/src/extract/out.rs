use std::marker::PhantomData;

#[cfg(feature = "json")]
use std::borrow::Cow;

#[cfg(feature = "json")]
use hopmq::{ErrorKind, Properties};

use super::FromDelivery;
use crate::context::Context;
use crate::flow::Verdict;
use crate::incoming::Incoming;

/// A publisher of one type of messages: mandatory, persistent, and confirmed.
///
/// ```
/// use std::borrow::Cow;
/// use hopmq_app::{Out, Publishes};
///
/// #[derive(serde::Serialize)]
/// struct Receipt {
///     shop: String,
///     total: u32,
/// }
///
/// impl Publishes for Receipt {
///     const EXCHANGE: &'static str = "shop";
///
///     fn routing_key(&self) -> Cow<'_, str> {
///         format!("receipt.{}", self.shop).into()
///     }
/// }
///
/// async fn on_order(out: Out<Receipt>) -> Result<(), hopmq::Error> {
///     out.publish(&Receipt { shop: "north".into(), total: 12 }).await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Out<T> {
    context: Context,
    message: PhantomData<fn(T)>,
}

/// A type of messages that knows where it is published.
#[cfg(feature = "json")]
pub trait Publishes: serde::Serialize {
    /// The exchange; empty for the default exchange, whose routing keys are queues.
    const EXCHANGE: &'static str;

    /// Returns the routing key of this message.
    fn routing_key(&self) -> Cow<'_, str>;
}

#[cfg(feature = "json")]
impl<T: serde::Serialize> Out<T> {
    /// Publishes a message where its type says, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if it can't be written as JSON; otherwise those of [`Context::publish`].
    ///
    /// Dropping the future leaves it open whether the message is published.
    pub async fn publish(&self, message: &T) -> hopmq::Result<()>
    where
        T: Publishes,
    {
        self.publish_to(T::EXCHANGE, &message.routing_key(), message).await
    }

    /// Publishes a message to an exchange with a routing key, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish).
    pub async fn publish_to(&self, exchange: &str, routing_key: &str, message: &T) -> hopmq::Result<()> {
        let body = serde_json::to_vec(message).map_err(|error| {
            let text = format!("can't write {} as JSON", std::any::type_name::<T>());
            hopmq::Error::with_source(ErrorKind::Usage, text, error)
        })?;
        let properties = Properties::new().with_content_type("application/json").with_persistent();
        self.context.publish(exchange, routing_key, &properties, body).await
    }
}

impl<S, T> FromDelivery<S> for Out<T> {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        Ok(Self { context: incoming.context().clone(), message: PhantomData })
    }
}
