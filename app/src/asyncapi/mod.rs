//! The AsyncAPI document of an app: its queues, messages and schemas, for people and tools outside the program.
//!
//! Owns the translation from declarations to AsyncAPI 3.0. In come the routes and exchanges of an [`App`] and the types
//! of messages; out goes one JSON document. It must never know a connection, and must never show credentials.

mod channels;
mod schemas;

use std::fmt;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::extract::Publishes;
use crate::mode::Mode;
use crate::topology::{Exchange, Queue};
use channels::Builder;
pub(crate) use schemas::{Payload, Payloads};

/// An AsyncAPI 3.0 document: created by [`App::asyncapi`]. `Display` prints it as JSON.
///
/// Each queue of the app is a channel with an operation `receive`, and each place of [`sends`](Self::sends) is one with
/// an operation `send`. The queues of dead letters and parked messages are channels too: their message has the headers
/// that say why it failed. The queues in which messages wait for their next attempt are left out, because they are
/// the app's own.
#[derive(Clone, Debug)]
#[must_use]
pub struct AsyncApi {
    title: String,
    version: String,
    description: Option<String>,
    servers: Vec<(String, Value)>,
    queues: Vec<Queue>,
    exchanges: Vec<Exchange>,
    sent: Vec<Sent>,
}

/// A type of messages that the app publishes, and where.
#[derive(Clone, Debug)]
struct Sent {
    exchange: &'static str,
    routing_key: String,
    payload: Payload,
}

impl<S: 'static, M: Mode<S>> App<S, M> {
    /// Describes the app in an AsyncAPI 3.0 document with this title and this version of the app's interface.
    ///
    /// ```
    /// use hopmq_app::{App, Json, Queue};
    ///
    /// /// What a customer wants.
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Order {
    ///     id: u64,
    /// }
    ///
    /// async fn on_order(Json(order): Json<Order>) {
    ///     println!("order {}", order.id);
    /// }
    ///
    /// let app = App::new(()).route(Queue::new("orders").bind("shop", "order.*").receives::<Order>(), on_order);
    /// let document = app.asyncapi("Shop", "1.0.0").to_value();
    /// assert_eq!(document["channels"]["orders"]["address"], "orders");
    /// assert_eq!(document["components"]["schemas"]["Order"]["description"], "What a customer wants.");
    /// ```
    pub fn asyncapi(&self, title: impl Into<String>, version: impl Into<String>) -> AsyncApi {
        AsyncApi {
            title: title.into(),
            version: version.into(),
            description: None,
            servers: Vec::new(),
            queues: self.queues().cloned().collect(),
            exchanges: self.exchanges().to_vec(),
            sent: Vec::new(),
        }
    }
}

impl Queue {
    /// Says for the AsyncAPI document that messages of this type arrive on the queue. Call it once for each type.
    ///
    /// The schema is that of the type's JSON, with the rules of `#[garde(…)]` and `#[validate(…)]` attributes.
    pub fn receives<T: JsonSchema>(mut self) -> Self {
        self.payloads.received.push(Payload::of::<T>());
        self
    }

    /// Says for the AsyncAPI document that the handler answers with this type, to the `reply-to` of a message.
    pub fn replies<T: JsonSchema>(mut self) -> Self {
        self.payloads.replies.push(Payload::of::<T>());
        self
    }
}

impl AsyncApi {
    /// Describes the app. CommonMark is allowed.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Adds a broker, such as `amqps://rabbit.example/shop`. The document shows the scheme, host, port and virtual host
    /// of the URI, and neither user nor password.
    pub fn server(mut self, name: impl Into<String>, uri: &str) -> Self {
        self.servers.push((name.into(), server(uri)));
        self
    }

    /// Adds messages that the app publishes with [`Out`](crate::Out). In the routing key, `{names}` stand for what
    /// differs from message to message.
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use hopmq_app::{App, Publishes};
    ///
    /// #[derive(serde::Serialize, schemars::JsonSchema)]
    /// struct Receipt {
    ///     shop: String,
    /// }
    ///
    /// impl Publishes for Receipt {
    ///     const EXCHANGE: &'static str = "shop";
    ///
    ///     fn routing_key(&self) -> Cow<'_, str> {
    ///         format!("receipt.{}", self.shop).into()
    ///     }
    /// }
    ///
    /// let document = App::new(()).asyncapi("Shop", "1.0.0").sends::<Receipt>("receipt.{shop}").to_value();
    /// assert_eq!(document["operations"]["send_shop_receipt__shop_"]["action"], "send");
    /// ```
    pub fn sends<T: Publishes + JsonSchema>(mut self, routing_key: impl Into<String>) -> Self {
        let routing_key = routing_key.into();
        self.sent.push(Sent { exchange: T::EXCHANGE, routing_key, payload: Payload::of::<T>() });
        self
    }

    /// Returns the document.
    pub fn to_value(&self) -> Value {
        let mut info = json!({ "title": self.title, "version": self.version });
        if let Some(text) = &self.description {
            info["description"] = text.as_str().into();
        }
        let mut builder = Builder::new(self);
        for queue in &self.queues {
            builder.receive(queue);
        }
        for queue in &self.queues {
            builder.failures(queue);
        }
        for sent in &self.sent {
            builder.send(sent);
        }
        let mut document = json!({ "asyncapi": "3.0.0", "info": info, "defaultContentType": "application/json" });
        if !self.servers.is_empty() {
            document["servers"] = self.servers.iter().cloned().collect::<Map<_, _>>().into();
        }
        builder.finish(&mut document);
        document
    }
}

impl fmt::Display for AsyncApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.to_value())
    }
}

/// Splits a URI into what the document shows. Everything between the scheme and the last `@` of the host is left out.
fn server(uri: &str) -> Value {
    let (protocol, rest) = uri.split_once("://").unwrap_or(("amqp", uri));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    // A password may contain a slash that should have been encoded: whatever stands before the last `@` is hidden.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let mut server = json!({ "host": host, "protocol": protocol, "protocolVersion": "0-9-1" });
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        server["pathname"] = format!("/{path}").into();
    }
    server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_shows_no_credentials() {
        for uri in ["amqp://ada:secret@rabbit:5672/shop?heartbeat=3", "amqp://ada:sec/ret@rabbit:5672/shop"] {
            let shown = server(uri);
            assert!(!shown.to_string().contains("ada") && !shown.to_string().contains("sec"), "{shown}");
            assert_eq!((&shown["host"], &shown["pathname"]), (&json!("rabbit:5672"), &json!("/shop")));
        }
        assert_eq!(
            server("amqps://rabbit"),
            json!({ "host": "rabbit", "protocol": "amqps", "protocolVersion": "0-9-1" })
        );
    }
}
