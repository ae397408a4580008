//! The AMQP 0-9-1 client for programs without async.
