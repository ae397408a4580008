//! AMQP 0-9-1 as a pure state machine.

mod error;
pub mod method;
mod octets;
mod properties;
mod table;
mod wire;

pub use error::{Error, Fault, code};
pub use octets::{Octets, OctetsMut};
pub use properties::Properties;
pub use table::{FieldArray, FieldTable, MAX_DEPTH, Value};
