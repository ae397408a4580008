use std::time::Duration;

use hopmq_proto::{Config, Role};

use crate::common::{Pair, Script, server_config};

const MIB: u32 = 1024 * 1024;

/// Proposed or agreed limits: channels, bytes per frame, seconds between heartbeats.
type Limits = (u16, u32, Option<u64>);

fn config((channel_max, frame_max, heartbeat): Limits) -> Config {
    Config { channel_max, frame_max, heartbeat: heartbeat.map(Duration::from_secs), ..server_config() }
}

#[test]
fn both_ends_agree_on_the_smaller_limit() {
    let table: &[(Limits, Limits, Limits)] = &[
        ((2047, 131_072, None), (100, 8192, Some(60)), (100, 8192, Some(60))),
        ((10, 4096, Some(5)), (2047, 131_072, Some(60)), (10, 4096, Some(5))),
        ((10, 4096, Some(70)), (2047, 131_072, Some(60)), (10, 4096, Some(60))),
        ((2047, 131_072, None), (0, 0, Some(0)), (2047, 131_072, Some(0))),
        ((0, 0, None), (0, 0, Some(0)), (65535, MIB, Some(0))),
        ((0, 0, None), (0, 0, None), (65535, MIB, Some(60))),
        ((0, 0, Some(0)), (7, 5000, Some(60)), (7, 5000, Some(0))),
        ((0, 0, Some(30)), (7, 5000, Some(0)), (7, 5000, Some(30))),
        ((1, 1, None), (1, 4096, None), (1, 4096, Some(60))),
    ];
    for (client, server, agreed) in table {
        let pair = Pair::new(config(*client), config(*server)).opened();
        let tuning = pair.client.connection.tuning();
        assert_eq!(tuning, pair.server.connection.tuning(), "{client:?} {server:?}");
        let seconds = Some(tuning.heartbeat.as_secs());
        assert_eq!((tuning.channel_max, tuning.frame_max, seconds), *agreed, "{client:?} {server:?}");
        assert_eq!(pair.client.receiver.limits().frame_max, agreed.1);
        assert_eq!(pair.server.receiver.limits().channel_max, agreed.0);
    }
}

#[test]
fn a_peer_without_limits_leaves_the_limits_of_this_end() {
    let script = Script::new(Role::Client, Config { frame_max: 0, ..Config::default() }).tuned(0, u32::MAX, 0);
    assert_eq!(script.peer.connection.tuning().frame_max, MIB);
    assert_eq!(script.peer.connection.tuning().channel_max, 2047);
}

#[test]
fn both_ends_round_the_heartbeat_interval_to_seconds() {
    let half = Config { heartbeat: Some(Duration::from_millis(500)), ..Config::default() };
    let pair = Pair::new(half, config((0, 0, Some(60)))).opened();
    assert_eq!(pair.client.connection.tuning().heartbeat, Duration::from_secs(1));
    assert_eq!(pair.server.connection.tuning().heartbeat, Duration::from_secs(1));
}
