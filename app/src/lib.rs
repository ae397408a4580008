#![doc = include_str!("../README.md")]
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod alarms;
mod app;
#[cfg(feature = "asyncapi")]
mod asyncapi;
pub mod batch;
#[cfg(feature = "blocking")]
pub mod blocking;
#[doc(hidden)]
pub mod check;
mod codec;
mod context;
mod control;
mod error;
mod extract;
pub mod flow;
mod group;
mod handler;
mod incoming;
mod layer;
mod mode;
mod observe;
pub mod once;
#[cfg(feature = "sqlite")]
pub mod outbox;
mod outcome;
#[cfg(feature = "json")]
pub mod rpc;
#[cfg(feature = "signals")]
mod signals;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod telemetry;
#[cfg(feature = "test")]
pub mod test;
mod topology;
mod wall;
mod worker;

pub use alarms::{Alarms, Sleep};
pub use app::App;
#[cfg(feature = "asyncapi")]
pub use asyncapi::AsyncApi;
pub use batch::Batch;
#[cfg(feature = "cbor")]
pub use codec::Cbor;
#[cfg(all(feature = "codec", feature = "gzip"))]
pub use codec::Gzip;
#[cfg(feature = "msgpack")]
pub use codec::MsgPack;
#[cfg(all(feature = "codec", feature = "zstd"))]
pub use codec::Zstd;
#[cfg(feature = "codec")]
pub use codec::{Codec, Format, IntoPayload, Json};
pub use context::Context;
pub use control::Control;
pub use error::{Error, ErrorKind};
#[cfg(feature = "garde")]
pub use extract::Valid;
pub use extract::{
    Attempt, Bytes, Deadline, FromDelivery, FromHeader, FromRef, Header, HeaderName, Headers, State, Text,
};
#[cfg(feature = "codec")]
pub use extract::{Out, Publishes};
pub use flow::{Backoff, Failure, Verdict};
#[cfg(feature = "net")]
pub use handler::{Cpu, cpu};
pub use handler::{Handler, Slot};
#[cfg(feature = "macros")]
pub use hopmq_app_macros::{consumer, handler, routes, rpc};
pub use incoming::Incoming;
#[cfg(feature = "tower")]
pub use layer::{Answer, Endpoint, Tower, tower};
pub use layer::{Around, ConcurrencyLimit, Layer, Next, RateLimit, RetryBudget, Running, Slow, Timeout, around};
pub use mode::{Asynchronous, Local, Mode, Threads};
pub use observe::{Ended, Mark, Observer, Sent};
#[cfg(feature = "codec")]
pub use outcome::Reply;
pub use outcome::{Ack, Class, Classify, IntoVerdict, Park, Reject, Release, Retry};
pub use telemetry::{Health, Metrics, Probes, Propagation, QueueHealth, QueueState, Spans};
pub use topology::{
    BatchLimits, Binding, Breaker, BreakerState, DeadLetter, Exchange, Existing, Queue, Rate, Subscription,
};
pub use wall::WallClock;
