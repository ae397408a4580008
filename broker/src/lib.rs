//! An AMQP 0-9-1 broker that behaves as RabbitMQ: in process, on disk, or as a server.

pub mod store;
