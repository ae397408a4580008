//! The AMQP 0-9-1 client.

mod error;
