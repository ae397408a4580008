//! Programs of a group, each a thread with a connection of its own, on the embedded broker or the one of
//! `HOPMQ_TEST_URL`.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_lite::{FutureExt, future};
use hopmq::Connection;
use hopmq_app::{App, Control, Error};
use hopmq_broker::Broker;

/// The most time for what should happen soon, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A broker, and names on it that no other test uses.
pub(crate) struct Site {
    pub(crate) uri: String,
    pub(crate) prefix: String,
    pub(crate) embedded: Option<Broker>,
}

impl Site {
    pub(crate) fn new(test: &str) -> Self {
        let prefix = format!("{test}-{}", std::process::id());
        match std::env::var("HOPMQ_TEST_URL").ok().filter(|uri| !uri.is_empty()) {
            Some(uri) => Self { uri, prefix, embedded: None },
            None => {
                let broker = Broker::in_memory();
                Self { uri: broker.uri(), prefix, embedded: Some(broker) }
            }
        }
    }

    /// Runs an app as a program of its own.
    pub(crate) fn start(&self, app: App<Arc<Log>>) -> Member {
        let (uri, control, kill) = (self.uri.clone(), app.control(), Control::default());
        let killed = kill.clone();
        let thread = thread::spawn(move || {
            future::block_on(async {
                let connection = Connection::open(&uri).await?;
                let killed = async {
                    killed.stopped().await;
                    Ok(())
                };
                app.run(&connection).or(killed).await?;
                connection.close().await?;
                Ok(())
            })
        });
        Member { control, kill, thread: Some(thread) }
    }

    /// Deletes what a test has left on a broker that stays.
    pub(crate) fn clean<'a>(
        &self,
        queues: impl IntoIterator<Item = String>,
        exchanges: impl IntoIterator<Item = &'a str>,
    ) {
        future::block_on(async {
            let connection = Connection::open(&self.uri).await.unwrap();
            let channel = connection.channel().await.unwrap();
            for queue in queues {
                channel.queue_delete(&queue).await.unwrap();
            }
            for exchange in exchanges {
                channel.exchange_delete(exchange).await.unwrap();
            }
            connection.close().await.unwrap();
        });
        if let Some(broker) = &self.embedded {
            broker.assert_idle();
        }
    }
}

pub(crate) struct Member {
    pub(crate) control: Control,
    kill: Control,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Member {
    /// Stops the program as SIGTERM would.
    pub(crate) fn stop(mut self) {
        self.control.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    /// Ends the program in the middle of its work.
    pub(crate) fn kill(mut self) {
        self.kill.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

/// What handlers have done.
#[derive(Default)]
pub(crate) struct Log {
    entries: Mutex<Vec<Entry>>,
    changed: Condvar,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) member: &'static str,
    pub(crate) text: String,
    pub(crate) part: u64,
}

impl Log {
    pub(crate) fn add(&self, member: &'static str, text: &str, part: u64) {
        self.entries.lock().unwrap().push(Entry { member, text: text.to_owned(), part });
        self.changed.notify_all();
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    /// Blocks until the entries satisfy a condition.
    #[track_caller]
    pub(crate) fn wait(&self, condition: impl Fn(&[Entry]) -> bool) {
        let end = Instant::now() + TIMEOUT;
        let mut entries = self.entries.lock().unwrap();
        while !condition(&entries) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} entries: {:?}", entries.len(), entries.last());
            entries = self.changed.wait_timeout(entries, left).unwrap().0;
        }
    }
}
