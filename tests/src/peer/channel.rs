//! Shorthands for the methods that scenarios send on a channel. They take the scenario's own names of queues and
//! exchanges, without the suffix.

use hopmq_proto::method::{Encode, basic, channel, confirm, exchange, queue, tx};
use hopmq_proto::{FieldTable, Properties, Value};

use super::{Frame, Message, Peer, encoded};

/// Arguments of a declaration or a binding.
pub type Arguments<'a> = &'a [(&'a str, Value<'a>)];

/// Returns a table with these entries.
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

    /// Returns the connection.
    pub fn peer(&self) -> &'p Peer {
        self.peer
    }

    /// Returns a name with the scenario's suffix, as the broker knows it.
    pub fn name(&self, stem: &str) -> String {
        self.peer.name(stem)
    }

    /// Sends a method.
    #[track_caller]
    pub fn send(&self, method: &impl Encode) {
        self.peer.frame(1, self.id, &encoded(method));
    }

    /// Sends a method, and returns the line of the next frame on the channel.
    #[track_caller]
    pub fn ask(&self, method: &impl Encode) -> String {
        self.send(method);
        self.next()
    }

    /// Returns the line of the next frame on the channel.
    #[track_caller]
    pub fn next(&self) -> String {
        self.peer.line(&self.peer.frame_of(self.id))
    }

    /// Returns the next frame on the channel, which must be a message.
    #[track_caller]
    pub fn message(&self) -> Message {
        match self.peer.frame_of(self.id) {
            Frame::Message(message) => message,
            other => panic!("expected a message, got {}", self.peer.line(&other)),
        }
    }

    /// Checks the line of the next frame on the channel.
    #[track_caller]
    pub fn expect(&self, line: &str) {
        assert_eq!(self.next(), line);
    }

    /// Sends a method and checks the line of the reply.
    #[track_caller]
    pub fn expect_reply(&self, method: &impl Encode, line: &str) {
        assert_eq!(self.ask(method), line);
    }

    /// Sends a method, checks that the broker closes the channel with `reason`, and reopens the channel.
    #[track_caller]
    pub fn expect_refusal(&self, method: &impl Encode, reason: &str) {
        self.send(method);
        self.expect_close(reason);
    }

    /// Checks that the broker closes the channel with `reason`, and reopens the channel.
    #[track_caller]
    pub fn expect_close(&self, reason: &str) {
        assert_eq!(self.next(), format!("channel.close {reason}"));
        self.send(&channel::CloseOk {});
        self.expect_reply(&channel::Open {}, "channel.open-ok");
    }

    /// Closes the channel.
    #[track_caller]
    pub fn close(&self) {
        let close = channel::Close { reply_code: 200, reply_text: "closed by the test", ..Default::default() };
        self.send(&close);
        while self.next() != "channel.close-ok" {}
    }

    /// Declares an exclusive queue.
    #[track_caller]
    pub fn queue(&self, stem: &str, arguments: Arguments<'_>) {
        let name = self.name(stem);
        let arguments = table(arguments);
        let declare =
            queue::Declare { queue: &name, exclusive: true, arguments: arguments.as_ref_table(), ..Default::default() };
        self.expect_reply(&declare, &format!("queue.declare-ok {stem} messages=0 consumers=0"));
    }

    /// Declares a durable queue. [`Stage::delete_at_end`](super::Stage::delete_at_end) must name it.
    #[track_caller]
    pub fn durable_queue(&self, stem: &str, arguments: Arguments<'_>) {
        let name = self.name(stem);
        let arguments = table(arguments);
        let arguments = arguments.as_ref_table();
        let declare = queue::Declare { queue: &name, durable: true, arguments, ..Default::default() };
        self.expect_reply(&declare, &format!("queue.declare-ok {stem} messages=0 consumers=0"));
    }

    /// Declares a durable queue with these arguments, and checks that the broker closes the channel with `reason`.
    #[track_caller]
    pub fn expect_queue_refusal(&self, stem: &str, arguments: Arguments<'_>, reason: &str) {
        let name = self.name(stem);
        let arguments = table(arguments);
        let declare =
            queue::Declare { queue: &name, durable: true, arguments: arguments.as_ref_table(), ..Default::default() };
        self.expect_refusal(&declare, &format!("{reason} (queue.declare)"));
    }

    /// Declares an exchange. [`Stage::delete_at_end`](super::Stage::delete_at_end) must name it.
    #[track_caller]
    pub fn exchange(&self, stem: &str, kind: &str, arguments: Arguments<'_>) {
        let name = self.name(stem);
        let arguments = table(arguments);
        let arguments = arguments.as_ref_table();
        let declare = exchange::Declare { exchange: &name, kind, arguments, ..Default::default() };
        self.expect_reply(&declare, "exchange.declare-ok");
    }

    /// Binds a queue.
    #[track_caller]
    pub fn bind(&self, queue: &str, exchange: &str, routing_key: &str, arguments: Arguments<'_>) {
        let queue = self.name(queue);
        let exchange = self.name(exchange);
        let arguments = table(arguments);
        let arguments = arguments.as_ref_table();
        let bind = queue::Bind { queue: &queue, exchange: &exchange, routing_key, arguments, nowait: false };
        self.expect_reply(&bind, "queue.bind-ok");
    }

    /// Unbinds a queue.
    #[track_caller]
    pub fn unbind(&self, queue: &str, exchange: &str, routing_key: &str, arguments: Arguments<'_>) {
        let queue = self.name(queue);
        let exchange = self.name(exchange);
        let arguments = table(arguments);
        let arguments = arguments.as_ref_table();
        let unbind = queue::Unbind { queue: &queue, exchange: &exchange, routing_key, arguments };
        self.expect_reply(&unbind, "queue.unbind-ok");
    }

    /// Binds an exchange to another one.
    #[track_caller]
    pub fn bind_exchange(&self, destination: &str, source: &str, routing_key: &str, arguments: Arguments<'_>) {
        let destination = self.name(destination);
        let source = self.name(source);
        let arguments = table(arguments);
        let arguments = arguments.as_ref_table();
        let bind = exchange::Bind { destination: &destination, source: &source, routing_key, arguments, nowait: false };
        self.expect_reply(&bind, "exchange.bind-ok");
    }

    /// Publishes to a queue through the default exchange.
    #[track_caller]
    pub fn publish_to(&self, queue: &str, body: &str) {
        self.publish_to_with(queue, body, &Properties::new());
    }

    /// Publishes to a queue through the default exchange, with properties.
    #[track_caller]
    pub fn publish_to_with(&self, queue: &str, body: &str, properties: &Properties) {
        let routing_key = &self.name(queue);
        self.send_message(basic::Publish { routing_key, ..Default::default() }, properties, body.as_bytes());
    }

    /// Publishes to an exchange.
    #[track_caller]
    pub fn publish(&self, exchange: &str, routing_key: &str, body: &str) {
        self.publish_with(exchange, routing_key, body, &Properties::new());
    }

    /// Publishes to an exchange, with properties.
    #[track_caller]
    pub fn publish_with(&self, exchange: &str, routing_key: &str, body: &str, properties: &Properties) {
        let exchange = &self.name(exchange);
        self.send_message(basic::Publish { exchange, routing_key, ..Default::default() }, properties, body.as_bytes());
    }

    /// Publishes a mandatory message to an exchange.
    #[track_caller]
    pub fn publish_mandatory(&self, exchange: &str, routing_key: &str, body: &str) {
        let exchange = &self.name(exchange);
        let publish = basic::Publish { exchange, routing_key, mandatory: true, immediate: false };
        self.send_message(publish, &Properties::new(), body.as_bytes());
    }

    /// Sends a publish with its header and body frames.
    #[track_caller]
    pub fn send_message(&self, publish: basic::Publish<'_>, properties: &Properties, body: &[u8]) {
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

    /// Sends `confirm.select`.
    #[track_caller]
    pub fn select_confirms(&self) {
        self.expect_reply(&confirm::Select { nowait: false }, "confirm.select-ok");
    }

    /// Sends `tx.select`.
    #[track_caller]
    pub fn select_transactions(&self) {
        self.expect_reply(&tx::Select {}, "tx.select-ok");
    }

    /// Starts a consumer with the tag `tag`.
    #[track_caller]
    pub fn consume(&self, queue: &str, tag: &str) {
        self.consume_with(queue, tag, &[]);
    }

    /// Starts a consumer with arguments.
    #[track_caller]
    pub fn consume_with(&self, queue: &str, tag: &str, arguments: Arguments<'_>) {
        let queue = self.name(queue);
        let arguments = table(arguments);
        let arguments = arguments.as_ref_table();
        let consume = basic::Consume { queue: &queue, consumer_tag: tag, arguments, ..Default::default() };
        self.expect_reply(&consume, &format!("basic.consume-ok {tag}"));
    }

    /// Cancels a consumer.
    #[track_caller]
    pub fn cancel(&self, consumer_tag: &str) {
        self.expect_reply(&basic::Cancel { consumer_tag, nowait: false }, &format!("basic.cancel-ok {consumer_tag}"));
    }

    /// Sets the prefetch.
    #[track_caller]
    pub fn prefetch(&self, prefetch_count: u16, global: bool) {
        self.expect_reply(&basic::Qos { prefetch_count, global }, "basic.qos-ok");
    }

    /// Gets a message that must be settled, and returns the line of the reply.
    #[track_caller]
    pub fn get(&self, queue: &str) -> String {
        let queue = &self.name(queue);
        self.ask(&basic::Get { queue, no_ack: false })
    }

    /// Gets a message that must be settled. Panics if the queue is empty.
    #[track_caller]
    pub fn get_message(&self, queue: &str) -> Message {
        let queue = &self.name(queue);
        self.send(&basic::Get { queue, no_ack: false });
        self.message()
    }

    /// Gets a message without ack, and returns its body.
    #[track_caller]
    pub fn take(&self, queue: &str) -> Option<String> {
        let queue = &self.name(queue);
        self.send(&basic::Get { queue, no_ack: true });
        match self.peer.frame_of(self.id) {
            Frame::Message(message) => Some(message.text()),
            other => {
                assert_eq!(self.peer.line(&other), "basic.get-empty");
                None
            }
        }
    }

    /// Gets all messages without ack, and returns their bodies.
    #[track_caller]
    pub fn drain(&self, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.take(queue)).collect()
    }

    /// Acks a delivery, or with `multiple` all up to it.
    #[track_caller]
    pub fn ack(&self, delivery_tag: u64, multiple: bool) {
        self.send(&basic::Ack { delivery_tag, multiple });
    }

    /// Nacks a delivery, or with `multiple` all up to it.
    #[track_caller]
    pub fn nack(&self, delivery_tag: u64, multiple: bool, requeue: bool) {
        self.send(&basic::Nack { delivery_tag, multiple, requeue });
    }

    /// Rejects a delivery.
    #[track_caller]
    pub fn reject(&self, delivery_tag: u64, requeue: bool) {
        self.send(&basic::Reject { delivery_tag, requeue });
    }

    /// Declares a queue passively, and returns its counts of messages and consumers.
    #[track_caller]
    pub fn counts(&self, queue: &str) -> String {
        let name = &self.name(queue);
        let line = self.ask(&queue::Declare { queue: name, passive: true, ..Default::default() });
        let counts = line.strip_prefix(&format!("queue.declare-ok {queue} "));
        counts.unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    /// Waits until a queue has `messages` ready messages: RabbitMQ may count late.
    #[track_caller]
    pub fn wait_for_messages(&self, queue: &str, messages: u32) {
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

    /// Waits until a message that expires after `milliseconds` has expired.
    #[track_caller]
    pub fn wait_for_expiry(&self, milliseconds: u32) {
        let peer = self.peer.another();
        let clock = peer.channel(1);
        let tick = format!("tick-{milliseconds}");
        clock.queue("tock", &[]);
        clock.consume("tock", "c");
        let tock = &self.name("tock");
        clock.queue(&tick, &[("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", tock.into())]);
        clock.publish_to_with(&tick, "tick", &Properties::new().with_expiration(&milliseconds.to_string()));
        clock.message();
        peer.close();
    }

    /// Checks that no frame comes. Frames of the queue's would arrive before the last of these replies.
    #[track_caller]
    pub fn expect_nothing(&self, queue: &str) {
        for _ in 0..3 {
            self.counts(queue);
        }
    }

    /// Checks that the next frame confirms publish `tag`, with or without `multiple`.
    #[track_caller]
    pub fn expect_ack(&self, tag: u64) {
        assert_eq!(self.next().trim_end_matches(" multiple"), format!("basic.ack {tag}"));
    }

    /// Checks that the next frame nacks publish `tag`, with or without `multiple`.
    #[track_caller]
    pub fn expect_nack(&self, tag: u64) {
        assert_eq!(self.next().trim_end_matches(" multiple"), format!("basic.nack {tag}"));
    }

    /// Waits until `count` publishes are confirmed or nacked, and returns the sequence numbers of the nacked ones.
    #[track_caller]
    pub fn wait_for_confirms(&self, count: u64) -> Vec<u64> {
        let mut open: Vec<u64> = (1..=count).collect();
        let mut nacked: Vec<u64> = Vec::new();
        while !open.is_empty() {
            let line = self.next();
            let words: Vec<&str> = line.split(' ').collect();
            let tag: u64 = words.get(1).and_then(|tag| tag.parse().ok()).unwrap_or_else(|| panic!("{line}"));
            let multiple = words.get(2) == Some(&"multiple");
            let (done, left) = open.into_iter().partition(|&number| number == tag || (multiple && number < tag));
            open = left;
            match words[0] {
                "basic.ack" => {}
                "basic.nack" => nacked.extend::<Vec<u64>>(done),
                _ => panic!("{line}"),
            }
        }
        nacked.sort_unstable();
        nacked
    }
}
