//! AMQP 0-9-1 as a pure state machine, for clients and servers: bytes, calls and the time go in; events and bytes come
//! out. The crate has no sockets, no clock, no locks and no executor; a driver provides them.
//!
//! ```text
//!                  ┌─ Receiver ─┐  Incoming  ┌─────── Connection ───────┐  Event
//!  bytes ── filled ┤ frames and ├── poll ──► │ handshake  channels      ├── handle ──► user
//!  read            │ messages   │            │ confirms   deliveries    │
//!                  └────────────┘            │ heartbeats               │◄── publish, ack, request, … ── user
//!  bytes ◄─ slices ── Transmit ◄─────────────┤ output                   │
//!  written            poll_transmit          └──────────┬───────────────┘
//!                                                       │ poll_timeout ──► timer ──► handle_timeout
//! ```
//!
//! For each batch of bytes:
//!
//! 1. Read into [`Receiver::space`], then call [`Receiver::filled`] with the size, and [`Connection::received`].
//! 2. Pass each item of [`Receiver::poll`] to [`Connection::handle`], until `poll` yields `None`. After each item, copy
//!    the agreed limits from [`Connection::receive_limits`] to [`Receiver::set_limits`]. If the receiver fails, call
//!    [`Connection::receive_failed`].
//! 3. Write what [`Connection::poll_transmit`] moves into a [`Transmit`], even after an error: it tells the peer why.
//! 4. Call [`Connection::handle_timeout`] at the time of [`Connection::poll_timeout`].
//!
//! An error that is the peer's [`Error::fault`] closes the connection; an error of the caller changes nothing.
//! [`Error::violation`] names the broken rule.
//!
//! Both ends in one program, from the handshake to the close:
//!
//! ```
//! use hopmq_proto::method::{Method, basic, confirm, queue};
//! use hopmq_proto::*;
//!
//! struct End {
//!     connection: Connection,
//!     receiver: Receiver,
//! }
//!
//! /// Reads what the other end has written.
//! fn read(end: &mut End, other: &mut End) -> Result<Vec<Event>, Error> {
//!     let now = Time::ZERO;
//!     let mut transmit = Transmit::new();
//!     other.connection.poll_transmit(now, &mut transmit);
//!     let count = transmit.chunk().len();
//!     end.receiver.space()[..count].copy_from_slice(transmit.chunk());
//!     end.receiver.filled(count);
//!     end.connection.received(now);
//!     let mut events = Vec::new();
//!     while let Some(incoming) = end.receiver.poll()? {
//!         events.extend(end.connection.handle(now, incoming)?);
//!         end.receiver.set_limits(end.connection.receive_limits());
//!     }
//!     Ok(events)
//! }
//! let connection = Connection::new(Role::Client, Config::default());
//! let limits = connection.receive_limits();
//! let client = &mut End { connection, receiver: Receiver::client(limits) };
//! let connection = Connection::new(Role::Server, Config::default());
//! let server = &mut End { connection, receiver: Receiver::server(limits) };
//! read(server, client)?;
//! read(client, server)?; // Event::Start
//! client.connection.start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest")?;
//! read(server, client)?; // Event::StartOk: check the password here.
//! server.connection.tune()?;
//! read(client, server)?;
//! read(server, client)?; // Event::Open: check the virtual host here.
//! server.connection.open_ok()?;
//! read(client, server)?; // Event::Opened
//! client.connection.open_channel(1, 100)?;
//! client.connection.request(1, &queue::Declare { queue: "orders", ..Default::default() }, Some(101))?;
//! client.connection.confirm_select(1)?;
//! let consume = basic::Consume { queue: "orders", consumer_tag: "c", ..Default::default() };
//! client.connection.consume(1, &consume, 7, None)?;
//! let route = Route { exchange: "", routing_key: "orders", mandatory: false };
//! assert_eq!(client.connection.publish(1, route, Properties::persistent(), b"hello".into())?, Some(1));
//! for event in read(server, client)? {
//!     let server = &mut server.connection;
//!     if let Event::Published { channel, content } = event {
//!         server.answer(channel, &basic::Ack { delivery_tag: 1, multiple: false })?;
//!         let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
//!         server.answer_content(channel, &deliver, content.properties(), content.body().into())?;
//!     } else if let Event::Method { channel, payload } = event {
//!         match Method::decode(&payload)? {
//!             Method::QueueDeclare(_) => server.answer(channel, &queue::DeclareOk::default())?,
//!             Method::ConfirmSelect(_) => server.answer(channel, &confirm::SelectOk {})?,
//!             _ => server.answer(channel, &basic::ConsumeOk { consumer_tag: "c" })?,
//!         }
//!     }
//! }
//! for event in read(client, server)? {
//!     match event {
//!         Event::Confirmed { first, last, ack, .. } => assert!(first == 1 && last == 1 && ack),
//!         Event::Delivery { channel, consumer, delivery_tag, .. } => {
//!             assert_eq!(consumer, 7);
//!             client.connection.ack(channel, delivery_tag, false)?;
//!         }
//!         other => assert!(matches!(other, Event::Reply { request: 100 | 101, .. })),
//!     }
//! }
//! client.connection.close(code::REPLY_SUCCESS, "done");
//! read(server, client)?;
//! read(client, server)?;
//! assert!(client.connection.is_closed() && server.connection.is_closed());
//! # Ok::<(), Error>(())
//! ```

#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod buffer;
mod connection;
mod content;
mod duration;
mod error;
mod frame;
mod heartbeat;
mod limits;
pub mod method;
mod method_id;
mod octets;
mod output;
mod printable;
mod properties;
mod receive;
mod shown;
mod sorted;
mod table;
mod tags;
mod time;
mod violation;
mod wire;

pub use connection::{
    Body, CloseReason, Config, Connection, Event, HandshakeStage, Prepared, Purpose, Role, Route, Tuning, put_method,
};
pub use content::{Arguments, Content, ContentKind};
pub use duration::{LONGEST_HEARTBEAT, LONGEST_TTL, milliseconds};
pub use error::{Error, Fault, code};
pub use frame::{Frame, Kind, MIN_FRAME_MAX, PROTOCOL_HEADER};
pub use limits::ReceiveLimits;
pub use octets::{Octets, OctetsMut};
pub use output::Transmit;
pub use printable::printable;
pub use properties::Properties;
pub use receive::{Incoming, Receiver};
pub use shown::{Elapsed, Quoted};
pub use sorted::{SortedMap, SortedSet};
pub use table::{FieldArray, FieldTable, IntoValue, MAX_DEPTH, Value};
pub use time::Time;
pub use violation::{ShortString, Violation};
