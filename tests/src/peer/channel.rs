//! Shorthands for what scenarios say on a channel. Each name that is given is one of the scenario's own.

use hopmq_proto::method::{Encode, basic, channel, confirm, exchange, queue, tx};
use hopmq_proto::{FieldTable, Properties, Value};

use super::{Frame, Message, Peer, encoded};

/// Arguments of a declaration or a binding.
pub type Arguments<'a> = &'a [(&'a str, Value<'a>)];

/// A table with these entries.
pub fn table(entries: Arguments<'_>) -> FieldTable {
    let mut table = FieldTable::new();
    for (key, value) in entries {
        table.insert(key, *value);
    }
    table
}

/// One channel of a [`Peer`].
#[derive(Clone, Copy, Debug)]
pub struct Channel<'p> {
    peer: &'p Peer,
    id: u16,
}

impl<'p> Channel<'p> {
    pub(super) fn new(peer: &'p Peer, id: u16) -> Self {
        Self { peer, id }
    }

    /// The connection.
    pub fn peer(&self) -> &'p Peer {
        self.peer
    }

    /// A name as the broker knows it.
    pub fn name(&self, stem: &str) -> String {
        self.peer.name(stem)
    }

    /// Sends a method.
    #[track_caller]
    pub fn sends(&self, method: &impl Encode) {
        self.peer.frame(1, self.id, &encoded(method));
    }

    /// Sends a method, and returns what comes next.
    #[track_caller]
    pub fn ask(&self, method: &impl Encode) -> String {
        self.sends(method);
        self.next()
    }

    /// What comes next.
    #[track_caller]
    pub fn next(&self) -> String {
        self.peer.line(&self.peer.frame_of(self.id))
    }

    /// What comes next has to be a message.
    #[track_caller]
    pub fn message(&self) -> Message {
        match self.peer.frame_of(self.id) {
            Frame::Message(message) => message,
            other => panic!("a message was due, but it was {}", self.peer.line(&other)),
        }
    }

    /// Checks what comes next.
    #[track_caller]
    pub fn expect(&self, line: &str) {
        assert_eq!(self.next(), line);
    }

    /// Sends a method and checks the answer.
    #[track_caller]
    pub fn answers(&self, method: &impl Encode, line: &str) {
        assert_eq!(self.ask(method), line);
    }

    /// Sends a method, checks that the broker closes the channel for that reason, and opens the channel again.
    #[track_caller]
    pub fn refuses(&self, method: &impl Encode, reason: &str) {
        self.sends(method);
        self.closes(reason);
    }

    /// Checks that the broker closes the channel for that reason, and opens the channel again.
    #[track_caller]
    pub fn closes(&self, reason: &str) {
        assert_eq!(self.next(), format!("channel.close {reason}"));
        self.sends(&channel::CloseOk {});
        self.answers(&channel::Open {}, "channel.open-ok");
    }

    /// Closes the channel.
    #[track_caller]
    pub fn close(&self) {
        let close = channel::Close { reply_code: 200, reply_text: "goodbye", ..Default::default() };
        self.sends(&close);
        while self.next() != "channel.close-ok" {}
    }

    /// Declares an exclusive queue.
    #[track_caller]
    pub fn queue(&self, stem: &str, arguments: Arguments<'_>) {
        let (name, arguments) = (self.name(stem), table(arguments));
        let declare =
            queue::Declare { queue: &name, exclusive: true, arguments: arguments.as_ref_table(), ..Default::default() };
        self.answers(&declare, &format!("queue.declare-ok {stem} messages=0 consumers=0"));
    }

    /// Declares a durable queue. The stage must be told of it: [`Stage::leaves`](super::Stage::leaves).
    #[track_caller]
    pub fn durable(&self, stem: &str, arguments: Arguments<'_>) {
        let (name, arguments) = (self.name(stem), table(arguments));
        let arguments = arguments.as_ref_table();
        let declare = queue::Declare { queue: &name, durable: true, arguments, ..Default::default() };
        self.answers(&declare, &format!("queue.declare-ok {stem} messages=0 consumers=0"));
    }

    /// Checks how the declaration of a queue with these arguments is refused.
    #[track_caller]
    pub fn no_queue(&self, stem: &str, arguments: Arguments<'_>, reason: &str) {
        let (name, arguments) = (self.name(stem), table(arguments));
        let declare = queue::Declare { queue: &name, arguments: arguments.as_ref_table(), ..Default::default() };
        self.refuses(&declare, &format!("{reason} (queue.declare)"));
    }

    /// Declares an exchange. The stage must be told of it: [`Stage::leaves`](super::Stage::leaves).
    #[track_caller]
    pub fn exchange(&self, stem: &str, kind: &str, arguments: Arguments<'_>) {
        let (name, arguments) = (self.name(stem), table(arguments));
        let arguments = arguments.as_ref_table();
        let declare = exchange::Declare { exchange: &name, kind, arguments, ..Default::default() };
        self.answers(&declare, "exchange.declare-ok");
    }

    /// Binds a queue.
    #[track_caller]
    pub fn bind(&self, queue: &str, exchange: &str, routing_key: &str, arguments: Arguments<'_>) {
        let (queue, exchange, arguments) = (self.name(queue), self.name(exchange), table(arguments));
        let arguments = arguments.as_ref_table();
        let bind = queue::Bind { queue: &queue, exchange: &exchange, routing_key, arguments, nowait: false };
        self.answers(&bind, "queue.bind-ok");
    }

    /// Unbinds a queue.
    #[track_caller]
    pub fn unbind(&self, queue: &str, exchange: &str, routing_key: &str, arguments: Arguments<'_>) {
        let (queue, exchange, arguments) = (self.name(queue), self.name(exchange), table(arguments));
        let arguments = arguments.as_ref_table();
        let unbind = queue::Unbind { queue: &queue, exchange: &exchange, routing_key, arguments };
        self.answers(&unbind, "queue.unbind-ok");
    }

    /// Binds an exchange to another.
    #[track_caller]
    pub fn bind_exchange(&self, destination: &str, source: &str, routing_key: &str, arguments: Arguments<'_>) {
        let (destination, source, arguments) = (self.name(destination), self.name(source), table(arguments));
        let arguments = arguments.as_ref_table();
        let bind = exchange::Bind { destination: &destination, source: &source, routing_key, arguments, nowait: false };
        self.answers(&bind, "exchange.bind-ok");
    }

    /// Publishes by the default exchange.
    #[track_caller]
    pub fn to(&self, queue: &str, body: &str) {
        self.to_with(queue, body, &Properties::new());
    }

    /// Publishes by the default exchange, with properties.
    #[track_caller]
    pub fn to_with(&self, queue: &str, body: &str, properties: &Properties) {
        let routing_key = &self.name(queue);
        self.publishes(basic::Publish { routing_key, ..Default::default() }, properties, body.as_bytes());
    }

    /// Publishes.
    #[track_caller]
    pub fn publish(&self, exchange: &str, routing_key: &str, body: &str) {
        self.publish_with(exchange, routing_key, body, &Properties::new());
    }

    /// Publishes with properties.
    #[track_caller]
    pub fn publish_with(&self, exchange: &str, routing_key: &str, body: &str, properties: &Properties) {
        let exchange = &self.name(exchange);
        self.publishes(basic::Publish { exchange, routing_key, ..Default::default() }, properties, body.as_bytes());
    }

    /// Publishes what has to find a queue.
    #[track_caller]
    pub fn mandatory(&self, exchange: &str, routing_key: &str, body: &str) {
        let exchange = &self.name(exchange);
        let publish = basic::Publish { exchange, routing_key, mandatory: true, immediate: false };
        self.publishes(publish, &Properties::new(), body.as_bytes());
    }

    /// Sends the frames of a message.
    #[track_caller]
    pub fn publishes(&self, publish: basic::Publish<'_>, properties: &Properties, body: &[u8]) {
        let mut header = vec![0, 60, 0, 0];
        header.extend((body.len() as u64).to_be_bytes());
        properties.encode(&mut header).expect("the scenario's properties can be encoded");
        let mut bytes = super::frame(1, self.id, &encoded(&publish));
        bytes.extend(super::frame(2, self.id, &header));
        for part in body.chunks(self.peer.frame_max() - 8) {
            bytes.extend(super::frame(3, self.id, part));
        }
        self.peer.bytes(&bytes);
    }

    /// Turns confirms on.
    #[track_caller]
    pub fn confirms(&self) {
        self.answers(&confirm::Select { nowait: false }, "confirm.select-ok");
    }

    /// Turns transactions on.
    #[track_caller]
    pub fn transactions(&self) {
        self.answers(&tx::Select {}, "tx.select-ok");
    }

    /// Starts a consumer whose tag is `tag`.
    #[track_caller]
    pub fn consume(&self, queue: &str, tag: &str) {
        self.consume_with(queue, tag, &[]);
    }

    /// Starts a consumer with arguments.
    #[track_caller]
    pub fn consume_with(&self, queue: &str, tag: &str, arguments: Arguments<'_>) {
        let (queue, arguments) = (self.name(queue), table(arguments));
        let arguments = arguments.as_ref_table();
        let consume = basic::Consume { queue: &queue, consumer_tag: tag, arguments, ..Default::default() };
        self.answers(&consume, &format!("basic.consume-ok {tag}"));
    }

    /// Ends a consumer.
    #[track_caller]
    pub fn cancel(&self, consumer_tag: &str) {
        self.answers(&basic::Cancel { consumer_tag, nowait: false }, &format!("basic.cancel-ok {consumer_tag}"));
    }

    /// Sets how many deliveries may be under way.
    #[track_caller]
    pub fn prefetch(&self, prefetch_count: u16, global: bool) {
        self.answers(&basic::Qos { prefetch_count, global }, "basic.qos-ok");
    }

    /// Gets a message, to be settled: the line of the answer.
    #[track_caller]
    pub fn get(&self, queue: &str) -> String {
        let queue = &self.name(queue);
        self.ask(&basic::Get { queue, no_ack: false })
    }

    /// Gets a message that must be there, to be settled.
    #[track_caller]
    pub fn got(&self, queue: &str) -> Message {
        let queue = &self.name(queue);
        self.sends(&basic::Get { queue, no_ack: false });
        self.message()
    }

    /// Takes a message for good: its body.
    #[track_caller]
    pub fn take(&self, queue: &str) -> Option<String> {
        let queue = &self.name(queue);
        self.sends(&basic::Get { queue, no_ack: true });
        match self.peer.frame_of(self.id) {
            Frame::Message(message) => Some(message.text()),
            other => {
                assert_eq!(self.peer.line(&other), "basic.get-empty");
                None
            }
        }
    }

    /// Takes all messages for good: their bodies.
    #[track_caller]
    pub fn drain(&self, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.take(queue)).collect()
    }

    /// Settles a delivery.
    #[track_caller]
    pub fn ack(&self, delivery_tag: u64, multiple: bool) {
        self.sends(&basic::Ack { delivery_tag, multiple });
    }

    /// Gives deliveries back, or up.
    #[track_caller]
    pub fn nack(&self, delivery_tag: u64, multiple: bool, requeue: bool) {
        self.sends(&basic::Nack { delivery_tag, multiple, requeue });
    }

    /// Gives a delivery back, or up.
    #[track_caller]
    pub fn reject(&self, delivery_tag: u64, requeue: bool) {
        self.sends(&basic::Reject { delivery_tag, requeue });
    }

    /// What a passive declare says of a queue: messages and consumers.
    #[track_caller]
    pub fn counts(&self, queue: &str) -> String {
        let name = &self.name(queue);
        let line = self.ask(&queue::Declare { queue: name, passive: true, ..Default::default() });
        let counts = line.strip_prefix(&format!("queue.declare-ok {queue} "));
        counts.unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    /// Waits until a queue has so many messages that wait for a consumer: RabbitMQ may count late.
    #[track_caller]
    pub fn has(&self, queue: &str, messages: u32) {
        let wanted = format!("messages={messages} ");
        let mut counts = String::new();
        for _ in 0..10_000 {
            counts = self.counts(queue);
            if counts.starts_with(&wanted) {
                return;
            }
        }
        panic!("{queue} has {counts}, not {wanted}");
    }

    /// Waits for as long as it takes a message to expire after `milliseconds`.
    #[track_caller]
    pub fn waits(&self, milliseconds: u32) {
        let peer = self.peer.another();
        let (clock, tick) = (peer.channel(1), format!("tick-{milliseconds}"));
        clock.queue("tock", &[]);
        clock.consume("tock", "c");
        let tock = &self.name("tock");
        clock.queue(&tick, &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", tock.into())]);
        clock.to_with(&tick, "tick", &Properties::new().with_expiration(&milliseconds.to_string()));
        clock.message();
        peer.close();
    }

    /// Checks that nothing comes: what the queue has to say would be there before the last of these answers.
    #[track_caller]
    pub fn quiet(&self, queue: &str) {
        for _ in 0..3 {
            self.counts(queue);
        }
    }

    /// Checks that publish `tag` is confirmed next. Whether the broker calls that `multiple` is its own affair.
    #[track_caller]
    pub fn acked(&self, tag: u64) {
        assert_eq!(self.next().trim_end_matches(" multiple"), format!("basic.ack {tag}"));
    }

    /// Checks that publish `tag` is refused next.
    #[track_caller]
    pub fn nacked(&self, tag: u64) {
        assert_eq!(self.next().trim_end_matches(" multiple"), format!("basic.nack {tag}"));
    }

    /// Waits until so many publishes are settled, and returns the numbers of the refused ones, in their order.
    #[track_caller]
    pub fn settled(&self, count: u64) -> Vec<u64> {
        let (mut open, mut refused): (Vec<u64>, Vec<u64>) = ((1..=count).collect(), Vec::new());
        while !open.is_empty() {
            let line = self.next();
            let words: Vec<&str> = line.split(' ').collect();
            let tag: u64 = words.get(1).and_then(|tag| tag.parse().ok()).unwrap_or_else(|| panic!("{line}"));
            let multiple = words.get(2) == Some(&"multiple");
            let (done, left) = open.into_iter().partition(|&number| number == tag || (multiple && number < tag));
            open = left;
            match words[0] {
                "basic.ack" => {}
                "basic.nack" => refused.extend::<Vec<u64>>(done),
                _ => panic!("{line}"),
            }
        }
        refused.sort_unstable();
        refused
    }
}
