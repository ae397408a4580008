use std::time::Duration;

use bytes::Bytes;
use hopmq::Time;
use rusqlite::OptionalExtension;

use super::{Begun, MessageId, Seen};
use crate::flow::{Failure, Payload};
use crate::sqlite::{Sqlite, now};

/// A store in a SQLite database, which outlives the program: for effects outside of the database, such as a mail. For
/// effects inside, see [`Effect`](super::Effect).
#[derive(Clone, Debug)]
pub struct SqliteStore {
    sqlite: Sqlite,
    age: i64,
    lease: i64,
}

impl SqliteStore {
    /// Returns a store that remembers what is done for `age`.
    pub fn new(sqlite: &Sqlite, age: Duration) -> Self {
        Self { sqlite: sqlite.clone(), age: millis(age), lease: 60_000 }
    }

    /// Sets for how long a message counts as in work, at the longest: after a program has ended in its work, the
    /// message waits for so long, and a handler that takes longer may meet another one with its message. The default is
    /// one minute.
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = millis(time);
        self
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn failed(error: rusqlite::Error) -> Failure {
    Failure::new("sqlite", format!("the store of what was done failed: {error}"))
}

type Row = (bool, i64, Option<Vec<u8>>, Option<String>, Option<String>, Option<String>);

impl Seen for SqliteStore {
    async fn begin(&self, id: &MessageId, _: Time) -> Result<Begun, Failure> {
        let (id, age, lease) = (id.clone(), self.age, self.lease);
        let begun = self.sqlite.transaction(move |tx| {
            let now = now();
            let old = "DELETE FROM hopmq_seen WHERE rowid IN (SELECT rowid FROM hopmq_seen WHERE at < ?1 LIMIT 100)";
            tx.execute(old, [now.saturating_sub(age)])?;
            let query = "SELECT done, at, reply, content_type, content_encoding, fault FROM hopmq_seen
                         WHERE queue = ?1 AND id = ?2";
            let read = |row: &rusqlite::Row<'_>| {
                Ok::<Row, _>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            };
            match tx.query_row(query, (&id.queue, &id.id), read).optional()? {
                Some((true, _, body, kind, encoding, fault)) => Ok(Begun::Done(body.map(|body| Payload {
                    body: Bytes::from(body),
                    content_type: kind.unwrap_or_default().into(),
                    content_encoding: encoding.unwrap_or_default().into(),
                    fault: fault.map(Into::into),
                }))),
                Some((false, at, ..)) if now - at < lease => Ok(Begun::InWork),
                _ => {
                    let note = "INSERT OR REPLACE INTO hopmq_seen (queue, id, done, at) VALUES (?1, ?2, 0, ?3)";
                    tx.execute(note, (&id.queue, &id.id, now))?;
                    Ok(Begun::Fresh)
                }
            }
        });
        begun.await.map_err(failed)
    }

    async fn complete(&self, id: &MessageId, reply: Option<Payload>, _: Time) -> Result<(), Failure> {
        let id = id.clone();
        let done = self.sqlite.transaction(move |tx| {
            let note =
                "INSERT OR REPLACE INTO hopmq_seen (queue, id, done, at, reply, content_type, content_encoding, fault)
                        VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7)";
            let body = reply.as_ref().map(|reply| &*reply.body);
            let kind = reply.as_ref().map(|reply| &*reply.content_type);
            let encoding = reply.as_ref().map(|reply| &*reply.content_encoding);
            let fault = reply.as_ref().and_then(|reply| reply.fault.as_deref());
            tx.execute(note, (&id.queue, &id.id, now(), body, kind, encoding, fault)).map(drop)
        });
        done.await.map_err(failed)
    }

    async fn forget(&self, id: &MessageId) -> Result<(), Failure> {
        let id = id.clone();
        let gone = self.sqlite.transaction(move |tx| {
            let delete = "DELETE FROM hopmq_seen WHERE queue = ?1 AND id = ?2 AND done = 0";
            tx.execute(delete, (&id.queue, &id.id)).map(drop)
        });
        gone.await.map_err(failed)
    }
}
