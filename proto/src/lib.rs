//! AMQP 0-9-1 as a pure state machine, for clients and for servers: bytes, calls and the time go in, events and bytes
//! come out. There is no socket in it, no clock, no lock and no executor; whoever has those drives it.
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
//! 1. Read into [`Receiver::space`], and say how much with [`Receiver::filled`] and [`Connection::received`].
//! 2. Give what [`Receiver::poll`] yields to [`Connection::handle`], until it yields `None`. Tell the receiver the
//!    limits that were agreed on: [`Connection::receive_limits`], [`Receiver::set_limits`]. If the receiver fails, tell
//!    [`Connection::receive_failed`].
//! 3. Write what [`Connection::poll_transmit`] moves into a [`Transmit`], also after an error: it tells the peer why.
//! 4. Call [`Connection::handle_timeout`] when the moment of [`Connection::poll_timeout`] has come.
//!
//! An error whose [`Error::fault`] is the peer's ends the connection; one of the caller's changes nothing.
//!
//! Both ends in one program, from the handshake to the goodbye:
//!
//! ```
//! use hopmq_proto::method::{Method, basic, confirm, queue};
//! use hopmq_proto::*;
//!
//! /// Reads what the other end has written.
//! fn read(end: &mut (Connection, Receiver), other: &mut (Connection, Receiver)) -> Result<Vec<Event>, Error> {
//!     let (now, mut transmit, mut events) = (Time::ZERO, Transmit::new(), Vec::new());
//!     other.0.poll_transmit(now, &mut transmit);
//!     let count = transmit.chunk().len();
//!     end.1.space()[..count].copy_from_slice(transmit.chunk());
//!     end.1.filled(count);
//!     end.0.received(now);
//!     while let Some(incoming) = end.1.poll()? {
//!         events.extend(end.0.handle(now, incoming)?);
//!         end.1.set_limits(end.0.receive_limits());
//!     }
//!     Ok(events)
//! }
//! let [client, server] = [Role::Client, Role::Server].map(|role| Connection::new(role, Config::default()));
//! let limits = client.receive_limits();
//! let (mut client, mut server) = ((client, Receiver::client(limits)), (server, Receiver::server(limits)));
//! read(&mut server, &mut client)?;
//! read(&mut client, &mut server)?; // Event::Start
//! client.0.start_ok(&FieldTable::new(), "PLAIN", b"\0guest\0guest")?;
//! read(&mut server, &mut client)?; // Event::StartOk: is the password right?
//! server.0.tune()?;
//! read(&mut client, &mut server)?;
//! read(&mut server, &mut client)?; // Event::Open: is there such a virtual host?
//! server.0.open_ok()?;
//! read(&mut client, &mut server)?; // Event::Opened
//! client.0.open_channel(1, 100)?;
//! client.0.request(1, &queue::Declare { queue: "orders", ..Default::default() }, Some(101))?;
//! client.0.confirm_select(1)?;
//! client.0.consume(1, &basic::Consume { queue: "orders", consumer_tag: "c", ..Default::default() }, 7, None)?;
//! let route = Route { exchange: "", routing_key: "orders", mandatory: false };
//! assert_eq!(client.0.publish(1, route, Properties::persistent(), b"hello".into())?, Some(1));
//! for event in read(&mut server, &mut client)? {
//!     if let Event::Published { channel, content } = event {
//!         server.0.answer(channel, &basic::Ack { delivery_tag: 1, multiple: false })?;
//!         let deliver = basic::Deliver { consumer_tag: "c", delivery_tag: 1, ..Default::default() };
//!         server.0.answer_content(channel, &deliver, content.properties(), content.body().into())?;
//!     } else if let Event::Method { channel, payload } = event {
//!         match Method::decode(&payload)? {
//!             Method::QueueDeclare(_) => server.0.answer(channel, &queue::DeclareOk::default())?,
//!             Method::ConfirmSelect(_) => server.0.answer(channel, &confirm::SelectOk {})?,
//!             _ => server.0.answer(channel, &basic::ConsumeOk { consumer_tag: "c" })?,
//!         }
//!     }
//! }
//! for event in read(&mut client, &mut server)? {
//!     match event {
//!         Event::Confirmed { first, last, ack, .. } => assert!((first, last, ack) == (1, 1, true)),
//!         Event::Delivery { channel, consumer: 7, delivery_tag, .. } => client.0.ack(channel, delivery_tag, false)?,
//!         other => assert!(matches!(other, Event::Reply { request: 100 | 101, .. })),
//!     }
//! }
//! client.0.close(code::REPLY_SUCCESS, "goodbye");
//! read(&mut server, &mut client)?;
//! read(&mut client, &mut server)?;
//! assert!(client.0.is_closed() && server.0.is_closed());
//! # Ok::<(), Error>(())
//! ```

mod buffer;
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

pub use connection::{
    Body, CloseReason, Config, Connection, Event, HandshakeStage, Purpose, Role, Route, Tuning, put_method,
};
pub use content::{Arguments, Content, ContentKind};
pub use error::{Error, Fault, code};
pub use frame::{Frame, Kind, MIN_FRAME_MAX, PROTOCOL_HEADER};
pub use octets::{Octets, OctetsMut};
pub use output::Transmit;
pub use properties::Properties;
pub use receive::{Incoming, ReceiveLimits, Receiver};
pub use table::{FieldArray, FieldTable, MAX_DEPTH, Value};
pub use time::Time;
