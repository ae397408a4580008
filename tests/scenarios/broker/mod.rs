//! What a broker does, one subject a file. RabbitMQ is the truth: what is written here is what RabbitMQ 3.10 answered.
//!
//! These scenarios run through no door: a client stands between its user and the broker, refuses what is wrong before
//! it is sent, and sorts what comes. A [`Peer`](hopmq_tests::peer::Peer) writes and shows the frames themselves. A
//! scenario's name is the sentence that it proves.

mod alternates;
mod arguments;
mod bindings;
mod channels;
mod confirms;
mod connections;
mod consumers;
mod dead_letters;
mod direct_reply;
mod exchanges;
mod expiry;
mod headers;
mod lengths;
mod malformed;
mod messages;
mod permissions;
mod prefetch;
mod priorities;
mod queues;
mod quorum;
mod routing;
mod settling;
mod topics;
mod transactions;

/// What the scenarios use.
pub(crate) mod prelude {
    pub(crate) use hopmq_proto::method::{basic, channel, confirm, connection, exchange, queue, tx};
    pub(crate) use hopmq_proto::{FieldArray, Properties, Value};
    pub(crate) use hopmq_tests::peer::{Channel, Message, Peer, Stage, table};
}
