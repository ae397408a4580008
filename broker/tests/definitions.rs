//! Import and export of definitions in RabbitMQ's format.

use hopmq_blocking::{Connection, Recovery};
use hopmq_broker::{Broker, Permissions};

/// Definitions as RabbitMQ 3.13 exports them.
const RABBITMQS: &str = r##"{
    "rabbit_version": "3.13.7", "rabbitmq_version": "3.13.7", "product_name": "RabbitMQ", "product_version": "3.13.7",
    "users": [
        {"name": "cook", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
         "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["administrator", "impersonator"], "limits": {}}
    ],
    "vhosts": [{"name": "/"}, {"name": "kitchen", "description": "", "metadata": {"tags": []}}],
    "permissions": [{"user": "cook", "vhost": "kitchen", "configure": "", "write": ".*", "read": "^orders"}],
    "topic_permissions": [{"user": "cook", "vhost": "kitchen", "exchange": "shop", "write": "^order", "read": ".*"}],
    "parameters": [], "policies": [],
    "global_parameters": [{"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-x"}],
    "queues": [
        {"name": "orders", "vhost": "kitchen", "durable": true, "auto_delete": false,
         "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 5, "x-dead-letter-exchange": "dead"}},
        {"name": "all", "vhost": "kitchen", "durable": true, "auto_delete": false, "type": "classic", "arguments": {}}
    ],
    "exchanges": [
        {"name": "shop", "vhost": "kitchen", "type": "topic", "durable": true, "auto_delete": false, "internal": false,
         "arguments": {"alternate-exchange": "dead"}},
        {"name": "dead", "vhost": "kitchen", "type": "fanout", "durable": true, "auto_delete": false, "internal": true,
         "arguments": {}}
    ],
    "bindings": [
        {"source": "shop", "vhost": "kitchen", "destination": "orders", "destination_type": "queue",
         "routing_key": "order.#", "arguments": {}},
        {"source": "shop", "vhost": "kitchen", "destination": "dead", "destination_type": "exchange",
         "routing_key": "dead", "arguments": {"note": ["a", 1, 1.5, true, null, {"b": "c"}]}},
        {"source": "dead", "vhost": "kitchen", "destination": "all", "destination_type": "queue",
         "routing_key": "", "arguments": {}}
    ]
}"##;

#[test]
fn definitions_exported_by_rabbitmq_can_be_imported() {
    let broker = Broker::in_memory();
    broker.import_definitions(RABBITMQS).unwrap();
    let inspector = broker.inspect().vhost("kitchen");
    assert_eq!(inspector.route("shop", "order.pizza"), ["orders"]);
    assert_eq!(inspector.route("shop", "dead"), ["all"]);
    assert_eq!(inspector.queue("orders").unwrap().arguments.get("x-delivery-limit").unwrap().as_i64(), Some(5));

    let open = |user: &str| {
        let uri = broker.uri().replace("guest:guest", user).replace("/%2f", "/kitchen");
        Connection::builder().uri(&uri).recovery(Recovery::off()).open()
    };
    let connection = open("cook:test12").unwrap();
    let channel = connection.channel().unwrap();
    channel.publish("shop", "order.pizza", "a pizza").confirm().unwrap();
    assert_eq!(channel.publish("shop", "salad", "no order").confirm().unwrap_err().code(), Some(403));
    connection.close().unwrap();
    assert_eq!(open("cook:wrong").unwrap_err().code(), Some(403));
    // The user has no permissions in this virtual host.
    assert_eq!(open("guest:guest").unwrap_err().code(), Some(530));
}

#[test]
fn exported_definitions_import_unchanged() {
    let broker = Broker::in_memory();
    broker.import_definitions(RABBITMQS).unwrap();
    broker.add_user("own", "secret").unwrap();
    broker.set_permissions("own", "/", Permissions::ALL).unwrap();
    let connection = Connection::open(&broker.uri()).unwrap();
    let _exclusive = connection.channel().unwrap().queue("").exclusive().declare().unwrap();
    let definitions = broker.definitions();
    let other = Broker::in_memory();
    for _ in 0..2 {
        other.import_definitions(&definitions).unwrap();
        assert_eq!(other.definitions(), definitions);
    }
    assert!(!definitions.contains("amq.") && !definitions.contains("secret"));
    // The password of `guest` is unchanged.
    Connection::open(&other.uri()).unwrap().close().unwrap();
    connection.close().unwrap();
}

#[test]
fn a_refused_import_names_the_reason() {
    let queue = |more: &str| {
        format!(r#"{{"queues": [{{"name": "q", "vhost": "/", "durable": true, "auto_delete": false, {more}}}]}}"#)
    };
    let user = |more: &str| format!(r#"{{"users": [{{"name": "u", {more}}}]}}"#);
    for (definitions, expected) in [
        ("[1".to_owned(), "the text is not definitions in JSON: "),
        (r#"{"policies": [{"name": "ha"}]}"#.to_owned(), "policies are not supported, such as \"ha\""),
        (r#"{"parameters": [{"name": "shovel"}]}"#.to_owned(), "parameters are not supported, such as \"shovel\""),
        (queue(r#""arguments": {"x-queue-type": "stream"}"#), "queue \"q\" in \"/\": PRECONDITION_FAILED"),
        (queue(r#""type": "stream", "arguments": {}"#), "queue \"q\" in \"/\": PRECONDITION_FAILED"),
        (queue(r#""arguments": {"x-message-ttl": -1}"#), "invalid arg 'x-message-ttl'"),
        (
            user(r#""password_hash": "x", "hashing_algorithm": "rabbit_password_hashing_md5""#),
            "rabbit_password_hashing_md5\" is not supported",
        ),
        (user(r#""password_hash": "x""#), "user \"u\": the password hash is neither"),
        (
            r#"{"permissions": [{"user": "x", "vhost": "/", "configure": "", "write": "", "read": ""}]}"#.to_owned(),
            "no user \"x\"",
        ),
    ] {
        let error = Broker::in_memory().import_definitions(&definitions).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let broker = Broker::in_memory();
    broker.import_definitions(&queue(r#""arguments": {}"#)).unwrap();
    let error = broker.import_definitions(&queue(r#""arguments": {"x-max-length": 1}"#)).unwrap_err().to_string();
    assert!(error.contains("inequivalent arg 'x-max-length'"), "{error}");
}
