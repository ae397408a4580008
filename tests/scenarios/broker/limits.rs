//! Limits of virtual hosts and users (RabbitMQ's pages "Virtual Hosts" and "User Limits").

use hopmq_tests::peer::encoded;

use super::prelude::*;

/// Logs in, up to `connection.open`.
fn tuned(stage: &Stage, user: &str) -> Peer {
    let response = format!("\0{user}\0{user}");
    let peer = Peer::login(stage, &hopmq_tests::peer::capabilities(), "PLAIN", response.as_bytes());
    peer.tuned(connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 });
    peer
}

/// Opens connections until one is refused, and returns the refusal. RabbitMQ counts a connection a moment after it is
/// open.
fn refusal(stage: &Stage, user: &str, open: &connection::Open<'_>) -> String {
    let mut opened = Vec::new();
    for _ in 0..50 {
        let peer = tuned(stage, user);
        let answer = peer.ask(open);
        if answer != "connection.open-ok" {
            return answer;
        }
        opened.push(peer);
    }
    panic!("{} connections were opened", opened.len());
}

#[test]
fn a_virtual_host_may_limit_connections_and_queues() {
    let stage = Stage::new();
    let name = stage.vhost_of_one("v");
    let open = connection::Open { virtual_host: &name };
    let first = tuned(&stage, "guest");
    assert_eq!(first.ask(&open), "connection.open-ok");
    assert_eq!(
        refusal(&stage, "guest", &open),
        "connection.close 530 NOT_ALLOWED - access to vhost 'v' refused for user 'guest': connection limit (1) is \
         reached (connection.open)"
    );
    let ch = first.channel(1);
    ch.durable_queue("one", &[]);
    ch.durable_queue("one", &[]);
    let two = &ch.name("two");
    ch.expect_refusal(
        &queue::Declare { queue: two, durable: true, ..Default::default() },
        "406 PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost 'v' (1) is reached \
         (queue.declare)",
    );
    first.close();
    stage.delete_vhost(&name);
}

#[test]
fn a_user_may_be_limited_in_connections_and_channels() {
    let stage = Stage::new();
    let user = stage.user("user", [".*", ".*", ".*"]);
    stage.limit_user(&user);
    let open = connection::Open { virtual_host: "/" };
    let first = tuned(&stage, &user);
    assert_eq!(first.ask(&open), "connection.open-ok");
    assert_eq!(
        refusal(&stage, &user, &open),
        "connection.close 530 NOT_ALLOWED - connection refused for user 'user': user connection limit (1) is reached \
         (connection.open)"
    );
    let _channels = [first.channel(1), first.channel(2)];
    // RabbitMQ counts a channel a moment after it is open, and the embedded broker sends `channel.open-ok` before it
    // closes the connection.
    let close = (3..=10).find_map(|number| {
        first.frame(1, number, &encoded(&channel::Open {}));
        let (channel, line) = first.next_of_any();
        (channel == 0).then_some(line)
    });
    let close = close.expect("the connection is closed");
    // RabbitMQ 4.0 names its node in place of the user.
    let start = "connection.close 530 NOT_ALLOWED - number of channels opened for user '";
    assert!(close.starts_with(start), "{close}");
    assert!(close.contains("has reached the maximum allowed user limit of (2)"), "{close}");
}
