use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hopmq::Time;

use super::{Begun, MessageId, Seen};
use crate::flow::{Failure, Payload};

/// A store in the memory of this program: for what must not happen twice while it runs. Clones are the same store.
///
/// It forgets what is older than an age, and the oldest beyond a number of messages.
#[derive(Clone)]
pub struct MemoryStore {
    count: usize,
    age: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    known: HashMap<MessageId, Known>,
    /// What is done, the oldest first.
    done: VecDeque<(Time, MessageId)>,
}

enum Known {
    InWork,
    Done(Option<Payload>),
}

impl MemoryStore {
    /// Returns a store that remembers up to `count` messages that are done, at least 1, for up to `age`.
    pub fn new(count: usize, age: Duration) -> Self {
        Self { count: count.max(1), age, state: Arc::default() }
    }

    /// Returns how many messages the store knows.
    pub fn len(&self) -> usize {
        self.lock().known.len()
    }

    /// Returns whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.lock().known.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen for MemoryStore {
    async fn begin(&self, id: &MessageId, now: Time) -> Result<Begun, Failure> {
        let mut state = self.lock();
        while let Some((at, _)) = state.done.front()
            && now - *at >= self.age
        {
            state.forget_oldest();
        }
        Ok(match state.known.get(id) {
            Some(Known::InWork) => Begun::InWork,
            Some(Known::Done(reply)) => Begun::Done(reply.clone()),
            None => {
                state.known.insert(id.clone(), Known::InWork);
                Begun::Fresh
            }
        })
    }

    async fn complete(&self, id: &MessageId, reply: Option<Payload>, now: Time) -> Result<(), Failure> {
        let mut state = self.lock();
        state.known.insert(id.clone(), Known::Done(reply));
        state.done.push_back((now, id.clone()));
        while state.done.len() > self.count {
            state.forget_oldest();
        }
        Ok(())
    }

    async fn forget(&self, id: &MessageId) -> Result<(), Failure> {
        self.abandon(id);
        Ok(())
    }

    fn abandon(&self, id: &MessageId) {
        self.lock().known.remove(id);
    }
}

impl State {
    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.done.pop_front() {
            self.known.remove(&id);
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("count", &self.count).field("age", &self.age).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    fn id(id: u32) -> MessageId {
        MessageId { queue: "q".into(), id: id.to_string() }
    }

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn one_worker_begins_and_the_others_wait_until_it_is_done() {
        let store = MemoryStore::new(10, Duration::from_secs(60));
        let begin = || block_on(store.begin(&id(1), at(1))).unwrap();
        assert_eq!((begin(), begin()), (Begun::Fresh, Begun::InWork));
        block_on(store.forget(&id(1))).unwrap();
        assert_eq!(begin(), Begun::Fresh);
        block_on(store.complete(&id(1), None, at(1))).unwrap();
        assert_eq!(begin(), Begun::Done(None));
        let elsewhere = MessageId { queue: "other".into(), ..id(1) };
        assert_eq!(block_on(store.begin(&elsewhere, at(1))).unwrap(), Begun::Fresh);
    }

    #[test]
    fn what_is_done_is_bounded_by_count_and_age() {
        let store = MemoryStore::new(3, Duration::from_secs(60));
        for number in 0..100 {
            assert_eq!(block_on(store.begin(&id(number), at(1))).unwrap(), Begun::Fresh);
            block_on(store.complete(&id(number), None, at(1))).unwrap();
        }
        assert_eq!(store.len(), 3);
        assert_eq!(block_on(store.begin(&id(99), at(60))).unwrap(), Begun::Done(None));
        assert_eq!(block_on(store.begin(&id(99), at(61))).unwrap(), Begun::Fresh);
        assert_eq!(store.len(), 1);
    }
}
