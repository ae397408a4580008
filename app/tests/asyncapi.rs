//! The AsyncAPI document of an app, checked against the official schema of AsyncAPI 3.0.
#![cfg(feature = "asyncapi")]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

use hopmq_app::{App, AsyncApi, Backoff, DeadLetter, Exchange, Json, Publishes, Queue, Reply};
use schemars::JsonSchema;
use serde_json::{Value, json};

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(include_str!("asyncapi/3.0.0.json")).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
});

/// Returns the document, after it was checked.
fn checked(document: &AsyncApi) -> Value {
    let value = document.to_value();
    let faults: Vec<_> =
        SCHEMA.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{}\n{document}", faults.join("\n"));
    for reference in references(&value) {
        let pointer = reference.strip_prefix('#').expect("only the document itself is referred to");
        assert!(value.pointer(pointer).is_some(), "{reference} refers to nothing in {document}");
    }
    for kind in ["messages", "schemas"] {
        for id in value["components"][kind].as_object().expect("components are objects").keys() {
            let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
            assert!(id.chars().all(allowed), "AsyncAPI does not allow {id} as a key of components");
        }
    }
    // AsyncAPI's parser refuses these, and the schema does not say it: an operation refers to a channel of the
    // document, and to messages of that channel only.
    for (id, operation) in value["operations"].as_object().expect("the operations are an object") {
        let channel = operation["channel"]["$ref"].as_str().expect("an operation has a channel");
        for message in operation["messages"].as_array().into_iter().flatten() {
            let message = message["$ref"].as_str().expect("messages are references");
            assert!(message.starts_with(&format!("{channel}/messages/")), "{id}: {message} is not of {channel}");
        }
    }
    value
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(object) => {
            let own = object.get("$ref").and_then(Value::as_str);
            own.into_iter().chain(object.values().flat_map(references)).collect()
        }
        Value::Array(array) => array.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// An order of a customer.
#[derive(JsonSchema, serde::Deserialize)]
#[allow(dead_code, reason = "only its schema is used")]
struct Order {
    /// The number on the receipt.
    #[garde(range(min = 1))]
    id: u64,
    #[garde(length(min = 1, max = 20))]
    items: Vec<Item>,
    /// Who ordered.
    customer: Option<Customer>,
    notes: HashMap<String, String>,
    delivery: Delivery,
}

#[derive(JsonSchema, serde::Deserialize)]
#[allow(dead_code, reason = "only its schema is used")]
struct Item {
    #[garde(pattern("^[A-Z]{3}$"))]
    code: String,
    #[garde(range(min = 1, max = 99))]
    count: u8,
    /// What is packed with it.
    with: Vec<Item>,
}

#[derive(JsonSchema, serde::Deserialize)]
#[allow(dead_code, reason = "only its schema is used")]
struct Customer {
    #[garde(email)]
    address: String,
}

#[derive(JsonSchema, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
enum Delivery {
    Counter,
    Courier { street: String, at: (u8, u8) },
}

#[derive(JsonSchema, serde::Deserialize, serde::Serialize)]
struct Receipt {
    shop: String,
    #[serde(skip_serializing)]
    #[allow(dead_code, reason = "only its schema is used")]
    secret: String,
}

impl Publishes for Receipt {
    const EXCHANGE: &'static str = "shop";

    fn routing_key(&self) -> Cow<'_, str> {
        format!("receipt.{}", self.shop).into()
    }
}

async fn on_order(_: Json<Order>) {}

async fn on_anything() {}

async fn quote(_: Json<Order>) -> Reply<u32> {
    Reply(7)
}

fn shop() -> AsyncApi {
    let seconds = |seconds: &[u64]| seconds.iter().map(|seconds| Duration::from_secs(*seconds)).collect::<Vec<_>>();
    let orders = Queue::new("orders").quorum().bind("shop", "order.*").argument("x-max-length", 10_000);
    App::new(())
        .exchange(Exchange::topic("shop"))
        .route(orders.retry(Backoff::list(seconds(&[1, 30, 120]))).receives::<Order>(), on_order)
        .route(Queue::new("quotes").receives::<Order>().replies::<u32>(), quote)
        .asyncapi("Shop", "1.2.0")
        .description("Sells *pizza*.")
        .server("production", "amqps://ada:secret@rabbit.example:5671/shop?heartbeat=10")
        .sends::<Receipt>("receipt.{shop}")
}

#[test]
fn the_document_of_a_shop_is_valid() {
    let document = checked(&shop());
    let orders = &document["channels"]["orders"];
    assert_eq!(orders["address"], "orders");
    assert_eq!(
        orders["bindings"]["amqp"],
        json!({
            "is": "queue",
            "queue": { "name": "orders", "durable": true, "exclusive": false, "autoDelete": false },
            "x-arguments": { "x-queue-type": "quorum", "x-max-length": 10_000 },
            "x-bindings": [{ "exchange": "shop", "routingKey": "order.*" }],
            "bindingVersion": "0.3.0",
        })
    );
    let operation = &document["operations"]["receive_orders"];
    assert_eq!(operation["bindings"]["amqp"]["ack"], true);
    let text =
        "A message that fails is tried again after 1 s, 30 s, 2 min, and then is moved to the queue 'orders.dlq'.";
    assert_eq!(operation["description"], text);
    assert_eq!(document["channels"]["orders_dlq"]["address"], "orders.dlq");
    assert_eq!(document["operations"]["send_orders_parked"]["action"], "send");
    assert!(document["components"]["messages"]["failed"]["headers"]["properties"]["x-hopmq-error"].is_object());
    let receipts = &document["channels"]["shop_receipt__shop_"];
    assert_eq!(receipts["address"], "receipt.{shop}");
    assert_eq!(receipts["parameters"], json!({ "shop": {} }));
    let exchange = json!({ "name": "shop", "type": "topic", "durable": true, "autoDelete": false });
    assert_eq!(receipts["bindings"]["amqp"]["exchange"], exchange);
    let reply = &document["operations"]["receive_quotes"]["reply"];
    assert_eq!(reply["channel"]["$ref"], "#/channels/quotes_replies");
    assert_eq!(document["servers"]["production"]["host"], "rabbit.example:5671");
    assert!(!document.to_string().contains("secret@"), "{document}");
}

#[test]
fn the_schema_refuses_a_wrong_document() {
    for (pointer, wrong) in [
        ("/operations/receive_orders", json!({ "action": "receive" })),
        ("/channels/orders/bindings/amqp/exchange", json!({ "name": "shop" })),
        ("/channels/orders/bindings/amqp/is", json!("topic")),
        ("/components/schemas/Order", json!({ "type": "text" })),
    ] {
        let mut document = shop().to_value();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = wrong;
        assert!(!SCHEMA.is_valid(&document), "{pointer} was not checked");
    }
}

#[test]
fn nested_types_are_components_with_their_rules() {
    let document = checked(&shop());
    let schemas = &document["components"]["schemas"];
    for name in ["Order", "Item", "Customer", "Delivery"] {
        assert!(schemas[name].is_object(), "{name} is missing in {schemas}");
    }
    assert_eq!(schemas["Order"]["properties"]["id"]["minimum"], 1);
    assert_eq!(schemas["Order"]["properties"]["items"]["maxItems"], 20);
    assert_eq!(schemas["Item"]["properties"]["count"]["maximum"], 99);
    assert_eq!(schemas["Item"]["properties"]["code"]["pattern"], "^[A-Z]{3}$");
    assert_eq!(schemas["Customer"]["properties"]["address"]["format"], "email");
    let message = &document["components"]["messages"]["Order"];
    assert_eq!(message["payload"]["$ref"], "#/components/schemas/Order");
    assert!(!document.to_string().contains("$defs") && !document.to_string().contains("#/definitions"));
}

/// A payload is what the message looks like: a valid one passes its schema, and an invalid one does not.
#[test]
fn the_schema_of_a_message_accepts_what_the_handler_reads() {
    let document = checked(&shop());
    let schema = json!({ "$ref": "#/components/schemas/Order", "components": document["components"] });
    let schema = jsonschema::draft7::new(&schema).unwrap();
    let order = |code: &str, delivery: Value| {
        let item = json!({ "code": code, "count": 1, "with": [] });
        json!({ "id": 1, "items": [item], "notes": {}, "delivery": delivery })
    };
    let courier = json!({ "kind": "courier", "street": "Main Street 1", "at": [12, 30] });
    let valid = order("PIZ", courier);
    assert!(schema.is_valid(&valid) && serde_json::from_value::<Order>(valid).is_ok());
    assert!(!schema.is_valid(&order("pizza", json!({ "kind": "counter" }))));
    assert!(!schema.is_valid(&order("PIZ", json!({ "kind": "pigeon" }))));
}

#[test]
fn several_types_on_a_queue_are_messages_of_their_own() {
    let queue = Queue::new("all").receives::<Order>().receives::<Customer>().receives::<Vec<Order>>();
    let document = checked(&App::new(()).route(queue, on_anything).asyncapi("Shop", "1"));
    let messages = &document["channels"]["all"]["messages"];
    let ids: Vec<_> = messages.as_object().unwrap().keys().collect();
    assert_eq!(ids, ["Array_of_Order", "Customer", "Order"]);
    assert_eq!(document["operations"]["receive_all"]["messages"].as_array().unwrap().len(), 3);
}

#[test]
fn a_type_that_is_written_otherwise_than_it_is_read_has_two_schemas() {
    let app = App::new(()).route(Queue::new("copies").receives::<Receipt>(), on_anything);
    let document = checked(&app.asyncapi("Shop", "1").sends::<Receipt>("receipt.{shop}"));
    let schemas = &document["components"]["schemas"];
    assert!(schemas["Receipt"]["properties"]["secret"].is_object(), "{schemas}");
    assert!(schemas["Receipt_sent"]["properties"]["secret"].is_null(), "{schemas}");
    assert_eq!(document["components"]["messages"]["Receipt_2"]["payload"]["$ref"], "#/components/schemas/Receipt_sent");
}

#[derive(JsonSchema)]
#[schemars(rename = "Page <of {T}>/Größe")]
#[allow(dead_code, reason = "only its schema is used")]
struct Page<T> {
    items: Vec<T>,
    next: Option<Box<Page<T>>>,
}

#[test]
fn names_of_any_kind_make_a_valid_document() {
    let app = App::new(())
        .route(Queue::new("a/b ~c").receives::<Page<Customer>>(), on_anything)
        .route(Queue::new("a.b"), on_anything)
        .route(Queue::new("a_b"), on_anything)
        .route(Queue::new("größe.{kind}").bind("", ""), on_anything);
    let document = checked(&app.asyncapi("", ""));
    let names: BTreeMap<_, _> = document["channels"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(id, channel)| (channel["bindings"]["amqp"]["queue"]["name"].as_str().unwrap(), id.as_str()))
        .collect();
    assert_eq!((names["a.b"], names["a_b"], names["a/b ~c"]), ("a_b", "a_b_2", "a_b__c"));
    assert!(document["channels"]["gr__e__kind_"]["address"].is_null(), "{document}");
}

#[test]
fn dead_letters_are_described_once() {
    let app = App::new(())
        .route(Queue::new("a").dead_letter(DeadLetter::To("lost".into())), on_anything)
        .route(Queue::new("b").dead_letter(DeadLetter::To("lost".into())), on_anything)
        .route(Queue::new("c"), on_anything)
        .route(Queue::new("c.dlq").dead_letter(DeadLetter::Reject), on_anything)
        .route(Queue::new("d").exclusive(), on_anything);
    let document = checked(&app.asyncapi("Shop", "1"));
    let channels: Vec<_> = document["channels"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(channels, ["a", "b", "c", "c_dlq", "c_parked", "d", "lost"]);
    let operations: Vec<_> = document["operations"].as_object().unwrap().keys().map(String::as_str).collect();
    let received = ["receive_a", "receive_b", "receive_c", "receive_c_dlq", "receive_d"];
    assert_eq!(operations, [&received[..], &["send_c_dlq", "send_c_parked", "send_lost"]].concat());
}

#[test]
fn exchanges_of_plugins_and_of_the_broker_are_named() {
    #[derive(serde::Serialize, JsonSchema)]
    struct Hashed;

    impl Publishes for Hashed {
        const EXCHANGE: &'static str = "hash";

        fn routing_key(&self) -> Cow<'_, str> {
            "7".into()
        }
    }

    #[derive(serde::Serialize, JsonSchema)]
    struct Direct;

    impl Publishes for Direct {
        const EXCHANGE: &'static str = "";

        fn routing_key(&self) -> Cow<'_, str> {
            "orders".into()
        }
    }

    let app =
        App::new(()).exchange(Exchange::new("hash", "x-consistent-hash")).route(Queue::new("orders"), on_anything);
    let document = checked(&app.asyncapi("Shop", "1").sends::<Hashed>("{customer}").sends::<Direct>("orders"));
    let hash = &document["channels"]["hash__customer_"]["bindings"]["amqp"];
    assert_eq!(hash["x-exchange-type"], "x-consistent-hash");
    assert_eq!(document["operations"]["send_orders"]["channel"]["$ref"], "#/channels/orders");
}

#[test]
fn subscriptions_are_described_by_what_is_known() {
    let app = App::new(())
        .route(Queue::subscribe("shop", "order.*").group("billing").partitions(2).receives::<Order>(), on_anything)
        .route(Queue::subscribe("shop", "price.*"), on_anything);
    let document = checked(&app.asyncapi("Shop", "1"));
    assert_eq!(document["channels"]["shop_billing"]["address"], "shop.billing");
    let each = &document["channels"]["shop_each"];
    assert!(each["address"].is_null() && each["bindings"]["amqp"]["queue"]["name"].is_null(), "{document}");
    assert_eq!(each["bindings"]["amqp"]["queue"]["exclusive"], true);
}

#[test]
fn an_app_without_routes_has_a_valid_document() {
    checked(&App::new(()).asyncapi("Nothing", "0"));
}
