//! The list of all attacks.

use crate::attacks::{
    connections, consumers, dead_letters, deletes, fan_out, gateway, logins, memory, purge, requeues, routing,
    transactions,
};
use crate::{Result, Stage};

/// An attack on a broker or a gateway, played beside the neighbour.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// What it does, in a few words.
    pub name: &'static str,
    /// Its size for every change.
    pub small: u64,
    /// Its size for the night.
    pub full: u64,
    /// What the size counts.
    pub unit: &'static str,
    /// The steps of its largest operation for each of its size, if one is larger than a turn's budget.
    pub operation: u64,
    /// Whether attackers and neighbour go through a gateway.
    pub gateway: bool,
    /// Plays it.
    pub run: fn(&Stage<'_>) -> Result,
}

const fn attack(
    name: &'static str,
    (small, full, unit): (u64, u64, &'static str),
    run: fn(&Stage<'_>) -> Result,
) -> Attack {
    Attack { name, small, full, unit, operation: 0, gateway: false, run }
}

const fn through_gateway(
    name: &'static str,
    (small, full, unit): (u64, u64, &'static str),
    run: fn(&Stage<'_>) -> Result,
) -> Attack {
    Attack { name, small, full, unit, operation: 0, gateway: true, run }
}

/// All attacks.
pub const FAMILY: &[Attack] = &[
    attack("nothing, for comparison", (1, 1, "client"), connections::nothing),
    attack("topics: patterns of many #", (100, 2_500, "bindings"), routing::topics),
    through_gateway("topics: through a narrow policy", (100, 2_500, "bindings"), routing::topics_through_a_gateway),
    // A message meets each of the 100 bindings with each of its headers.
    Attack {
        operation: 50,
        ..attack("headers: 100 bindings of many headers", (200, 4_000, "headers"), routing::headers)
    },
    attack("exchanges: each bound twice to the next", (10, 40, "exchanges"), routing::exchanges),
    attack("dead letters: a ring with TTL 0", (20, 200, "queues"), dead_letters::ring),
    attack("dead letters: a mesh with TTL 0", (20, 200, "queues"), dead_letters::mesh),
    attack("dead letters: expired together", (5_000, 1_000_000, "messages"), dead_letters::expiry),
    attack("consumers: disconnected", (5_000, 40_000, "consumers"), consumers::disconnect),
    attack("consumers: a million disconnected", (6_000, 1_000_000, "consumers"), consumers::disconnect),
    attack("consumers: their queue is deleted", (5_000, 40_000, "consumers"), consumers::deleted_queue),
    attack("consumers: all at their limit", (5_000, 20_000, "consumers"), consumers::full),
    attack("delete: a queue with bindings", (10_000, 1_000_000, "bindings"), deletes::bound_queue),
    attack("delete: an exchange with bindings", (10_000, 1_000_000, "bindings"), deletes::bound_exchange),
    attack("delete: queues of a connection", (5_000, 1_000_000, "queues"), deletes::queues),
    attack("transaction: a commit", (8_000, 1_000_000, "messages"), transactions::commit),
    attack("transaction: a rollback", (8_000, 1_000_000, "messages"), transactions::rollback),
    attack("transaction: acks", (8_000, 1_000_000, "acks"), transactions::acks),
    attack("requeue: by nack", (8_000, 100_000, "messages"), requeues::nack),
    attack("requeue: by the end of the channel", (8_000, 100_000, "messages"), requeues::channel_end),
    attack("requeue: one by one, newest first", (8_000, 100_000, "messages"), requeues::rejects),
    attack("requeue: in a transaction", (8_000, 100_000, "messages"), requeues::transaction),
    attack("fan-out: of 20 messages", (500, 10_000, "queues"), fan_out::fanout),
    attack("purge: a queue", (10_000, 10_000_000, "messages"), purge::purge),
    attack("purge: by deleting the queue", (10_000, 10_000_000, "messages"), purge::delete),
    attack("purge: by the end of the connection", (10_000, 10_000_000, "messages"), purge::disconnect),
    attack("memory: unread output", (1_000, 1_000_000, "messages"), memory::unread_output),
    attack("memory: an open transaction", (1_000, 1_000_000, "messages"), memory::transactions),
    attack("memory: partial bodies", (1_000, 160 * 2_000, "parts"), memory::partial_bodies),
    attack("memory: messages", (1_000, 1_000_000, "messages"), memory::messages),
    attack("memory: channels", (4_000, 2_000_000, "channels"), memory::channels),
    attack("memory: queues", (2_000, 10_000_000, "queues"), memory::queues),
    attack("memory: bindings", (2_000, 10_000_000, "bindings"), memory::bindings),
    attack("memory: consumers", (2_000, 10_000_000, "consumers"), memory::consumers),
    attack("memory: connections", (100, 800, "connections"), memory::connections),
    attack("logins: wrong passwords", (8, 64, "clients"), logins::flood),
    attack("slow: logins byte by byte", (50, 800, "sockets"), connections::slowloris),
    attack("slow: readers", (5, 100, "readers"), connections::slow_readers),
    attack("busy: heartbeats", (4, 40, "clients"), connections::heartbeats),
    attack("busy: clients that come and go", (50, 5_000, "connections"), connections::churn),
    through_gateway("gateway: refusals are not read", (2, 10, "clients"), gateway::unread_refusals),
    through_gateway("gateway: replies are not read", (2, 10, "clients"), gateway::unread_replies),
    through_gateway("gateway: pipelined temporary queues", (200, 1_000_000, "queues"), gateway::declares),
    through_gateway("gateway: messages above the limit", (4, 40, "clients"), gateway::messages),
    through_gateway("gateway: half-open requests", (50, 800, "sockets"), gateway::half_open),
    through_gateway("gateway: pings", (4, 40, "clients"), gateway::pings),
];
