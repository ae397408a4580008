//! An outbox: messages that are written in the transaction of the data, and published afterwards.
//!
//! Owns the table of messages and the relay that publishes them. In come rows; out go confirmed publishes. It must
//! never delete a row before the broker has confirmed its message, and knows no handler.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::FutureExt;
use hopmq::{Channel, ErrorKind, Properties};
use rusqlite::Connection;

use crate::context::Context;
use crate::control::Control;
use crate::error::Error;
use crate::sqlite::{Sqlite, now};

/// How many messages are on their way at once.
const WINDOW: usize = 100;
/// How many bytes of bodies are on their way at once, unless one message is larger.
const WINDOW_BYTES: usize = 1 << 20;
/// The wait after the broker could not be reached.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The longest wait before a message that the broker refused is published again.
const LONGEST_WAIT: i64 = 60_000;

/// The outbox of a database. Clones are the same.
///
/// Write messages in the transaction of the data that they tell of, and let an app relay them. Whatever ends the
/// program, a message is published if and only if the data is there: at least once, in the order in which they were
/// written unless the broker refuses one. It keeps its `message-id` each time, so that a receiver that looks at it
/// ([`once`](crate::once)) handles it exactly once.
///
/// ```no_run
/// use hopmq_app::App;
/// use hopmq_app::outbox::{Outbox, Outgoing};
/// use hopmq_app::sqlite::Sqlite;
///
/// # async fn run(connection: &hopmq::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let sqlite = Sqlite::open("shop.db")?;
/// let outbox = Outbox::new(&sqlite);
/// let relay = outbox.clone();
/// let app = App::new(()).beside(|context, control| relay.relay(context, control));
/// let sold = async {
///     outbox
///         .transaction(|tx| {
///             tx.execute("INSERT INTO orders (item) VALUES ('pizza')", [])?;
///             Outbox::add(tx, &Outgoing::new("shop", "order.new", "a pizza"))
///         })
///         .await
/// };
/// # sold.await?;
/// app.run(connection).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Outbox {
    sqlite: Sqlite,
    bell: Arc<Bell>,
    poll: Duration,
}

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Outgoing {
    exchange: String,
    routing_key: String,
    properties: Properties,
    body: Vec<u8>,
}

impl Outgoing {
    /// Returns a persistent message.
    pub fn new(exchange: impl Into<String>, routing_key: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let properties = Properties::new().with_persistent();
        Self { exchange: exchange.into(), routing_key: routing_key.into(), properties, body: body.into() }
    }

    /// Sets the properties. Without a `message-id`, the message gets one when it is written.
    #[must_use]
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }
}

impl Outbox {
    /// Returns the outbox of a database.
    pub fn new(sqlite: &Sqlite) -> Self {
        Self { sqlite: sqlite.clone(), bell: Arc::default(), poll: Duration::from_secs(1) }
    }

    /// Sets how often the relay looks for messages that other programs have written, or that were written without
    /// [`transaction`](Self::transaction) and [`wake`](Self::wake). The default is one second.
    #[must_use]
    pub fn poll_every(mut self, time: Duration) -> Self {
        self.poll = time;
        self
    }

    /// Writes a message, in a transaction that the caller commits: of [`transaction`](Self::transaction), of
    /// [`Effect`](crate::once::Effect), or of any connection to the database. Returns its `message-id`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn add(tx: &Connection, message: &Outgoing) -> rusqlite::Result<String> {
        let id: String = match message.properties.message_id() {
            Some(id) => id.to_owned(),
            None => tx.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))?,
        };
        let properties = message.properties.to_owned_properties().with_message_id(&id);
        if let Err(error) = properties.validity() {
            return Err(rusqlite::Error::ToSqlConversionFailure(error.into()));
        }
        tx.execute(
            "INSERT INTO hopmq_outbox (exchange, routing_key, flags, properties, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            (&message.exchange, &message.routing_key, properties.flags(), properties.as_bytes(), &message.body),
        )?;
        Ok(id)
    }

    /// Runs a closure in a transaction, commits it if the closure succeeds, and wakes the relay: see
    /// [`Sqlite::transaction`].
    ///
    /// # Errors
    /// Those of [`Sqlite::transaction`].
    pub async fn transaction<T, E>(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        let done = self.sqlite.transaction(work).await;
        self.wake();
        done
    }

    /// Lets the relay look for messages now.
    pub fn wake(&self) {
        self.bell.ring();
    }

    /// Returns the messages that the broker refused, with the number of tries and the last error. They are tried again,
    /// in longer and longer intervals, until a person deletes them from the table `hopmq_outbox` or removes the cause.
    ///
    /// # Errors
    /// SQLite's.
    pub async fn refused(&self) -> rusqlite::Result<Vec<Refused>> {
        self.sqlite
            .transaction(|tx| {
                let query = "SELECT seq, exchange, routing_key, tries, error FROM hopmq_outbox
                             WHERE error IS NOT NULL ORDER BY seq";
                let mut query = tx.prepare(query)?;
                let rows = query.query_map([], |row| {
                    Ok(Refused {
                        number: row.get(0)?,
                        exchange: row.get(1)?,
                        routing_key: row.get(2)?,
                        tries: row.get(3)?,
                        error: row.get(4)?,
                    })
                })?;
                rows.collect()
            })
            .await
    }

    /// Publishes what is in the outbox, until the app is stopped: a future for [`App::beside`](crate::App::beside). One
    /// relay a database is enough; two may publish a message twice.
    ///
    /// # Errors
    /// If the connection of the app ends, or SQLite fails.
    pub async fn relay(self, context: Context, control: Control) -> Result<(), Error> {
        let mut relay = Relay { channel: context.connection().channel().await?, window: WINDOW };
        while !control.is_stopped() {
            let window = relay.window;
            let rows = self.sqlite.transaction(move |tx| due(tx, window)).await.map_err(failed)?;
            if rows.is_empty() {
                self.rest(&context, &control, self.poll).await;
                continue;
            }
            let round = relay.publish(rows).await;
            let unreached = round.unreached.is_some();
            if let Some(error) = round.unreached {
                if !context.connection().is_open() {
                    return Err(error.into());
                }
                tracing::warn!(%error, "the messages of an outbox could not be published; trying again");
            }
            let (done, refused) = (round.done, round.refused);
            self.sqlite.transaction(move |tx| note(tx, &done, &refused)).await.map_err(failed)?;
            if unreached {
                self.rest(&context, &control, AFTER_FAILURE).await;
            }
        }
        Ok(())
    }

    /// Waits for new messages, for a time.
    async fn rest(&self, context: &Context, control: &Control, time: Duration) {
        let time = async { context.sleep(time).await };
        self.bell.rung().or(control.stopped()).or(time).await;
    }
}

/// A message of an outbox that the broker refused: see [`Outbox::refused`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// Its number in the outbox.
    pub number: i64,
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// How often it was published.
    pub tries: u32,
    /// Why the broker refused it.
    pub error: String,
}

struct Row {
    seq: i64,
    exchange: String,
    routing_key: String,
    properties: Properties,
    body: Vec<u8>,
    tries: u32,
}

/// What became of some messages.
#[derive(Default)]
struct Round {
    done: Vec<i64>,
    refused: Vec<(i64, u32, String)>,
    /// Why some are neither.
    unreached: Option<hopmq::Error>,
}

struct Relay {
    channel: Channel,
    window: usize,
}

impl Relay {
    /// Publishes messages, and waits for the broker's word about each.
    async fn publish(&mut self, rows: Vec<Row>) -> Round {
        let mut round = Round::default();
        if !self.channel.is_open() {
            match self.channel.reopen().await {
                Ok(channel) => self.channel = channel,
                Err(error) => return Round { unreached: Some(error), ..round },
            }
        }
        // After the broker closed the channel, one message at a time shows whose fault it was.
        let alone = rows.len() == 1;
        let mut confirms = Vec::with_capacity(rows.len());
        for row in &rows {
            let publish = self.channel.publish(&row.exchange, &row.routing_key, &row.body[..]);
            confirms.push(publish.properties(&row.properties).mandatory().confirm_later().await);
        }
        for (row, confirm) in rows.iter().zip(confirms) {
            let confirmed = match confirm {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            match confirmed {
                Ok(()) => round.done.push(row.seq),
                Err(error) if is_refusal(&error, alone) => {
                    tracing::warn!(row.exchange, row.routing_key, %error, "the broker refused a message of an outbox");
                    round.refused.push((row.seq, row.tries + 1, error.to_string()));
                }
                Err(error) => round.unreached = Some(error),
            }
        }
        self.window = match &round.unreached {
            Some(error) if error.kind() == ErrorKind::ChannelClosed => 1,
            _ => (self.window * 2).min(WINDOW),
        };
        round
    }
}

fn is_refusal(error: &hopmq::Error, alone: bool) -> bool {
    match error.kind() {
        ErrorKind::Returned | ErrorKind::Nacked | ErrorKind::Usage => true,
        ErrorKind::ChannelClosed => alone,
        _ => false,
    }
}

fn due(tx: &Connection, window: usize) -> rusqlite::Result<Vec<Row>> {
    let query = "SELECT seq, exchange, routing_key, flags, properties, body, tries FROM hopmq_outbox
                 WHERE next_at <= ?1 ORDER BY seq LIMIT ?2";
    let mut query = tx.prepare_cached(query)?;
    let mut rows = query.query((now(), window as i64))?;
    let (mut due, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body: Vec<u8> = row.get(5)?;
        bytes += body.len();
        if bytes > WINDOW_BYTES && !due.is_empty() {
            break;
        }
        let properties = Properties::from_parts(row.get(3)?, row.get(4)?);
        let (exchange, routing_key, tries) = (row.get(1)?, row.get(2)?, row.get(6)?);
        due.push(Row { seq: row.get(0)?, exchange, routing_key, properties, body, tries });
    }
    Ok(due)
}

fn note(tx: &Connection, done: &[i64], refused: &[(i64, u32, String)]) -> rusqlite::Result<()> {
    let mut delete = tx.prepare_cached("DELETE FROM hopmq_outbox WHERE seq = ?1")?;
    for seq in done {
        delete.execute([seq])?;
    }
    for (seq, tries, error) in refused {
        let wait = 1000_i64.saturating_mul(1 << (tries - 1).min(16)).min(LONGEST_WAIT);
        let update = "UPDATE hopmq_outbox SET tries = ?2, next_at = ?3, error = ?4 WHERE seq = ?1";
        tx.execute(update, (seq, tries, now() + wait, error))?;
    }
    Ok(())
}

fn failed(error: rusqlite::Error) -> Error {
    Error::outbox(&error)
}

/// Wakes the relay.
#[derive(Debug, Default)]
struct Bell(Mutex<(bool, Option<Waker>)>);

impl Bell {
    fn ring(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        state.1.take().into_iter().for_each(Waker::wake);
    }

    async fn rung(&self) {
        poll_fn(|task| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut state.0) {
                return Poll::Ready(());
            }
            state.1 = Some(task.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
