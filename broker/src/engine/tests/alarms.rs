//! Which connections an alarm blocks.

use hopmq_proto::FieldTable;

use crate::engine::GROWTH;
use crate::engine::tests::world::World;

#[test]
fn flow_control_of_memory_blocks_those_that_publish_much() {
    let mut world = World::new(None);
    let (mut little, mut much) = (world.connect(), world.connect());
    little.declare("q", false, &FieldTable::new());
    world.flow(&mut little);
    assert!(world.engine.set_alarm_of(world.now, GROWTH, true));
    for _ in 0..10 {
        little.publish("", "q", b"x");
        much.publish("", "q", &[0; 10_000]);
    }
    world.flow(&mut little);
    world.flow(&mut much);
    assert!(!world.engine.is_blocked(little.session) && world.engine.is_blocked(much.session));
    assert!(world.engine.set_alarm_of(world.now, GROWTH, false));
    assert!(!world.engine.is_blocked(much.session));
}
