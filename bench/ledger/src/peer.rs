//! A peer that answers every request at once and keeps nothing, so that what grows is the client's cost.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use hopmq_proto::method::{Method, basic, exchange, queue};
use hopmq_proto::{Config, Connection, Event, Receiver, Role, Time, Transmit};

use crate::Result;

/// The listener, and the link of the client.
pub struct Peer {
    pub address: SocketAddr,
    link: Arc<Mutex<Option<TcpStream>>>,
}

impl Peer {
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let link = Arc::new(Mutex::new(None));
        let latest = Arc::clone(&link);
        thread::spawn(move || {
            for (number, stream) in (0_u64..).zip(listener.incoming().flatten()) {
                *latest.lock().unwrap_or_else(PoisonError::into_inner) = stream.try_clone().ok();
                if let Err(error) = Session::new(number).serve(stream) {
                    eprintln!("the peer: {error}");
                }
            }
        });
        Ok(Self { address, link })
    }

    /// Cuts the link.
    pub fn cut(&self) {
        if let Some(stream) = &*self.link.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// One link.
struct Session {
    proto: Connection,
    receiver: Receiver,
    begin: Instant,
    number: u64,
    named: u64,
}

impl Session {
    fn new(number: u64) -> Self {
        let proto = Connection::new(Role::Server, Config::default());
        let receiver = Receiver::server(proto.receive_limits());
        Self { proto, receiver, begin: Instant::now(), number, named: 0 }
    }

    fn now(&self) -> Time {
        Time::from_epoch(self.begin.elapsed())
    }

    /// Serves the link until one end closes it.
    fn serve(&mut self, mut stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut transmit = Transmit::new();
        loop {
            let count = stream.read(self.receiver.space()).unwrap_or(0);
            if count == 0 {
                return Ok(());
            }
            self.receiver.filled(count);
            self.proto.received(self.now());
            while let Some(incoming) = self.receiver.poll()? {
                if let Some(event) = self.proto.handle(self.now(), incoming)? {
                    self.answer(event)?;
                }
                self.receiver.set_limits(self.proto.receive_limits());
            }
            self.proto.poll_transmit(self.now(), &mut transmit);
            while !transmit.is_empty() {
                let chunk = transmit.chunk();
                let size = chunk.len();
                if stream.write_all(chunk).is_err() {
                    return Ok(());
                }
                transmit.advance(size);
            }
        }
    }

    fn answer(&mut self, event: Event) -> Result<()> {
        let (channel, payload) = match event {
            Event::StartOk { .. } => return Ok(self.proto.tune()?),
            Event::Open { .. } => return Ok(self.proto.open_ok()?),
            Event::Method { channel, payload } => (channel, payload),
            _ => return Ok(()),
        };
        let proto = &mut self.proto;
        match Method::decode(&payload)? {
            Method::ExchangeDeclare(_) => proto.answer(channel, &exchange::DeclareOk {})?,
            Method::ExchangeBind(_) => proto.answer(channel, &exchange::BindOk {})?,
            Method::ExchangeUnbind(_) => proto.answer(channel, &exchange::UnbindOk {})?,
            Method::ExchangeDelete(_) => proto.answer(channel, &exchange::DeleteOk {})?,
            Method::QueueDeclare(declare) if declare.queue.is_empty() => {
                self.named += 1;
                let name = format!("amq.gen-{}-{}", self.number, self.named);
                proto.answer(channel, &queue::DeclareOk { queue: &name, message_count: 0, consumer_count: 0 })?;
            }
            Method::QueueDeclare(declare) => {
                proto
                    .answer(channel, &queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 0 })?;
            }
            Method::QueueBind(_) => proto.answer(channel, &queue::BindOk {})?,
            Method::QueueUnbind(_) => proto.answer(channel, &queue::UnbindOk {})?,
            Method::QueueDelete(_) => proto.answer(channel, &queue::DeleteOk { message_count: 0 })?,
            Method::BasicQos(_) => proto.answer(channel, &basic::QosOk {})?,
            Method::BasicConsume(consume) => {
                proto.answer(channel, &basic::ConsumeOk { consumer_tag: consume.consumer_tag })?;
            }
            Method::BasicCancel(cancel) => {
                proto.answer(channel, &basic::CancelOk { consumer_tag: cancel.consumer_tag })?;
            }
            _ => {}
        }
        Ok(())
    }
}
