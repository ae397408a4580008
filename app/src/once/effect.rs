use rusqlite::{OptionalExtension, Transaction};

use super::MessageId;
use crate::extract::{FromDelivery, FromRef};
use crate::flow::Verdict;
use crate::incoming::Incoming;
use crate::outcome::IntoVerdict;
use crate::sqlite::{Sqlite, now};

/// The effect of a message in a database, which happens exactly once: that the message is done is written in the
/// transaction of the effect. The app's state must have a [`Sqlite`]: see [`FromRef`].
///
/// Whatever ends the program, the effect and the note are both there or both not, and the broker delivers a message
/// that was not acknowledged again. Of two workers with the same message, the second waits for the first and does
/// nothing. A message without a `message-id` goes to the dead letters.
///
/// ```
/// use hopmq_app::Json;
/// use hopmq_app::once::{Applied, Effect};
///
/// async fn on_order(Json(item): Json<String>, effect: Effect) -> Result<Applied<()>, rusqlite::Error> {
///     effect
///         .apply(move |tx| {
///             tx.execute("UPDATE stock SET number = number - 1 WHERE item = ?1", [item])?;
///             Ok(())
///         })
///         .await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Effect {
    sqlite: Sqlite,
    id: MessageId,
}

/// Whether an effect happened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied<T> {
    /// It did, with this result.
    Now(T),
    /// It happened when the message came before.
    Before,
}

impl Effect {
    /// Runs a closure in a transaction, unless that was done for the same message before. The transaction must do
    /// nothing but write to the database: messages go to its [`Outbox`](crate::outbox::Outbox).
    ///
    /// # Errors
    /// The closure's, and SQLite's; nothing is written then, and the message may come again.
    ///
    /// Dropping the future leaves it open whether the effect happens.
    pub async fn apply<T, E>(
        self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<Applied<T>, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        let Self { sqlite, id } = self;
        sqlite
            .transaction(move |tx| {
                let note = "INSERT INTO hopmq_seen (queue, id, done, at) VALUES (?1, ?2, 1, ?3) ON CONFLICT DO NOTHING";
                if tx.execute(note, (&id.queue, &id.id, now()))? == 0 {
                    return Ok(Applied::Before);
                }
                work(tx).map(Applied::Now)
            })
            .await
    }

    /// Returns what the message is known by.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// Forgets what was done before this time, in milliseconds since 1970: call it now and then, with a time before
    /// which no message can come from any more. Returns how many were forgotten.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forget_before(tx: &Transaction<'_>, time: i64) -> rusqlite::Result<usize> {
        tx.execute("DELETE FROM hopmq_seen WHERE at < ?1", [time])
    }

    /// Returns when the message with this id was done, in milliseconds since 1970.
    ///
    /// # Errors
    /// SQLite's.
    pub fn done_at(tx: &Transaction<'_>, id: &MessageId) -> rusqlite::Result<Option<i64>> {
        let query = "SELECT at FROM hopmq_seen WHERE queue = ?1 AND id = ?2 AND done = 1";
        tx.query_row(query, (&id.queue, &id.id), |row| row.get(0)).optional()
    }
}

impl<S> FromDelivery<S> for Effect
where
    Sqlite: FromRef<S>,
{
    fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict> {
        Ok(Self { sqlite: Sqlite::from_ref(state), id: MessageId::of(incoming)? })
    }
}

impl<T> IntoVerdict for Applied<T> {
    fn into_verdict(self) -> Verdict {
        Verdict::Ack
    }
}
