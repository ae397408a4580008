//! A SQLite database, used from async code.
//!
//! Owns the connection, and the threads that its calls run on: those of the crate `blocking`, so that no call blocks
//! the app. In come closures; out go their results. It must never know a message.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::outcome::Classify;

/// How long a transaction waits for one of another program.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS hopmq_seen (
        queue TEXT NOT NULL,
        id TEXT NOT NULL,
        done INTEGER NOT NULL,
        at INTEGER NOT NULL,
        reply BLOB,
        content_type TEXT,
        content_encoding TEXT,
        fault TEXT,
        UNIQUE (queue, id)
    );
    CREATE INDEX IF NOT EXISTS hopmq_seen_at ON hopmq_seen (at);
    CREATE TABLE IF NOT EXISTS hopmq_outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        exchange TEXT NOT NULL,
        routing_key TEXT NOT NULL,
        flags INTEGER NOT NULL,
        properties BLOB NOT NULL,
        body BLOB NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        next_at INTEGER NOT NULL DEFAULT 0,
        error TEXT
    );
";

/// A SQLite database with the tables of [`once`](crate::once) and [`outbox`](crate::outbox), whose names begin with
/// `hopmq_`. Clones are the same connection to it.
///
/// Programs on one machine may share the file. Transactions run one after the other, each on a thread of the crate
/// `blocking`.
///
/// ```
/// use hopmq_app::sqlite::Sqlite;
///
/// # futures_lite::future::block_on(async {
/// let shop = Sqlite::open(":memory:")?;
/// shop.transaction(|tx| tx.execute_batch("CREATE TABLE stock (item TEXT PRIMARY KEY, number INTEGER)")).await?;
/// let items: i64 = shop.transaction(|tx| tx.query_row("SELECT count(*) FROM stock", [], |row| row.get(0))).await?;
/// assert_eq!(items, 0);
/// # Ok::<_, rusqlite::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Sqlite(Arc<Mutex<Connection>>);

impl Sqlite {
    /// Opens a database, or creates it, with a write-ahead log. It blocks while it does.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(path: impl AsRef<Path>) -> rusqlite::Result<Self> {
        Self::from_connection(Connection::open(path)?)
    }

    /// Takes a connection that is set up in another way.
    ///
    /// # Errors
    /// SQLite's.
    pub fn from_connection(connection: Connection) -> rusqlite::Result<Self> {
        connection.busy_timeout(BUSY)?;
        // A database in memory has another mode.
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.execute_batch(TABLES)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Runs a closure in a transaction, and commits it if the closure succeeds. The transaction begins `IMMEDIATE`: it
    /// sees all that was committed before, and no other writes meanwhile.
    ///
    /// # Errors
    /// The closure's, and SQLite's; nothing is written then.
    ///
    /// Dropping the future leaves it open whether the transaction is committed.
    pub async fn transaction<T, E>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        let this = self.clone();
        blocking::unblock(move || {
            let mut connection = this.0.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
        .await
    }
}

/// Returns the time of the system, in milliseconds since 1970: what is stored outlives the clock of a program.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

/// Tried again: the database may be busy, or full for a while.
impl Classify for rusqlite::Error {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        "sqlite".into()
    }
}
