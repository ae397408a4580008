//! AMQP 0-9-1 as a pure state machine.

mod connection;
mod content;
mod error;
mod frame;
mod heartbeat;
pub mod method;
mod octets;
mod output;
mod properties;
mod receive;
mod table;
mod tags;
mod time;
mod wire;

pub use connection::{Body, CloseReason, Config, Connection, Event, Role, Route, Tuning};
pub use content::{Arguments, Content, ContentKind};
pub use error::{Error, Fault, code};
pub use frame::{MIN_FRAME_MAX, PROTOCOL_HEADER};
pub use octets::{Octets, OctetsMut};
pub use output::Transmit;
pub use properties::Properties;
pub use receive::{Incoming, ReceiveLimits, Receiver};
pub use table::{FieldArray, FieldTable, MAX_DEPTH, Value};
pub use time::Time;
