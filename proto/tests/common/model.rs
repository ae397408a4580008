//! A naive model of channels, consumers, deliveries and confirms, compared with two real ends.
//!
//! Frames stay in transit until an operation moves them, so requests, replies and closes cross in every order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hopmq_proto::method::{Method, MethodId, basic, confirm, queue};
use hopmq_proto::{Body, CloseReason, Event, Properties, Route};

use super::{Pair, wire};

const TAGS: [&str; 3] = ["a", "b", "c"];

/// The expected state of a channel at the client.
#[derive(Debug, Default)]
struct Client {
    /// Requests, each with its expected reply.
    due: VecDeque<(u64, MethodId)>,
    consumers: BTreeMap<&'static str, u64>,
    unacked: BTreeSet<u64>,
    unconfirmed: BTreeSet<u64>,
    published: u64,
    confirming: bool,
    recovering: usize,
    closing: bool,
}

/// The expected state of a channel at the server.
#[derive(Debug, Default)]
struct Server {
    consumers: BTreeSet<String>,
    delivered: u64,
    unacked: BTreeSet<u64>,
    unconfirmed: BTreeSet<u64>,
    published: u64,
    confirming: bool,
}

/// Both ends, the frames in transit, and the expected state of both.
#[derive(Debug)]
pub struct Model {
    pair: Pair,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    clients: BTreeMap<u16, Client>,
    servers: BTreeMap<u16, Server>,
    requests: u64,
}

impl Model {
    pub fn new() -> Self {
        Self {
            pair: Pair::open(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            requests: 0,
        }
    }

    /// Carries out the operations that the bytes encode, delivers all frames, and compares both ends.
    pub fn run(mut self, input: &[u8]) {
        let mut input = input.iter().copied();
        while let Some(operation) = input.next() {
            let argument = input.next().unwrap_or(0);
            let number = u16::from(argument % 3) + 1;
            self.operate(operation % 20, argument / 3, number);
            self.compare_client();
        }
        self.settle();
        for (number, client) in &self.clients {
            let server = &self.servers[number];
            assert_eq!(client.unacked, server.unacked, "channel {number}");
            assert_eq!(client.unconfirmed, server.unconfirmed, "channel {number}");
            assert!(client.due.is_empty(), "channel {number}: {:?}", client.due);
            let consumers: BTreeSet<String> = client.consumers.keys().map(ToString::to_string).collect();
            assert_eq!(consumers, server.consumers, "channel {number}");
        }
        assert_eq!(self.clients.len(), self.servers.len());
        assert_eq!(self.pair.client.connection.unknown_deliveries(), 0);
        self.pair.assert_healthy();
        self.pair.client.connection.close(200, "");
        self.pair.flow();
        assert!(self.pair.client.connection.is_closed() && self.pair.server.connection.is_closed());
    }

    fn operate(&mut self, operation: u8, argument: u8, number: u16) {
        let tag = TAGS[usize::from(argument) % TAGS.len()];
        match operation {
            0 | 1 => self.move_up(usize::from(argument) + 1),
            2 | 3 => self.move_down(usize::from(argument) + 1),
            4 => self.open(number),
            5 => self.close(number),
            6 => self.ask(number, &queue::Declare::default(), MethodId::QUEUE_DECLARE_OK),
            7 => self.ask(number, &queue::Purge::default(), MethodId::QUEUE_PURGE_OK),
            8 => self.cancel(number, tag),
            9 => self.consume(number, tag),
            10 => self.get(number),
            11 => self.confirm_select(number),
            12 => self.publish(number, argument),
            13 | 14 => self.settle_delivery(number, argument),
            15 => self.recover(number),
            16 | 17 => self.deliver(number, argument),
            18 => self.confirm(number, argument),
            _ if argument.is_multiple_of(4) => self.refuse(number),
            _ => self.cancel_by_server(number, tag),
        }
    }

    fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn client(&mut self, number: u16) -> Option<&mut Client> {
        self.clients.get_mut(&number).filter(|client| !client.closing)
    }

    fn open(&mut self, number: u16) {
        let request = self.request();
        let opened = self.pair.client.connection.open_channel(number, request);
        assert_eq!(opened.is_ok(), !self.clients.contains_key(&number));
        if opened.is_ok() {
            let due = VecDeque::from([(request, MethodId::CHANNEL_OPEN_OK)]);
            self.clients.insert(number, Client { due, ..Client::default() });
        }
    }

    fn close(&mut self, number: u16) {
        let request = self.request();
        let closed = self.pair.client.connection.close_channel(number, 200, "", Some(request));
        assert_eq!(closed.is_ok(), self.client(number).is_some());
        if let Some(client) = self.client(number) {
            let due = VecDeque::from([(request, MethodId::CHANNEL_CLOSE_OK)]);
            *client = Client { due, closing: true, ..Client::default() };
        }
    }

    fn ask<M: hopmq_proto::method::Encode>(&mut self, number: u16, method: &M, answer: MethodId) {
        let request = self.request();
        let sent = self.pair.client.connection.request(number, method, Some(request));
        assert_eq!(sent.is_ok(), self.client(number).is_some());
        if let Some(client) = self.client(number) {
            client.due.push_back((request, answer));
        }
    }

    fn cancel(&mut self, number: u16, tag: &str) {
        let request = self.request();
        let sent = self.pair.client.connection.cancel(number, tag, Some(request));
        assert_eq!(sent.is_ok(), self.client(number).is_some());
        if let Some(client) = self.client(number) {
            client.due.push_back((request, MethodId::BASIC_CANCEL_OK));
        }
    }

    fn recover(&mut self, number: u16) {
        self.ask(number, &basic::Recover { requeue: true }, MethodId::BASIC_RECOVER_OK);
        if let Some(client) = self.client(number) {
            client.unacked.clear();
            client.recovering += 1;
        }
    }

    fn consume(&mut self, number: u16, tag: &'static str) {
        let request = self.request();
        let consume = basic::Consume { consumer_tag: tag, ..Default::default() };
        let sent = self.pair.client.connection.consume(number, &consume, request, Some(request));
        let free = self.client(number).is_some_and(|client| !client.consumers.contains_key(tag));
        assert_eq!(sent.is_ok(), free);
        if let Some(client) = self.client(number).filter(|_| free) {
            client.due.push_back((request, MethodId::BASIC_CONSUME_OK));
            client.consumers.insert(tag, request);
        }
    }

    fn get(&mut self, number: u16) {
        let request = self.request();
        let sent = self.pair.client.connection.get(number, &basic::Get::default(), Some(request));
        assert_eq!(sent.is_ok(), self.client(number).is_some());
        if let Some(client) = self.client(number) {
            client.due.push_back((request, MethodId::BASIC_GET_OK));
        }
    }

    fn confirm_select(&mut self, number: u16) {
        let sent = self.pair.client.connection.confirm_select(number);
        assert_eq!(sent.is_ok(), self.client(number).is_some());
        if let Some(client) = self.client(number)
            && !std::mem::replace(&mut client.confirming, true)
        {
            client.due.push_back((0, MethodId::CONFIRM_SELECT_OK));
        }
    }

    fn publish(&mut self, number: u16, size: u8) {
        let route = Route { exchange: "e", routing_key: "k", mandatory: size.is_multiple_of(2) };
        let body = vec![size; usize::from(size)];
        let published = self.pair.client.connection.publish(number, route, Properties::EMPTY, Body::Borrowed(&body));
        let Some(client) = self.client(number) else { return assert!(published.is_err()) };
        if !client.confirming {
            return assert_eq!(published, Ok(None));
        }
        client.published += 1;
        client.unconfirmed.insert(client.published);
        assert_eq!(published, Ok(Some(client.published)));
    }

    fn settle_delivery(&mut self, number: u16, argument: u8) {
        let tag = u64::from(argument / 4);
        let multiple = argument.is_multiple_of(2);
        let connection = &mut self.pair.client.connection;
        let settled = match argument % 4 {
            0 | 1 => connection.ack(number, tag, multiple),
            _ => connection.nack(number, tag, multiple, true),
        };
        let known = self.client(number).is_some_and(|client| client.unacked.contains(&tag));
        assert_eq!(settled.is_ok(), known);
        if let Some(client) = self.client(number).filter(|_| known) {
            client.unacked.retain(|other| if multiple { *other > tag } else { *other != tag });
        }
    }

    fn deliver(&mut self, number: u16, argument: u8) {
        let Some(server) = self.servers.get_mut(&number) else { return };
        let count = server.consumers.len().max(1);
        let Some(tag) = server.consumers.iter().nth(usize::from(argument) % count) else { return };
        let deliver = basic::Deliver { consumer_tag: tag, delivery_tag: server.delivered + 1, ..Default::default() };
        let body = vec![argument; usize::from(argument)];
        let connection = &mut self.pair.server.connection;
        connection.answer_content(number, &deliver, Properties::EMPTY, Body::Borrowed(&body)).expect("an open channel");
        server.delivered += 1;
        server.unacked.insert(server.delivered);
    }

    fn confirm(&mut self, number: u16, argument: u8) {
        let Some(server) = self.servers.get_mut(&number) else { return };
        let count = server.unconfirmed.len().max(1);
        let Some(&delivery_tag) = server.unconfirmed.iter().nth(usize::from(argument) % count) else { return };
        let multiple = argument.is_multiple_of(2);
        let connection = &mut self.pair.server.connection;
        let sent = match argument % 3 {
            0 => connection.answer(number, &basic::Nack { delivery_tag, multiple, requeue: false }),
            _ => connection.answer(number, &basic::Ack { delivery_tag, multiple }),
        };
        sent.expect("an open channel");
        server.unconfirmed.retain(|other| if multiple { *other > delivery_tag } else { *other != delivery_tag });
    }

    fn refuse(&mut self, number: u16) {
        if self.servers.remove(&number).is_some() {
            let reason = CloseReason { code: 406, text: "no".to_owned(), method: MethodId::BASIC_ACK };
            self.pair.server.connection.refuse_channel(number, &reason).expect("an open channel");
        }
    }

    fn cancel_by_server(&mut self, number: u16, tag: &str) {
        if self.servers.get_mut(&number).is_some_and(|server| server.consumers.remove(tag)) {
            let cancel = basic::Cancel { consumer_tag: tag, nowait: false };
            self.pair.server.connection.answer(number, &cancel).expect("an open channel");
        }
    }

    fn collect(&mut self) {
        self.up.extend(wire::split(&self.pair.client.drain(self.pair.now)));
        self.down.extend(wire::split(&self.pair.server.drain(self.pair.now)));
    }

    fn move_up(&mut self, count: usize) {
        self.collect();
        for _ in 0..count {
            let Some(frame) = self.up.pop_front() else { break };
            self.pair.server.feed(self.pair.now, &frame);
            assert_eq!(self.pair.server.error, None);
            while let Some(event) = self.pair.server.events.pop() {
                self.serve(&event);
            }
        }
    }

    fn move_down(&mut self, count: usize) {
        self.collect();
        for _ in 0..count {
            let Some(frame) = self.down.pop_front() else { break };
            self.pair.client.feed(self.pair.now, &frame);
            assert_eq!(self.pair.client.error, None);
            while let Some(event) = self.pair.client.events.pop() {
                self.hear(&event);
            }
        }
    }

    fn settle(&mut self) {
        self.collect();
        while !self.up.is_empty() || !self.down.is_empty() {
            self.move_up(1);
            self.move_down(1);
            self.collect();
        }
        // The reply to confirm.select causes no event, so the model may still have it pending.
        self.compare_client();
    }

    /// Replies to the client as a broker does, immediately.
    fn serve(&mut self, event: &Event) {
        let connection = &mut self.pair.server.connection;
        match event {
            Event::ChannelOpened { channel } => drop(self.servers.insert(*channel, Server::default())),
            Event::ChannelClosed { channel, .. } => drop(self.servers.remove(channel)),
            Event::Published { channel, .. } => {
                let server = self.servers.get_mut(channel).expect("an open channel");
                if server.confirming {
                    server.published += 1;
                    server.unconfirmed.insert(server.published);
                }
            }
            Event::Method { channel, payload } => {
                let number = *channel;
                let server = self.servers.get_mut(&number).expect("an open channel");
                let mut settle = |tag: u64, multiple: bool| {
                    assert!(
                        server.unacked.contains(&tag),
                        "the broker would close channel {number} for the ack of {tag}"
                    );
                    server.unacked.retain(|other| if multiple { *other > tag } else { *other != tag });
                };
                let sent = match Method::decode(payload).expect("a method") {
                    Method::BasicAck(ack) => return settle(ack.delivery_tag, ack.multiple),
                    Method::BasicNack(nack) => return settle(nack.delivery_tag, nack.multiple),
                    Method::BasicCancelOk(_) | Method::ChannelFlowOk(_) => Ok(()),
                    Method::QueueDeclare(_) => connection.answer(number, &queue::DeclareOk::default()),
                    Method::QueuePurge(_) => connection.answer(number, &queue::PurgeOk::default()),
                    Method::BasicConsume(consume) => {
                        assert!(server.consumers.insert(consume.consumer_tag.to_owned()), "the consumer tag is in use");
                        connection.answer(number, &basic::ConsumeOk { consumer_tag: consume.consumer_tag })
                    }
                    Method::BasicCancel(cancel) => {
                        server.consumers.remove(cancel.consumer_tag);
                        connection.answer(number, &basic::CancelOk { consumer_tag: cancel.consumer_tag })
                    }
                    Method::BasicGet(_) if server.delivered.is_multiple_of(2) => {
                        server.delivered += 1;
                        server.unacked.insert(server.delivered);
                        let got = basic::GetOk { delivery_tag: server.delivered, ..Default::default() };
                        connection.answer_content(number, &got, Properties::EMPTY, Body::Borrowed(b"got"))
                    }
                    Method::BasicGet(_) => connection.answer(number, &basic::GetEmpty {}),
                    Method::BasicRecover(_) => {
                        server.unacked.clear();
                        connection.answer(number, &basic::RecoverOk {})
                    }
                    Method::ConfirmSelect(_) => {
                        server.confirming = true;
                        connection.answer(number, &confirm::SelectOk {})
                    }
                    other => panic!("{other:?}"),
                };
                sent.expect("an open channel");
            }
            other => panic!("{other:?}"),
        }
    }

    /// Checks that the model expects an event of the client.
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Reply { channel, request, payload } => {
                let id = MethodId::peek(payload).expect("a method");
                self.answered(*channel, *request, id, payload);
            }
            Event::Got { channel, request, content } => {
                self.answered(*channel, *request, MethodId::BASIC_GET_OK, &[]);
                self.delivered(*channel, content.arguments().delivery_tag);
            }
            Event::Delivery { channel, consumer, delivery_tag, content } => {
                let tag = String::from_utf8_lossy(content.arguments().consumer_tag);
                assert_eq!(self.clients[channel].consumers.get(&*tag), Some(consumer), "channel {channel}");
                self.delivered(*channel, *delivery_tag);
            }
            Event::Confirmed { channel, first, last, .. } => {
                let client = self.client(*channel).expect("an open channel");
                let before = client.unconfirmed.len();
                client.unconfirmed.retain(|tag| !(*first..=*last).contains(tag));
                assert!(client.unconfirmed.len() < before, "a confirm without an unconfirmed publish");
            }
            Event::ConsumerCancelled { channel, consumer } => {
                let client = self.client(*channel).expect("an open channel");
                let before = client.consumers.len();
                client.consumers.retain(|_, key| key != consumer);
                assert_eq!(client.consumers.len() + 1, before);
            }
            Event::ChannelClosed { channel, .. } => {
                assert!(self.clients.remove(channel).is_some_and(|client| !client.closing));
            }
            other => panic!("{other:?}"),
        }
    }

    fn answered(&mut self, number: u16, request: u64, id: MethodId, payload: &[u8]) {
        let client = self.clients.get_mut(&number).expect("a channel");
        // Request 0 is confirm.select, whose reply causes no event.
        let due = std::iter::from_fn(|| client.due.pop_front()).find(|(request, _)| *request != 0);
        let (due, expected) = due.expect("a reply was expected");
        let expected = if id == MethodId::BASIC_GET_EMPTY { MethodId::BASIC_GET_OK } else { expected };
        let id = if id == MethodId::BASIC_GET_EMPTY { MethodId::BASIC_GET_OK } else { id };
        assert_eq!((due, expected), (request, id), "channel {number}");
        match id {
            MethodId::CHANNEL_CLOSE_OK => drop(self.clients.remove(&number)),
            MethodId::BASIC_RECOVER_OK => client.recovering -= 1,
            MethodId::BASIC_CANCEL_OK => {
                // The cancel applies only to a consumer that was started before it.
                if let Ok(Method::BasicCancelOk(cancel)) = Method::decode(payload) {
                    client.consumers.retain(|tag, key| *tag != cancel.consumer_tag || *key > request);
                }
            }
            _ => {}
        }
    }

    fn delivered(&mut self, number: u16, tag: u64) {
        let client = self.client(number).expect("an open channel");
        if client.recovering == 0 {
            assert!(client.unacked.insert(tag));
        }
    }

    fn compare_client(&mut self) {
        let connection = &self.pair.client.connection;
        for number in 1..=3 {
            let client = self.clients.get(&number);
            let unacked = client.map_or(0, |client| client.unacked.len());
            let unconfirmed = client.map_or(0, |client| client.unconfirmed.len());
            let closing = client.is_some_and(|client| client.closing);
            if !closing {
                assert_eq!(connection.unacked(number), unacked, "channel {number}");
                assert_eq!(connection.unconfirmed(number), unconfirmed, "channel {number}");
            }
        }
        // Replies without an event leave the queue of the model together with the replies that follow.
        for client in self.clients.values_mut() {
            if client.due.iter().all(|(request, _)| *request == 0) && self.up.is_empty() && self.down.is_empty() {
                client.due.clear();
            }
        }
    }
}
