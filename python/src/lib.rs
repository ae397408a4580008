//! The native module of the Python package `hopmq`: the client of the crate `hopmq`, and the embedded broker.
//!
//! Futures of the core are polled on the thread of the event loop that awaits them. Only the wake-up of an operation
//! that had to wait crosses threads ([`port`]), once for all operations that were woken together: no operation costs a
//! future, a task or a turn of the loop by itself.

mod app;
mod broker;
mod channel;
mod confirm;
mod connect;
mod connection;
mod consumer;
mod convert;
mod errors;
mod message;
mod operation;
mod port;
mod properties;
mod publish;
mod publisher;
mod queue;
mod shared;
mod table;

use pyo3::prelude::*;

/// The module `hopmq._hopmq`.
#[pymodule]
mod _hopmq {
    #[pymodule_export]
    use crate::app::{App, Caller, Job, Jobs};
    #[pymodule_export]
    use crate::broker::Broker;
    #[pymodule_export]
    use crate::channel::Channel;
    #[pymodule_export]
    use crate::confirm::{Confirm, Confirms};
    #[pymodule_export]
    use crate::connect::open;
    #[pymodule_export]
    use crate::connection::{Connection, Events, Stats};
    #[pymodule_export]
    use crate::consumer::{Batch, Batches, Consumer, Iteration, Returns};
    #[pymodule_export]
    use crate::message::Message;
    #[pymodule_export]
    use crate::operation::Operation;
    #[pymodule_export]
    use crate::port::Port;
    #[pymodule_export]
    use crate::properties::Properties;
    #[pymodule_export]
    use crate::publisher::Publisher;
    #[pymodule_export]
    use crate::queue::{Exchange, Queue};

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
