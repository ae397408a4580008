//! An AMQP 0-9-1 broker that behaves as RabbitMQ: in process, on disk, or as a server.

mod engine;
pub mod inspect;
mod server;
pub mod store;

pub use server::{Broker, Builder, Clock, Inspect, Period, Pipe};
