use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use hopmq::{ErrorKind, Properties};

use super::FromDelivery;
use crate::codec::{Codec, Json};
use crate::context::Context;
use crate::flow::Verdict;
use crate::incoming::Incoming;

/// A publisher of one type of messages: mandatory, persistent, and confirmed. Messages are written as JSON, or in the
/// format that the second parameter names: `Out<Receipt, MsgPack>`, `Out<Receipt, Gzip>`, `Out<Receipt, Zstd<Cbor>>`.
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
pub struct Out<T, C = Json> {
    context: Context,
    message: PhantomData<fn(T, C)>,
}

/// A type of messages that knows where it is published.
pub trait Publishes: serde::Serialize {
    /// The exchange; empty for the default exchange, whose routing keys are queues.
    const EXCHANGE: &'static str;

    /// Returns the routing key of this message.
    fn routing_key(&self) -> Cow<'_, str>;
}

impl<T: serde::Serialize, C: Codec> Out<T, C> {
    /// Publishes a message where its type says, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if it can't be written in the format; otherwise those of [`Context::publish`].
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
        let payload = C::write(message).map_err(|error| {
            let text = format!("can't write {} as {}: {error}", std::any::type_name::<T>(), C::NAME);
            hopmq::Error::new(ErrorKind::Usage, text)
        })?;
        let properties = payload.describe(Properties::new().with_persistent());
        self.context.publish(exchange, routing_key, &properties, payload.body).await
    }
}

impl<T, C> Out<T, C> {
    pub(crate) fn new(context: &Context) -> Self {
        Self { context: context.clone(), message: PhantomData }
    }
}

impl<T, C> Clone for Out<T, C> {
    fn clone(&self) -> Self {
        Self::new(&self.context)
    }
}

impl<T, C> fmt::Debug for Out<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("context", &self.context).finish_non_exhaustive()
    }
}

impl<S, T, C> FromDelivery<S> for Out<T, C> {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        Ok(Self::new(incoming.context()))
    }
}
