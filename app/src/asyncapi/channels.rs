use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hopmq::Value as Field;
use serde_json::{Map, Value, json};

use super::schemas::{Direction, Payload, Schemas, id};
use super::{AsyncApi, Sent};
use crate::flow::headers;
use crate::topology::{Exchange, Queue};

/// The version of AsyncAPI's bindings for AMQP 0-9-1.
const BINDING: &str = "0.3.0";
/// The types of exchanges that the bindings know.
const KINDS: [&str; 4] = ["direct", "fanout", "headers", "topic"];
/// How many delays a description lists.
const LISTED_DELAYS: usize = 8;

/// Collects channels, operations and messages.
pub(super) struct Builder<'a> {
    schemas: Schemas,
    exchanges: &'a [Exchange],
    /// The ids of channels by what they stand for.
    ids: BTreeMap<Place<'a>, String>,
    taken: BTreeSet<String>,
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    message_ids: BTreeSet<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Queue(&'a str),
    Exchange(&'a str, &'a str),
    Replies(&'a str),
}

impl<'a> Builder<'a> {
    pub(super) fn new(document: &'a AsyncApi) -> Self {
        let queues = document.queues.iter().map(|queue| &queue.payloads);
        let received = queues.clone().flat_map(|payloads| &payloads.received).map(|of| (Direction::Received, *of));
        let replies = queues.flat_map(|payloads| &payloads.replies).map(|of| (Direction::Sent, *of));
        let sent = document.sent.iter().map(|sent| (Direction::Sent, sent.payload));
        Self {
            schemas: Schemas::new(received.chain(replies).chain(sent)),
            exchanges: &document.exchanges,
            ids: BTreeMap::new(),
            taken: BTreeSet::new(),
            channels: Map::new(),
            operations: Map::new(),
            messages: Map::new(),
            message_ids: BTreeSet::from(["failed".to_owned()]),
        }
    }

    /// Adds a queue of the app, whose messages it receives.
    pub(super) fn receive(&mut self, queue: &'a Queue) {
        // The rest of the name of an anonymous queue is not known before the app runs.
        let address = Some(queue.name.as_str()).filter(|_| !queue.anonymous);
        let channel = self.channel(Place::Queue(&queue.name), &queue.name, address, || {
            let mut channel = json!({ "bindings": { "amqp": self::queue(queue) } });
            let bound = queue.bindings.iter().map(|binding| match binding.routing_key.as_str() {
                "" => format!("Bound to the exchange '{}'.", binding.exchange),
                key => format!("Bound to the exchange '{}' with the routing key '{key}'.", binding.exchange),
            });
            let text = bound.collect::<Vec<_>>().join(" ");
            if !text.is_empty() {
                channel["description"] = text.into();
            }
            channel
        });
        let bindings = json!({ "ack": true });
        self.operation("receive", &channel, bindings, &failing(queue));
        for payload in &queue.payloads.received {
            let message = self.message(Direction::Received, *payload);
            self.attach("receive", &channel, &message);
        }
        if !queue.payloads.replies.is_empty() {
            self.replies(queue, &channel);
        }
    }

    fn replies(&mut self, queue: &'a Queue, channel: &str) {
        let name = format!("{}_replies", queue.name);
        let replies = self.channel(
            Place::Replies(&queue.name),
            &name,
            None,
            || json!({ "description": format!("Answers to messages of the queue '{}'.", queue.name) }),
        );
        for payload in &queue.payloads.replies {
            let message = self.message(Direction::Sent, *payload);
            self.channels[&replies]["messages"][&message] = reference(&["components", "messages", &message]);
        }
        self.operations[&format!("receive_{channel}")]["reply"] = json!({
            "address": { "location": "$message.header#/replyTo", "description": "The property `reply-to`." },
            "channel": reference(&["channels", &replies]),
        });
    }

    /// Adds the queues to which the app moves messages that it can't handle.
    pub(super) fn failures(&mut self, queue: &'a Queue) {
        let policy = queue.policy();
        let ends = [
            (policy.dead_letter, "Messages that were rejected or failed too often. The headers say why."),
            (policy.parked, "Messages that a person must look at. The headers say why."),
        ];
        let mut all = queue.all();
        for (name, text) in ends {
            let Some(index) = name.and_then(|name| all.iter().position(|queue| queue.name == name)) else { continue };
            let end = all.swap_remove(index);
            let known = self.ids.keys().find(|place| matches!(place, Place::Queue(known) if *known == end.name));
            let channel = match known.copied() {
                Some(place) => self.ids[&place].clone(),
                None => self.failed_channel(&end, text),
            };
            self.operation("send", &channel, json!({ "deliveryMode": 2, "mandatory": true }), text);
            self.failed_message();
            self.attach("send", &channel, "failed");
        }
    }

    /// Several queues may share a queue of failures, whose name is made here: it is found by its address.
    fn failed_channel(&mut self, end: &Queue, text: &str) -> String {
        let of_name = |(_, channel): &(&String, &Value)| channel["address"] == end.name.as_str();
        if let Some((id, _)) = self.channels.iter().find(of_name) {
            return id.clone();
        }
        let id = id(&end.name, &mut self.taken);
        let mut channel = json!({ "description": text, "messages": {}, "bindings": { "amqp": queue(end) } });
        address(&mut channel, Some(&end.name));
        self.channels.insert(id.clone(), channel);
        id
    }

    /// Adds the message that dead letters are: the body is that of any message, and may be invalid.
    fn failed_message(&mut self) {
        if self.messages.contains_key("failed") {
            return;
        }
        let text = |text: &str| json!({ "type": "string", "description": text });
        self.messages.insert(
            "failed".to_owned(),
            json!({
                "name": "failed",
                "title": "A message that could not be handled",
                "description": "The body and the properties are those of the message as it arrived, with more headers.",
                "headers": {
                    "type": "object",
                    "required": [headers::ATTEMPT],
                    "properties": {
                        headers::ATTEMPT: { "type": "integer", "minimum": 1, "description": "How often it was tried." },
                        headers::ERROR_CLASS: text("The class of the error, such as `decode`."),
                        headers::ERROR: text("The error, for people."),
                        headers::QUEUE: text("The queue whose handler failed."),
                        headers::EXCHANGE: text("The exchange that the message was published to."),
                        headers::ROUTING_KEY: text("The routing key that the message was published with."),
                    },
                },
            }),
        );
    }

    /// Adds messages that the app publishes.
    pub(super) fn send(&mut self, sent: &'a Sent) {
        let key = &sent.routing_key;
        let channel = if sent.exchange.is_empty() {
            // The default exchange routes to the queue of that name.
            self.channel(
                Place::Queue(key),
                key,
                Some(key),
                || json!({ "bindings": { "amqp": amqp("queue", json!({ "name": key })) } }),
            )
        } else {
            let amqp = self.exchange(sent.exchange);
            let name = format!("{}.{key}", sent.exchange);
            let place = Place::Exchange(sent.exchange, key);
            self.channel(place, &name, Some(key), || json!({ "bindings": { "amqp": amqp } }))
        };
        let parameters = parameters(key);
        if !parameters.is_empty() {
            self.channels[&channel]["parameters"] = parameters.into();
            self.channels[&channel]["address"] = key.as_str().into();
        }
        self.operation("send", &channel, json!({ "deliveryMode": 2, "mandatory": true }), "");
        let message = self.message(Direction::Sent, sent.payload);
        self.attach("send", &channel, &message);
    }

    fn exchange(&self, name: &str) -> Value {
        let declared = self.exchanges.iter().find(|exchange| exchange.name == name);
        let kind = declared.map_or_else(|| name.strip_prefix("amq.").unwrap_or_default(), |exchange| &exchange.kind);
        let mut exchange = json!({ "name": name });
        if KINDS.contains(&kind) {
            exchange["type"] = kind.into();
        }
        if let Some(declared) = declared {
            exchange["durable"] = declared.durable.into();
            exchange["autoDelete"] = false.into();
        }
        let mut amqp = amqp("routingKey", exchange);
        if !kind.is_empty() && !KINDS.contains(&kind) {
            amqp["x-exchange-type"] = kind.into();
        }
        amqp
    }

    /// Returns the id of a channel, which is made if there is none for this place yet.
    fn channel(&mut self, place: Place<'a>, name: &str, at: Option<&str>, make: impl FnOnce() -> Value) -> String {
        if let Some(id) = self.ids.get(&place) {
            return id.clone();
        }
        let id = id(name, &mut self.taken);
        let mut channel = make();
        channel["messages"] = json!({});
        address(&mut channel, at);
        self.channels.insert(id.clone(), channel);
        self.ids.insert(place, id.clone());
        id
    }

    fn operation(&mut self, action: &str, channel: &str, mut amqp: Value, description: &str) {
        let id = format!("{action}_{channel}");
        if self.operations.contains_key(&id) {
            return;
        }
        amqp["bindingVersion"] = BINDING.into();
        let mut operation = json!({
            "action": action,
            "channel": reference(&["channels", channel]),
            "bindings": { "amqp": amqp },
        });
        if !description.is_empty() {
            operation["description"] = description.into();
        }
        self.operations.insert(id, operation);
    }

    /// Adds a message to a channel and to its operation. An operation may refer to messages of its channel only.
    fn attach(&mut self, action: &str, channel: &str, message: &str) {
        self.channels[channel]["messages"][message] = reference(&["components", "messages", message]);
        let of_channel = reference(&["channels", channel, "messages", message]);
        let operation = &mut self.operations[&format!("{action}_{channel}")];
        match operation["messages"].as_array_mut() {
            Some(messages) if messages.contains(&of_channel) => {}
            Some(messages) => messages.push(of_channel),
            None => operation["messages"] = json!([of_channel]),
        }
    }

    /// Returns the id of a message; equal messages are one.
    fn message(&mut self, direction: Direction, payload: Payload) -> String {
        let name = payload.name();
        let message = json!({
            "name": name,
            "contentType": "application/json",
            "payload": self.schemas.of(direction, payload),
        });
        if let Some((id, _)) = self.messages.iter().find(|(_, known)| **known == message) {
            return id.clone();
        }
        let id = id(&name, &mut self.message_ids);
        self.messages.insert(id.clone(), message);
        id
    }

    pub(super) fn finish(self, document: &mut Value) {
        document["channels"] = self.channels.into();
        document["operations"] = self.operations.into();
        document["components"] = json!({ "messages": self.messages, "schemas": self.schemas.definitions });
    }
}

/// Sets the address. Braces in a name would be taken for a parameter: the binding has the name then.
fn address(channel: &mut Value, name: Option<&str>) {
    channel["address"] = name.filter(|name| !name.contains(['{', '}'])).into();
}

fn reference(path: &[&str]) -> Value {
    json!({ "$ref": format!("#/{}", path.join("/")) })
}

fn amqp(kind: &str, object: Value) -> Value {
    let name = if kind == "queue" { "queue" } else { "exchange" };
    json!({ "is": kind, name: object, "bindingVersion": BINDING })
}

/// Returns the binding of a queue: AsyncAPI's fields, and as extensions what these lack.
fn queue(queue: &Queue) -> Value {
    let mut object = json!({
        "durable": queue.durable,
        "exclusive": queue.exclusive,
        "autoDelete": queue.auto_delete,
    });
    if !queue.anonymous {
        object["name"] = queue.name.as_str().into();
    }
    let mut amqp = amqp("queue", object);
    let mut arguments: Map<_, _> = queue.arguments.iter().map(|(key, value)| (key.to_owned(), field(&value))).collect();
    if let Some(kind) = queue.kind {
        arguments.insert("x-queue-type".to_owned(), kind.into());
    }
    if !arguments.is_empty() {
        amqp["x-arguments"] = arguments.into();
    }
    let bindings = queue.bindings.iter().map(|binding| {
        let mut shown = json!({ "exchange": binding.exchange, "routingKey": binding.routing_key });
        let arguments: Map<_, _> =
            binding.arguments.iter().map(|(key, value)| (key.to_owned(), field(&value))).collect();
        if !arguments.is_empty() {
            shown["arguments"] = arguments.into();
        }
        shown
    });
    let bindings: Vec<_> = bindings.collect();
    if !bindings.is_empty() {
        amqp["x-bindings"] = bindings.into();
    }
    amqp
}

fn field(value: &Field<'_>) -> Value {
    match value {
        Field::Bool(value) => (*value).into(),
        Field::F32(_) | Field::F64(_) => value.as_f64().into(),
        Field::Array(array) => array.iter().map(|value| field(&value)).collect(),
        Field::Table(table) => {
            table.iter().map(|(key, value)| (key.to_owned(), field(&value))).collect::<Map<_, _>>().into()
        }
        value => match (value.as_i64(), value.as_bytes()) {
            (Some(number), _) => number.into(),
            (None, Some(bytes)) => String::from_utf8_lossy(bytes).into(),
            (None, None) => Value::Null,
        },
    }
}

/// Describes what happens with messages that fail.
fn failing(queue: &Queue) -> String {
    let policy = queue.policy();
    let delays: Vec<_> = (1..).map_while(|attempt| policy.retry.delay(attempt)).take(LISTED_DELAYS + 1).collect();
    let listed: Vec<_> = delays.iter().take(LISTED_DELAYS).map(|delay| shown(*delay)).collect();
    let more = if delays.len() > LISTED_DELAYS { ", …" } else { "" };
    let again = match listed.is_empty() {
        true => String::new(),
        false => format!("is tried again after {}{more}, and then ", listed.join(", ")),
    };
    match policy.dead_letter {
        Some(end) => format!("A message that fails {again}is moved to the queue '{end}'."),
        None => format!("A message that fails {again}is rejected."),
    }
}

fn shown(delay: Duration) -> String {
    match delay.as_millis() {
        millis if millis.is_multiple_of(60_000) && millis > 0 => format!("{} min", millis / 60_000),
        millis if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}

/// The parameters in a routing key: `{names}` of letters, digits, `_` and `-`.
fn parameters(key: &str) -> Map<String, Value> {
    let names = key.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name);
    let plain = |name: &&str| {
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'))
    };
    names.filter(plain).map(|name| (name.to_owned(), json!({}))).collect()
}
