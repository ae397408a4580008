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
    // The definitions bring a user, so that guest with its publicly known password is gone.
    assert_eq!(open("guest:guest").unwrap_err().code(), Some(403));
    assert!(!broker.has_default_user());
}

#[test]
fn definitions_with_users_remove_guest_unless_they_name_it() {
    for (definitions, stays) in [
        (r#"{"users": [{"name": "cook", "password": "a"}]}"#, false),
        (r#"{"users": [{"name": "cook", "password": "a"}, {"name": "guest", "password": "guest"}]}"#, true),
        (r#"{"queues": [{"name": "q", "vhost": "/", "durable": true, "auto_delete": false}]}"#, true),
    ] {
        let broker = Broker::in_memory();
        broker.import_definitions(definitions).unwrap();
        assert_eq!(broker.has_default_user(), stays, "{definitions}");
        let login = Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open();
        assert_eq!(login.is_ok(), stays, "{definitions}");
    }
    // An administrator who changed the password of guest wants to keep it.
    let broker = Broker::in_memory();
    broker.add_user("guest", "not guest").unwrap();
    broker.import_definitions(r#"{"users": [{"name": "cook", "password": "a"}]}"#).unwrap();
    let uri = broker.uri().replace("guest:guest", "guest:not%20guest");
    Connection::open(&uri).unwrap().close().unwrap();
}

#[test]
fn exported_definitions_import_unchanged() {
    let broker = Broker::in_memory();
    let with_guest = RABBITMQS.replace("\"users\": [", "\"users\": [{\"name\": \"guest\", \"password\": \"guest\"},");
    broker.import_definitions(&with_guest).unwrap();
    broker.add_user("own", "secret").unwrap();
    broker.set_permissions("guest", "/", Permissions::ALL).unwrap();
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
        (r#"{"policies": [{"name": "ha", "vhost": "/"}]}"#.to_owned(), "policy \"ha\" in \"/\": policies are not"),
        (
            r#"{"parameters": [{"name": "s", "vhost": "/", "component": "shovel"}]}"#.to_owned(),
            "parameter \"s\" in \"/\": parameters of \"shovel\" are not supported",
        ),
        (
            r#"{"vhosts": [{"name": "v", "default_queue_type": "stream"}]}"#.to_owned(),
            "default_queue_type \"stream\" of virtual host \"v\" is not supported",
        ),
        (
            r#"{"users": [{"name": "u", "limits": {"max-fun": 1}}]}"#.to_owned(),
            "limit \"max-fun\" of user \"u\" is not supported",
        ),
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
        (
            r#"{"permissions": [{"user": "guest", "vhost": "v", "configure": "", "write": "", "read": ""}]}"#
                .to_owned(),
            "permissions of user \"guest\": no virtual host \"v\"",
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

/// What `rabbitmqctl export_definitions` of these releases wrote, of a broker with everything that it can export.
const EXPORTS: [(&str, &str); 2] =
    [("3.10.8", include_str!("rabbitmq/3.10.8.json")), ("4.0.5", include_str!("rabbitmq/4.0.5.json"))];

/// Opens a connection to a virtual host. The error is the code.
fn open(broker: &Broker, user: &str, vhost: &str) -> Result<Connection, Option<u16>> {
    let uri = broker.uri().replace("guest:guest", user).replace("/%2f", &format!("/{vhost}"));
    Connection::builder().uri(&uri).recovery(Recovery::off()).open().map_err(|error| error.code())
}

#[test]
fn an_export_of_rabbitmqctl_is_imported_but_for_its_policies() {
    for (release, export) in EXPORTS {
        let broker = Broker::in_memory();
        let error = broker.import_definitions(export).unwrap_err().to_string();
        let unsupported = [r#"policy "ttl" in "shop""#, r#"operator policy "most" in "shop""#];
        assert!(unsupported.iter().all(|what| error.contains(what)), "{release}: {error}");
        assert!(open(&broker, "alice:secret1", "shop").is_err(), "nothing was imported");
        let left_out = broker.import_supported_definitions(export).unwrap();
        assert_eq!(left_out, unsupported.map(|what| format!("{what}: policies are not supported")), "{release}");

        // Hashes with SHA-256 and SHA-512, and a user without a password.
        for (user, vhost, expected) in [
            ("alice:secret1", "shop", Ok(())),
            ("dave:secret5", "shop", Ok(())),
            ("dave:secret1", "shop", Err(Some(403))),
            ("bob:secret2", "%2f", Err(Some(403))),
            ("carol:secret3", "shop", Err(Some(530))),
            ("guest:guest", "shop", Ok(())),
        ] {
            let opened = open(&broker, user, vhost).map(|connection| connection.close().unwrap());
            assert_eq!(opened, expected, "{release}: {user}");
        }
        let inspector = broker.inspect().vhost("shop");
        assert_eq!(inspector.route("ex", "a.b"), ["orders"], "{release}");
        let queues = inspector.queues();
        let generated = queues.iter().find(|queue| queue.name.starts_with("amq.gen-")).expect("it is imported");
        assert!(generated.durable && generated.exclusive.is_none());
        assert_eq!(inspector.queue("orders").unwrap().arguments.get("x-max-length").unwrap().as_i64(), Some(10));

        let again = Broker::in_memory();
        again.import_definitions(&broker.definitions()).unwrap();
        assert_eq!(again.definitions(), broker.definitions(), "{release}");
    }
}

#[test]
fn imported_limits_hold() {
    for (release, export) in EXPORTS {
        let broker = Broker::in_memory();
        broker.import_supported_definitions(export).unwrap();
        let limited = [open(&broker, "guest:guest", "limited"), open(&broker, "guest:guest", "limited")];
        assert_eq!(open(&broker, "guest:guest", "limited").unwrap_err(), Some(530), "{release}");
        let channel = limited[0].as_ref().unwrap().channel().unwrap();
        for name in ["a", "b", "c", "a"] {
            channel.queue(name).declare().unwrap();
        }
        let error = channel.queue("d").declare().unwrap_err();
        assert!(error.code() == Some(406) && error.to_string().contains("queue limit in vhost"), "{release}: {error}");

        let alices: Vec<Connection> = (0..5).map(|_| open(&broker, "alice:secret1", "shop").unwrap()).collect();
        assert_eq!(open(&broker, "alice:secret1", "shop").unwrap_err(), Some(530), "{release}");
        let channels: Vec<_> = (0..7).map(|number| alices[number % 5].channel().unwrap()).collect();
        // The close may come behind `channel.open-ok`.
        let _opened = alices[0].channel();
        let error = alices[0].closed();
        assert!(error.code() == Some(530) && error.to_string().contains("limit of (7)"), "{release}: {error}");
        drop(channels);
    }
}

#[test]
fn a_queue_without_a_type_gets_the_default_type_of_its_virtual_host() {
    let broker = Broker::in_memory();
    broker.import_supported_definitions(EXPORTS[1].1).unwrap();
    broker.set_permissions("guest", "dq2", Permissions::ALL).unwrap();
    let connection = open(&broker, "guest:guest", "dq2").unwrap();
    let channel = connection.channel().unwrap();
    for _ in 0..2 {
        channel.queue("durable").durable().declare().unwrap();
    }
    channel.queue("durable").durable().argument("x-queue-type", "quorum").declare().unwrap();
    channel.queue("classic").durable().argument("x-queue-type", "classic").declare().unwrap();
    let exclusive = channel.queue("").exclusive().declare().unwrap();
    let kind = |name: &str| {
        let queue = broker.inspect().vhost("dq2").queue(name).unwrap();
        queue.arguments.get("x-queue-type").and_then(|kind| kind.as_str().map(str::to_owned))
    };
    assert_eq!(kind("durable").as_deref(), Some("quorum"));
    assert_eq!(kind("classic").as_deref(), Some("classic"));
    assert_eq!(kind(exclusive.name()), None);
    connection.close().unwrap();
}

#[test]
fn definitions_in_the_older_forms_are_taken() {
    let broker = Broker::in_memory();
    broker
        .import_definitions(
            r#"{"users": [{"name": "a", "password": "plain", "tags": "administrator,impersonator"}, {"name": "b"}],
                "permissions": [{"user": "a", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
                "queues": [{"name": "q", "vhost": "/", "durable": true, "auto_delete": false, "arguments": []},
                           {"name": "l", "vhost": "/", "durable": true, "auto_delete": false,
                            "arguments": [["x-max-length", 5]]}],
                "bindings": [{"source": "amq.fanout", "vhost": "/", "destination": "q", "destination_type": "queue",
                              "arguments": []}]}"#,
        )
        .unwrap();
    open(&broker, "a:plain", "%2f").unwrap().close().unwrap();
    assert_eq!(open(&broker, "b:b", "%2f").unwrap_err(), Some(403));
    assert_eq!(broker.inspect().route("amq.fanout", "any"), ["q"]);
    assert_eq!(broker.inspect().queue("l").unwrap().arguments.get("x-max-length").unwrap().as_i64(), Some(5));
}

#[test]
fn what_is_not_supported_is_left_out_with_its_bindings() {
    let broker = Broker::in_memory();
    let left_out = broker
        .import_supported_definitions(
            r#"{"users": [{"name": "old", "password_hash": "abcd", "hashing_algorithm": "rabbit_password_hashing_md5"}],
                "permissions": [{"user": "old", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
                "queues": [{"name": "s", "vhost": "/", "durable": true, "auto_delete": false, "type": "stream"},
                           {"name": "q", "vhost": "/", "durable": true, "auto_delete": false}],
                "bindings": [{"source": "amq.fanout", "vhost": "/", "destination": "s", "destination_type": "queue"},
                             {"source": "amq.topic", "vhost": "/", "destination": "q", "destination_type": "queue",
                              "routing_key": "k"}]}"#,
        )
        .unwrap();
    let starts = ["user \"old\": hashing_algorithm", "queue \"s\" in \"/\": ", "binding of \"amq.fanout\" to \"s\""];
    assert_eq!(left_out.len(), starts.len(), "{left_out:?}");
    assert!(left_out.iter().zip(starts).all(|(what, start)| what.starts_with(start)), "{left_out:?}");
    assert_eq!(broker.inspect().route("amq.topic", "k"), ["q"]);
}
