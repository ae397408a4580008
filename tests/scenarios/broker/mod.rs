//! Scenarios of a broker's behaviour on the wire, one subject a file. They expect what RabbitMQ 3.10.8 and 4.0.5
//! answered; where these differ, a scenario asks [`release`](hopmq_tests::release).
//!
//! These scenarios use no client: a client refuses invalid requests before it sends them, and dispatches the broker's
//! frames. A [`Peer`](hopmq_tests::peer::Peer) writes any frame and shows every frame that it receives. A scenario's
//! name is the sentence that it proves.

mod alternates;
mod arguments;
mod at_least_once;
mod bindings;
mod channels;
mod confirms;
mod connections;
mod consumers;
mod dead_letters;
mod direct_reply;
mod exchange_types;
mod exchanges;
mod expiry;
mod headers;
mod lengths;
mod limits;
mod malformed;
mod messages;
mod permissions;
mod prefetch;
mod priorities;
mod queue_arguments;
mod queues;
mod quorum;
mod quorum_releases;
mod releases;
mod routing;
mod settling;
mod topics;
mod transactions;

/// The imports of all scenarios.
pub(crate) mod prelude {
    pub(crate) use hopmq_proto::method::{basic, channel, confirm, connection, exchange, queue, tx};
    pub(crate) use hopmq_proto::{FieldArray, Properties, Value};
    pub(crate) use hopmq_tests::peer::{Channel, Message, Peer, Stage, table};
}
