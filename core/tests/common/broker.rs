//! A minimal correct broker: queues by name, routed to by the default exchange.

use std::collections::{BTreeMap, VecDeque};

use hopmq::Body;
use hopmq_proto::method::{Method, MethodId, basic, channel, confirm, connection, exchange, queue, tx};
use hopmq_proto::{CloseReason, Connection, Content, Event};

#[derive(Default)]
pub(crate) struct Broker {
    queues: BTreeMap<String, VecDeque<Message>>,
    /// Whether a queue may have messages.
    loaded: bool,
    channels: BTreeMap<u16, Channel>,
    /// The test confirms publishes in place of the broker.
    pub(crate) confirms_by_hand: bool,
    /// Every `n`th publish is nacked.
    pub(crate) nack_every: Option<u64>,
    /// How many queues the broker has named.
    named: u32,
    /// A queue whose declaration is refused, and the code.
    refused: (String, u16),
}

struct Message {
    content: Content,
    redelivered: bool,
}

#[derive(Default)]
struct Channel {
    consumers: Vec<Consumer>,
    delivered: u64,
    unacked: BTreeMap<u64, Unacked>,
    prefetch: u16,
    /// How many messages were published in confirm mode.
    published: Option<u64>,
}

struct Consumer {
    tag: String,
    queue: String,
    no_ack: bool,
    prefetch: u16,
}

struct Unacked {
    queue: String,
    consumer: String,
    message: Message,
}

impl Broker {
    /// Returns the number of ready messages in a queue.
    pub(crate) fn ready(&self, queue: &str) -> usize {
        self.queues.get(queue).map_or(0, VecDeque::len)
    }

    /// Returns the number of unsettled deliveries.
    pub(crate) fn unacked(&self) -> usize {
        self.channels.values().map(|channel| channel.unacked.len()).sum()
    }

    /// Returns the number of consumers.
    pub(crate) fn consumers(&self) -> usize {
        self.channels.values().map(|channel| channel.consumers.len()).sum()
    }

    /// Returns the number of open channels.
    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Creates a queue, as another connection would.
    pub(crate) fn create_queue(&mut self, queue: &str) {
        self.queues.entry(queue.to_owned()).or_default();
    }

    /// Refuses to declare a queue from now on.
    pub(crate) fn refuse_declare(&mut self, queue: &str, code: u16) {
        self.refused = (queue.to_owned(), code);
    }

    /// Deletes a queue, as another connection would.
    pub(crate) fn delete_queue(&mut self, queue: &str) {
        self.queues.remove(queue);
    }

    /// Deletes all queues, as a restart would if none is durable.
    pub(crate) fn delete_all_queues(&mut self) {
        self.queues.clear();
    }

    /// Requeues everything that the lost connection held.
    pub(super) fn link_lost(&mut self) {
        for number in self.channels.keys().copied().collect::<Vec<_>>() {
            self.end_channel(number);
        }
    }

    pub(super) fn remove_consumer(&mut self, channel: u16, tag: &str) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.consumers.retain(|consumer| consumer.tag != tag);
        }
    }

    pub(super) fn handle(&mut self, proto: &mut Connection, event: Event) {
        match event {
            Event::ChannelOpened { channel } => drop(self.channels.insert(channel, Channel::default())),
            Event::ChannelClosed { channel, .. } => self.end_channel(channel),
            Event::Published { channel, content } => self.publish(proto, channel, content),
            Event::Method { channel, payload } => {
                let method = Method::decode(&payload).expect("the method was decoded before");
                if let Err(text) = self.method(proto, channel, &method) {
                    let method = MethodId::peek(&payload).expect("the method was decoded before");
                    let code = if text == "REFUSED" { self.refused.1 } else { 404 };
                    self.refuse(proto, channel, CloseReason { code, text, method });
                }
            }
            _ => {}
        }
    }

    fn refuse(&mut self, proto: &mut Connection, channel: u16, reason: CloseReason) {
        // Fails if the channel was closed meanwhile, which needs no reply.
        let _ = proto.refuse_channel(channel, &reason);
        self.end_channel(channel);
    }

    fn end_channel(&mut self, number: u16) {
        let Some(channel) = self.channels.remove(&number) else { return };
        for (_, unacked) in channel.unacked.into_iter().rev() {
            self.requeue(unacked);
        }
    }

    fn requeue(&mut self, unacked: Unacked) {
        let Unacked { queue, mut message, .. } = unacked;
        message.redelivered = true;
        self.loaded = true;
        self.queues.entry(queue).or_default().push_front(message);
    }

    fn publish(&mut self, proto: &mut Connection, number: u16, content: Content) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let arguments = content.arguments();
        let tag = channel.published.as_mut().map(|published| {
            *published += 1;
            *published
        });
        let key = String::from_utf8_lossy(arguments.routing_key).into_owned();
        match self.queues.get_mut(&key) {
            Some(queue) if arguments.exchange.is_empty() => {
                self.loaded = true;
                queue.push_back(Message { content: content.clone(), redelivered: false });
            }
            _ if arguments.mandatory => {
                let exchange = std::str::from_utf8(arguments.exchange).expect("tests write text");
                let returned = basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange, routing_key: &key };
                let body = Body::Shared(content.body_bytes());
                let _ = proto.answer_content(number, &returned, content.properties(), body);
            }
            _ => {}
        }
        let Some(delivery_tag) = tag.filter(|_| !self.confirms_by_hand) else { return };
        let _ = if self.nack_every.is_some_and(|every| delivery_tag.is_multiple_of(every)) {
            proto.answer(number, &basic::Nack { delivery_tag, multiple: false, requeue: false })
        } else {
            proto.answer(number, &basic::Ack { delivery_tag, multiple: false })
        };
    }

    fn method(&mut self, proto: &mut Connection, number: u16, method: &Method<'_>) -> Result<(), String> {
        if let Method::ConnectionUpdateSecret(_) = method {
            let _ = proto.answer(0, &connection::UpdateSecretOk {});
            return Ok(());
        }
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let answered = match method {
            Method::QueueDeclare(declare) => return self.declare(proto, number, declare),
            Method::QueuePurge(purge) => {
                let queue = self.queues.get_mut(purge.queue).ok_or("NOT_FOUND - no queue")?;
                let message_count = queue.drain(..).len() as u32;
                proto.answer(number, &queue::PurgeOk { message_count })
            }
            Method::QueueDelete(delete) => {
                let message_count = self.queues.remove(delete.queue).map_or(0, |queue| queue.len()) as u32;
                proto.answer(number, &queue::DeleteOk { message_count })
            }
            Method::QueueBind(_) => proto.answer(number, &queue::BindOk {}),
            Method::QueueUnbind(_) => proto.answer(number, &queue::UnbindOk {}),
            Method::ExchangeBind(_) => proto.answer(number, &exchange::BindOk {}),
            Method::ExchangeUnbind(_) => proto.answer(number, &exchange::UnbindOk {}),
            Method::ExchangeDelete(_) => proto.answer(number, &exchange::DeleteOk {}),
            Method::ExchangeDeclare(_) => proto.answer(number, &exchange::DeclareOk {}),
            Method::ConfirmSelect(_) => {
                channel.published.get_or_insert(0);
                proto.answer(number, &confirm::SelectOk {})
            }
            Method::TxSelect(_) => proto.answer(number, &tx::SelectOk {}),
            Method::TxCommit(_) => proto.answer(number, &tx::CommitOk {}),
            Method::TxRollback(_) => proto.answer(number, &tx::RollbackOk {}),
            Method::ChannelFlow(flow) => proto.answer(number, &channel::FlowOk { active: flow.active }),
            Method::BasicQos(qos) => {
                channel.prefetch = qos.prefetch_count;
                proto.answer(number, &basic::QosOk {})
            }
            Method::BasicConsume(consume) => return self.consume(proto, number, consume),
            Method::BasicCancel(cancel) => {
                channel.consumers.retain(|consumer| consumer.tag != cancel.consumer_tag);
                proto.answer(number, &basic::CancelOk { consumer_tag: cancel.consumer_tag })
            }
            Method::BasicGet(get) => return self.get(proto, number, get),
            Method::BasicAck(ack) => return self.settle(number, ack.delivery_tag, ack.multiple, false),
            Method::BasicNack(nack) => return self.settle(number, nack.delivery_tag, nack.multiple, nack.requeue),
            Method::BasicReject(reject) => return self.settle(number, reject.delivery_tag, false, reject.requeue),
            Method::BasicRecover(_) => {
                for (_, unacked) in std::mem::take(&mut channel.unacked).into_iter().rev() {
                    self.requeue(unacked);
                }
                proto.answer(number, &basic::RecoverOk {})
            }
            _ => Ok(()),
        };
        answered.map_err(|error| error.to_string())
    }

    fn declare(&mut self, proto: &mut Connection, number: u16, declare: &queue::Declare<'_>) -> Result<(), String> {
        let mut name = declare.queue.to_owned();
        if self.refused.1 > 0 && self.refused.0 == name {
            return Err("REFUSED".to_owned());
        }
        if name.is_empty() {
            self.named += 1;
            name = format!("amq.gen-{}", self.named);
        }
        if declare.passive && !self.queues.contains_key(&name) {
            return Err(format!("NOT_FOUND - no queue '{name}' in vhost '/'"));
        }
        let message_count = self.queues.entry(name.clone()).or_default().len() as u32;
        let _ = proto.answer(number, &queue::DeclareOk { queue: &name, message_count, consumer_count: 0 });
        Ok(())
    }

    fn consume(&mut self, proto: &mut Connection, number: u16, consume: &basic::Consume<'_>) -> Result<(), String> {
        if !self.queues.contains_key(consume.queue) {
            return Err(format!("NOT_FOUND - no queue '{}' in vhost '/'", consume.queue));
        }
        let channel = self.channels.get_mut(&number).ok_or("no channel")?;
        let tag = consume.consumer_tag.to_owned();
        let queue = consume.queue.to_owned();
        channel.consumers.push(Consumer { tag, queue, no_ack: consume.no_ack, prefetch: channel.prefetch });
        let _ = proto.answer(number, &basic::ConsumeOk { consumer_tag: consume.consumer_tag });
        Ok(())
    }

    fn get(&mut self, proto: &mut Connection, number: u16, get: &basic::Get<'_>) -> Result<(), String> {
        let Some(queue) = self.queues.get_mut(get.queue) else {
            return Err(format!("NOT_FOUND - no queue '{}' in vhost '/'", get.queue));
        };
        let Some(message) = queue.pop_front() else {
            let _ = proto.answer(number, &basic::GetEmpty {});
            return Ok(());
        };
        let message_count = queue.len() as u32;
        let channel = self.channels.get_mut(&number).ok_or("no channel")?;
        channel.delivered += 1;
        let ok = basic::GetOk {
            delivery_tag: channel.delivered,
            redelivered: message.redelivered,
            exchange: "",
            routing_key: get.queue,
            message_count,
        };
        let body = Body::Shared(message.content.body_bytes());
        let _ = proto.answer_content(number, &ok, message.content.properties(), body);
        if !get.no_ack {
            let unacked = Unacked { queue: get.queue.to_owned(), consumer: String::new(), message };
            channel.unacked.insert(ok.delivery_tag, unacked);
        }
        Ok(())
    }

    fn settle(&mut self, number: u16, tag: u64, multiple: bool, requeue: bool) -> Result<(), String> {
        let channel = self.channels.get_mut(&number).ok_or("no channel")?;
        if !channel.unacked.contains_key(&tag) {
            return Err(format!("PRECONDITION_FAILED - unknown delivery tag {tag}"));
        }
        let later = channel.unacked.split_off(&if multiple { tag + 1 } else { tag });
        let mut settled = std::mem::replace(&mut channel.unacked, later);
        if !multiple {
            let one = channel.unacked.remove(&tag);
            channel.unacked.append(&mut settled);
            settled.extend(one.map(|one| (tag, one)));
        }
        if requeue {
            settled.into_values().rev().for_each(|unacked| self.requeue(unacked));
        }
        Ok(())
    }

    /// Delivers ready messages to the consumers that have room for them.
    pub(super) fn deliver(&mut self, proto: &mut Connection) {
        if !self.loaded {
            return;
        }
        for (number, channel) in &mut self.channels {
            for consumer in &channel.consumers {
                let held = channel.unacked.values().filter(|unacked| unacked.consumer == consumer.tag).count();
                let mut room = match consumer.prefetch {
                    0 => usize::MAX,
                    prefetch => usize::from(prefetch).saturating_sub(held),
                };
                if consumer.no_ack {
                    room = usize::MAX;
                }
                let Some(queue) = self.queues.get_mut(&consumer.queue) else { continue };
                while room > 0
                    && proto.is_open()
                    && let Some(message) = queue.pop_front()
                {
                    room -= 1;
                    channel.delivered += 1;
                    let deliver = basic::Deliver {
                        consumer_tag: &consumer.tag,
                        delivery_tag: channel.delivered,
                        redelivered: message.redelivered,
                        exchange: "",
                        routing_key: &consumer.queue,
                    };
                    let body = Body::Shared(message.content.body_bytes());
                    if proto.answer_content(*number, &deliver, message.content.properties(), body).is_err() {
                        queue.push_front(message);
                        break;
                    }
                    if !consumer.no_ack {
                        let queue = consumer.queue.clone();
                        let consumer = consumer.tag.clone();
                        channel.unacked.insert(channel.delivered, Unacked { queue, consumer, message });
                    }
                }
            }
        }
        self.loaded = self.queues.values().any(|queue| !queue.is_empty());
    }
}
