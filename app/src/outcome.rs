//! What handlers return: small types that say what happens with the message.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::flow::{Failure, Verdict};

/// The message is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack;

/// This worker can't handle the message now: it goes back to the queue at once.
///
/// RabbitMQ 4.3 does not count this towards the delivery limit; earlier releases do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Release;

/// The message failed and may succeed later: see [`Backoff`](crate::Backoff).
#[derive(Clone, Debug, PartialEq)]
pub struct Retry(pub Failure);

/// The message can't succeed: it goes to the dead letters with this reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject(pub Failure);

/// A person must look at the message: it goes to the parked messages with this reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Park(pub Failure);

macro_rules! failures {
    ($($name:ident $class:literal)*) => {$(
        impl $name {
            #[doc = concat!("Says why, for people. The class of the error is `", $class, "`.")]
            pub fn because(text: impl Into<String>) -> Self {
                Self(Failure::new($class, text))
            }
        }

        impl IntoVerdict for $name {
            fn into_verdict(self) -> Verdict {
                Verdict::$name(self.0)
            }
        }

        impl From<$name> for Verdict {
            fn from(outcome: $name) -> Self {
                outcome.into_verdict()
            }
        }
    )*};
}

failures! { Retry "retry" Reject "reject" Park "park" }

impl Retry {
    /// Asks for a wait of this time before the next attempt: see [`Failure::after`].
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.after(time))
    }
}

impl From<Ack> for Verdict {
    fn from(_: Ack) -> Self {
        Self::Ack
    }
}

impl From<Release> for Verdict {
    fn from(_: Release) -> Self {
        Self::Release
    }
}

/// What a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler can't return `{Self}`",
    label = "not an outcome",
    note = "return `Ack`, `()`, a `Verdict`, `Retry`, `Reject`, `Park`, `Release`, `Reply<T>`, or a `Result` of one of \
            these whose error implements `hopmq_app::Classify`"
)]
pub trait IntoVerdict {
    /// Says what happens with the message.
    fn into_verdict(self) -> Verdict;
}

impl IntoVerdict for Verdict {
    fn into_verdict(self) -> Verdict {
        self
    }
}

impl IntoVerdict for () {
    fn into_verdict(self) -> Verdict {
        Verdict::Ack
    }
}

impl IntoVerdict for Ack {
    fn into_verdict(self) -> Verdict {
        Verdict::Ack
    }
}

impl IntoVerdict for Release {
    fn into_verdict(self) -> Verdict {
        Verdict::Release
    }
}

impl<T: IntoVerdict, E: Classify> IntoVerdict for Result<T, E> {
    fn into_verdict(self) -> Verdict {
        match self {
            Ok(outcome) => outcome.into_verdict(),
            Err(error) => {
                let failure = failure(&error);
                match error.class() {
                    Class::Retry => Verdict::Retry(failure),
                    Class::Reject => Verdict::Reject(failure),
                    Class::Park => Verdict::Park(failure),
                    Class::Release => Verdict::Release,
                }
            }
        }
    }
}

fn failure<E: Classify>(error: &E) -> Failure {
    let failure = Failure::new(error.name(), error.to_string());
    match error.after() {
        Some(time) => failure.after(time),
        None => failure,
    }
}

/// An answer to the sender of the message: a value that is written as JSON, or any other body
/// ([`IntoPayload`](crate::IntoPayload)), such as `MsgPack(value)`, `Gzip(value)` or `Text`.
///
/// ```
/// use hopmq_app::{Json, Reply, Text};
///
/// async fn double(Json(number): Json<u32>) -> Reply<u32> {
///     Reply(number * 2)
/// }
///
/// async fn greet(Text(name): Text) -> Reply<Text> {
///     Reply(Text(format!("Hello, {name}!")))
/// }
/// ```
#[cfg(feature = "codec")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<B>(pub B);

#[cfg(feature = "codec")]
impl<B: crate::codec::IntoPayload> IntoVerdict for Reply<B> {
    fn into_verdict(self) -> Verdict {
        match self.0.into_payload() {
            Ok(payload) => Verdict::Reply(payload),
            Err(error) => Verdict::Reject(Failure::new("encode", format!("can't write the reply: {error}"))),
        }
    }
}

/// What happens with a message whose handler returned an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again later.
    Retry,
    /// Move the message to the dead letters.
    Reject,
    /// Move the message to the parked messages.
    Park,
    /// Give the message back at once.
    Release,
}

/// An error that says what happens with the message. Each method has a default, so that `impl Classify for MyError {}`
/// makes all errors of a type be tried again.
///
/// ```
/// use hopmq_app::{Class, Classify};
///
/// #[derive(Debug)]
/// enum OrderError {
///     Busy,
///     NoSuchShop(String),
/// }
///
/// impl std::fmt::Display for OrderError {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         match self {
///             Self::Busy => f.write_str("the kitchen is busy"),
///             Self::NoSuchShop(name) => write!(f, "there is no shop {name}"),
///         }
///     }
/// }
///
/// impl Classify for OrderError {
///     fn class(&self) -> Class {
///         match self {
///             Self::Busy => Class::Retry,
///             Self::NoSuchShop(_) => Class::Reject,
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what happens with a message whose handler returned it",
    label = "not classified",
    note = "write `impl hopmq_app::Classify for {Self} {{}}` to try again after each such error, or give it a `class`"
)]
pub trait Classify: fmt::Display {
    /// Says what happens with the message. The default is to try again.
    fn class(&self) -> Class {
        Class::Retry
    }

    /// Names the error for headers, metrics and backoffs of its own. The default is the name of the type.
    fn name(&self) -> Cow<'static, str> {
        let name = std::any::type_name::<Self>();
        let plain = name.split('<').next().unwrap_or(name);
        Cow::Borrowed(plain.rsplit("::").next().unwrap_or(plain))
    }

    /// Asks for a wait before the next attempt, in place of the backoff's. The default asks for none.
    fn after(&self) -> Option<Duration> {
        None
    }
}

macro_rules! classified {
    ($($error:ty: $name:literal)*) => {$(
        impl Classify for $error {
            fn name(&self) -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    )*};
}

classified! {
    String: "error"
    &'static str: "error"
    Box<dyn std::error::Error>: "error"
    Box<dyn std::error::Error + Send + Sync>: "error"
    std::io::Error: "io"
    hopmq::Error: "amqp"
    std::convert::Infallible: "never"
}
