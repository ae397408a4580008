//! A naive model of the store, made of maps, and random operations for both.

use std::collections::BTreeMap;

use bytes::Bytes;
use hopmq_broker::store::*;

pub(crate) use crate::random::Random;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) content: Content,
    pub(crate) expires: Option<u64>,
    pub(crate) priority: u8,
    pub(crate) deliveries: u32,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Queue {
    pub(crate) definition: Vec<u8>,
    pub(crate) messages: BTreeMap<u64, Kept>,
}

/// The expected state of the store.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Model {
    pub(crate) queues: BTreeMap<u64, Queue>,
    pub(crate) metadata: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Publish { kept: Kept, targets: Vec<(u64, u64)> },
    Settle { queue: u64, positions: Vec<u64> },
    Delivered { queue: u64, position: u64, count: u32 },
    Declare { queue: u64, definition: Vec<u8> },
    RemoveQueue { queue: u64 },
    Put { key: Vec<u8>, value: Vec<u8> },
    Remove { key: Vec<u8> },
}

impl Model {
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Publish { kept, targets } => {
                for (queue, position) in targets {
                    if let Some(queue) = self.queues.get_mut(queue) {
                        queue.messages.insert(*position, kept.clone());
                    }
                }
            }
            Step::Settle { queue, positions } => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    queue.messages.retain(|position, _| !positions.contains(position));
                }
            }
            Step::Delivered { queue, position, count } => {
                let queue = self.queues.get_mut(queue);
                if let Some(kept) = queue.and_then(|queue| queue.messages.get_mut(position)) {
                    kept.deliveries = *count;
                }
            }
            Step::Declare { queue, definition } => {
                self.queues.entry(*queue).or_default().definition = definition.clone();
            }
            Step::RemoveQueue { queue } => drop(self.queues.remove(queue)),
            Step::Put { key, value } => drop(self.metadata.insert(key.clone(), value.clone())),
            Step::Remove { key } => drop(self.metadata.remove(key)),
        }
    }

    /// Compares the recovered state and its readable contents with the model. Returns the first difference.
    pub(crate) fn difference(&self, store: &Store, recovered: &Recovered) -> Option<String> {
        let metadata: BTreeMap<Vec<u8>, Vec<u8>> =
            recovered.metadata.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        if metadata != self.metadata {
            return Some(format!("metadata: {metadata:?} instead of {:?}", self.metadata));
        }
        let ids: Vec<u64> = recovered.queues.iter().map(|queue| queue.id.0).collect();
        if ids != self.queues.keys().copied().collect::<Vec<_>>() {
            return Some(format!("queues: {ids:?} instead of {:?}", self.queues.keys()));
        }
        for (found, (id, queue)) in recovered.queues.iter().zip(&self.queues) {
            let expected: Vec<RecoveredMessage> = queue.messages.iter().map(|(at, kept)| kept.recovered(*at)).collect();
            if found.definition != queue.definition || found.messages != expected {
                return Some(format!("queue {id}: {:?} instead of {expected:?}", found.messages));
            }
            let positions: Vec<Position> = queue.messages.keys().map(|position| Position(*position)).collect();
            for (content, (position, kept)) in store.read_many(found.id, &positions).into_iter().zip(&queue.messages) {
                match content {
                    Ok(content) if content == kept.content => {}
                    other => return Some(format!("queue {id}, message {position}: {other:?}")),
                }
            }
        }
        None
    }
}

impl Kept {
    fn recovered(&self, position: u64) -> RecoveredMessage {
        RecoveredMessage {
            position: Position(position),
            expires: self.expires,
            body_len: self.content.body.len() as u32,
            deliveries: self.deliveries,
            priority: self.priority,
        }
    }
}

impl Step {
    pub(crate) fn put(&self, group: &mut Group) {
        match self {
            Step::Publish { kept, targets } => {
                let Kept { content: Content { head, body }, expires, priority, .. } = kept;
                let targets: Vec<Target> = targets
                    .iter()
                    .map(|(queue, at)| Target { queue: QueueId(*queue), position: Position(*at), expires: *expires })
                    .collect();
                group.publish(&Message { priority: *priority, head, body }, &targets);
            }
            Step::Settle { queue, positions } => {
                group.settle(QueueId(*queue), positions.iter().map(|position| Position(*position)));
            }
            Step::Delivered { queue, position, count } => {
                group.delivered(QueueId(*queue), Position(*position), *count);
            }
            Step::Declare { queue, definition } => group.declare_queue(QueueId(*queue), definition),
            Step::RemoveQueue { queue } => group.remove_queue(QueueId(*queue)),
            Step::Put { key, value } => group.put(key, value),
            Step::Remove { key } => group.remove(key),
        }
    }
}

/// Bytes from which on a body gets its own file in these tests.
pub(crate) const LARGE: usize = 700;

/// Returns settings with small files, so that files are begun, moved and removed often.
pub(crate) fn small() -> Settings {
    Settings { log_file_size: 4 << 10, log_limit: 6 << 10, segment_size: 4 << 10, min_free: 0, ..Settings::default() }
}

/// Draws random operations. Ids and positions are never reused.
pub(crate) struct Workload {
    pub(crate) random: Random,
    next_queue: u64,
    next_position: u64,
}

impl Workload {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random(seed), next_queue: 1, next_position: 1 }
    }

    /// Draws the operations of a group for a store in the state `model`.
    pub(crate) fn group(&mut self, model: &Model) -> Vec<Step> {
        let mut model = model.clone();
        let count = 1 + self.random.below(3);
        let step = |_| {
            let step = self.step(&model);
            model.apply(&step);
            step
        };
        (0..count).map(step).collect()
    }

    fn step(&mut self, model: &Model) -> Step {
        let queues: Vec<u64> = model.queues.keys().copied().collect();
        if queues.is_empty() || self.random.below(60) == 0 {
            self.next_queue += 1;
            return Step::Declare { queue: self.next_queue, definition: self.bytes(20).to_vec() };
        }
        let queue = queues[self.random.below(queues.len() as u64) as usize];
        let positions: Vec<u64> = model.queues[&queue].messages.keys().copied().collect();
        let any = |random: &mut Random| positions.get(random.below(positions.len().max(1) as u64) as usize).copied();
        match self.random.below(100) {
            0..50 => self.publish(&queues),
            50..80 => {
                let first = match self.random.below(3) {
                    0 => self.random.below(positions.len().max(1) as u64) as usize,
                    _ => 0,
                };
                let count = [1, 1, 2, 10, 1000][self.random.below(5) as usize];
                let positions = positions.iter().skip(first).take(count).copied().collect();
                Step::Settle { queue, positions }
            }
            80..86 => {
                let position = any(&mut self.random).unwrap_or(1);
                Step::Delivered { queue, position, count: self.random.below(9) as u32 }
            }
            86..88 => Step::RemoveQueue { queue },
            88..90 => Step::Declare { queue, definition: self.bytes(20).to_vec() },
            90..97 => Step::Put { key: vec![self.random.below(5) as u8], value: self.bytes(30).to_vec() },
            _ => Step::Remove { key: vec![self.random.below(5) as u8] },
        }
    }

    fn publish(&mut self, queues: &[u64]) -> Step {
        let mut targets = Vec::new();
        for queue in queues {
            if targets.is_empty() || self.random.below(4) == 0 {
                self.next_position += 1 + self.random.below(2);
                targets.push((*queue, self.next_position));
            }
        }
        // A target without a queue must be ignored.
        if self.random.below(20) == 0 {
            targets.push((self.next_queue + 1000, 1));
        }
        let len = [0, 20, 100, 600, LARGE as u64 + 300][self.random.below(5) as usize];
        let content = Content { head: self.bytes(40), body: self.bytes(len + 1) };
        let expires = (self.random.below(3) == 0).then(|| self.random.below(1 << 40));
        let priority = self.random.below(10) as u8;
        Step::Publish { kept: Kept { content, expires, priority, deliveries: 0 }, targets }
    }

    fn bytes(&mut self, below: u64) -> Bytes {
        (0..self.random.below(below)).map(|_| self.random.next() as u8).collect::<Vec<u8>>().into()
    }
}
