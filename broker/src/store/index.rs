//! The index: the state after all groups so far, with the place of each message in place of its content.
//!
//! [`Index::apply`] takes a group both when it is appended and when it is recovered.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::record::{Addressee, Malformed, Operation, Publish, Reader};
use super::segment::Segment;
use super::{Position, QueueId, RecoveredMessage};

/// Where a parcel is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At this address of the log.
    Log(u64),
    /// At `offset` in the segment's file, as the segment's target number `ordinal`.
    Segment { segment: u32, ordinal: u32, offset: u32 },
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) definition: Bytes,
    pub(super) messages: BTreeMap<Position, Place>,
    /// The number of failed deliveries, of messages that have any.
    pub(super) counts: BTreeMap<Position, u32>,
    /// The file of the body, of messages whose body has its own file.
    bodies: BTreeMap<Position, u64>,
    pub(super) next: u64,
}

/// A message with its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub(super) queue: QueueId,
    pub(super) position: Position,
    pub(super) place: Place,
    /// The file of its body, if it has one.
    pub(super) body: Option<u64>,
}

/// A log file and the number of live messages in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) seq: u64,
    /// The address at which it begins.
    pub(super) base: u64,
    pub(super) live: u64,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) metadata: BTreeMap<Bytes, Bytes>,
    pub(super) queues: BTreeMap<QueueId, Queue>,
    pub(super) next_queue: u64,
    pub(super) segments: BTreeMap<u32, Segment>,
    pub(super) next_segment: u32,
    /// Segments with no live messages, or few.
    pub(super) due: BTreeSet<u32>,
    /// The log files, oldest first.
    pub(super) spans: VecDeque<Span>,
    /// The number of messages that use each body file.
    pub(super) bodies: BTreeMap<u64, u32>,
    /// Body files that can be removed once the log is safe up to an address: (address, file).
    pub(super) dead_bodies: Vec<(u64, u64)>,
    pub(super) changed: Changed,
}

/// What has changed since the last write of the manifest.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) keys: BTreeSet<Bytes>,
    pub(super) queues: BTreeSet<QueueId>,
    pub(super) counts: BTreeSet<(QueueId, Position)>,
    pub(super) segments: BTreeSet<u32>,
}

impl Index {
    /// Applies the operations of the group at the address `start`. Calls `published` with each new message.
    pub(super) fn apply(
        &mut self,
        group: &[u8],
        start: u64,
        mut published: impl FnMut(QueueId, RecoveredMessage),
    ) -> Result<(), Malformed> {
        let end = start + group.len() as u64;
        let mut reader = Reader::new(group);
        while !reader.is_empty() {
            match Operation::read(&mut reader)? {
                Operation::Publish(publish) => self.publish(&publish, start + publish.at as u64, &mut published),
                Operation::Settle { queue, mut positions } => self.settle(queue, &mut positions, end)?,
                Operation::Delivered { queue, position, count } => self.delivered(queue, position, count),
                Operation::DeclareQueue { queue, definition } => {
                    self.queues.entry(queue).or_default().definition = Bytes::copy_from_slice(definition);
                    self.next_queue = self.next_queue.max(queue.0 + 1);
                    self.changed.queues.insert(queue);
                }
                Operation::RemoveQueue { queue } => self.remove_queue(queue, end),
                Operation::Put { key, value } => {
                    let key = Bytes::copy_from_slice(key);
                    self.changed.keys.insert(key.clone());
                    self.metadata.insert(key, Bytes::copy_from_slice(value));
                }
                Operation::Remove { key } => {
                    self.metadata.remove(key);
                    self.changed.keys.insert(Bytes::copy_from_slice(key));
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self, publish: &Publish<'_>, at: u64, published: &mut impl FnMut(QueueId, RecoveredMessage)) {
        let mut live = 0;
        let body_len = publish.parcel.body_len;
        for Addressee { queue: id, position, expires } in publish.targets() {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.next = queue.next.max(position.0.saturating_add(1));
            let Entry::Vacant(entry) = queue.messages.entry(position) else { continue };
            entry.insert(Place::Log(at));
            if let Some(file) = publish.parcel.file {
                queue.bodies.insert(position, file);
            }
            live += 1;
            published(id, RecoveredMessage { position, expires, body_len, deliveries: 0, priority: publish.priority });
        }
        if live > 0
            && let Some(span) = span_of(&mut self.spans, at)
        {
            span.live += live;
        }
        match publish.parcel.file {
            Some(file) if live > 0 => *self.bodies.entry(file).or_default() += live as u32,
            Some(file) => self.dead_bodies.push((at + publish.parcel.bytes.len() as u64, file)),
            None => {}
        }
    }

    /// Settles messages. Once the log is safe up to `end`, a crash can't bring them back.
    fn settle(&mut self, id: QueueId, positions: &mut Reader<'_>, end: u64) -> Result<(), Malformed> {
        let Self { queues, spans, segments, changed, due, bodies, dead_bodies, .. } = self;
        let Some(queue) = queues.get_mut(&id) else { return Ok(()) };
        let Queue { messages, counts, bodies: in_files, .. } = queue;
        let mut settled = |position: Position, place: Place| {
            match place {
                Place::Log(at) => settle_at(spans, at),
                Place::Segment { segment, ordinal, .. } => settle_in(segments, changed, due, segment, ordinal),
            }
            if !counts.is_empty() {
                counts.remove(&position);
            }
            if let Some(file) = in_files.remove(&position) {
                release(bodies, dead_bodies, file, end);
            }
        };
        positions.runs(|start, count| {
            if count == 1 {
                let position = Position(start);
                return messages.remove(&position).into_iter().for_each(|place| settled(position, place));
            }
            let run = messages.range(Position(start)..Position(start + count));
            for position in run.map(|(position, _)| *position).collect::<Vec<_>>() {
                messages.remove(&position).into_iter().for_each(|place| settled(position, place));
            }
        })
    }

    fn delivered(&mut self, id: QueueId, position: Position, count: u32) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if queue.messages.contains_key(&position) {
            queue.counts.insert(position, count);
            self.changed.counts.insert((id, position));
        }
    }

    fn remove_queue(&mut self, id: QueueId, end: u64) {
        let Some(queue) = self.queues.remove(&id) else { return };
        for place in queue.messages.into_values() {
            match place {
                Place::Log(at) => settle_at(&mut self.spans, at),
                Place::Segment { segment, ordinal, .. } => {
                    settle_in(&mut self.segments, &mut self.changed, &mut self.due, segment, ordinal);
                }
            }
        }
        for file in queue.bodies.into_values() {
            release(&mut self.bodies, &mut self.dead_bodies, file, end);
        }
        self.changed.queues.insert(id);
    }

    /// Moves a message in the index from `from` to `to`. If it was settled meanwhile, settles its copy at `to`.
    pub(super) fn relocate(&mut self, queue: QueueId, position: Position, from: Place, to: Place) {
        let Place::Segment { segment, ordinal, .. } = to else { return };
        let place = self.queues.get_mut(&queue).and_then(|queue| queue.messages.get_mut(&position));
        match place {
            Some(place) if *place == from => *place = to,
            _ => return settle_in(&mut self.segments, &mut self.changed, &mut self.due, segment, ordinal),
        }
        match from {
            Place::Log(at) => settle_at(&mut self.spans, at),
            Place::Segment { segment, ordinal, .. } => {
                settle_in(&mut self.segments, &mut self.changed, &mut self.due, segment, ordinal);
            }
        }
    }

    /// Adds a message from a segment to its queue. Returns false if the queue is gone or has the message already.
    pub(super) fn restore(&mut self, target: &Addressee, place: Place, file: Option<u64>) -> bool {
        let Some(queue) = self.queues.get_mut(&target.queue) else { return false };
        queue.next = queue.next.max(target.position.0.saturating_add(1));
        if queue.messages.contains_key(&target.position) {
            return false;
        }
        queue.messages.insert(target.position, place);
        if let Some(file) = file {
            queue.bodies.insert(target.position, file);
            *self.bodies.entry(file).or_default() += 1;
        }
        true
    }

    pub(super) fn place(&self, queue: QueueId, position: Position) -> Option<Place> {
        self.queues.get(&queue)?.messages.get(&position).copied()
    }

    /// Returns the messages whose places `is_in` finds.
    pub(super) fn live(&self, is_in: impl Fn(Place) -> Option<u64>) -> Vec<Live> {
        let mut live = Vec::new();
        for (id, queue) in &self.queues {
            let found = queue.messages.iter().filter(|(_, place)| is_in(**place).is_some());
            live.extend(found.map(|(position, place)| {
                let body = queue.bodies.get(position).copied();
                Live { queue: *id, position: *position, place: *place, body }
            }));
        }
        live
    }

    /// Returns the messages whose body is in this file.
    pub(super) fn users_of(&self, file: u64) -> Vec<(QueueId, Position)> {
        let users = |(id, queue): (&QueueId, &Queue)| {
            let users = queue.bodies.iter().filter(|(_, body)| **body == file);
            users.map(|(position, _)| (*id, *position)).collect::<Vec<_>>()
        };
        self.queues.iter().flat_map(users).collect()
    }
}

/// Returns the log file that holds an address.
fn span_of(spans: &mut VecDeque<Span>, at: u64) -> Option<&mut Span> {
    let after = spans.partition_point(|span| span.base <= at);
    spans.get_mut(after.checked_sub(1)?)
}

fn settle_at(spans: &mut VecDeque<Span>, at: u64) {
    if let Some(span) = span_of(spans, at) {
        span.live -= 1;
    }
}

fn settle_in(
    segments: &mut BTreeMap<u32, Segment>,
    changed: &mut Changed,
    due: &mut BTreeSet<u32>,
    segment: u32,
    ordinal: u32,
) {
    if let Some(known) = segments.get_mut(&segment) {
        known.settle(ordinal);
        changed.segments.insert(segment);
        if known.is_due() {
            due.insert(segment);
        }
    }
}

fn release(bodies: &mut BTreeMap<u64, u32>, dead: &mut Vec<(u64, u64)>, file: u64, end: u64) {
    if let Some(users) = bodies.get_mut(&file) {
        *users -= 1;
        if *users == 0 {
            bodies.remove(&file);
            dead.push((end, file));
        }
    }
}
