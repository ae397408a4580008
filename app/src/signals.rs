//! Runs an app as a service: until the system asks the process to stop.
//!
//! Owns the order of the end: stop consuming, finish, confirm, close. In come signals; out goes the result of the app.
//! It must never end the process, and knows no handler.

use async_signal::{Signal, Signals};
use futures_lite::{FutureExt, StreamExt};
use hopmq::Connection;

use crate::app::App;
use crate::error::Error;
use crate::mode::{Asynchronous, Mode};

impl<S: 'static, M: Mode<S> + Asynchronous> App<S, M> {
    /// Runs the app until it fails, or SIGTERM or ctrl-c stop it; then closes the connection.
    ///
    /// After the first signal, the app takes no more messages, and finishes those in work within the
    /// [drain timeout](Self::drain_timeout); what it has published is confirmed, and the connection is closed. A second
    /// signal ends it at once: messages in work go back to their queues, as they do when the process is killed. While
    /// the future lives, signals do not end the process. On Windows, only ctrl-c is noticed.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), hopmq_app::Error> {
    /// let connection = hopmq::Connection::open("amqp://localhost").await?;
    /// hopmq_app::App::new(())
    ///     .route(hopmq_app::Queue::new("orders"), || async {})
    ///     .serve(&connection)
    ///     .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`run`](Self::run), of [`Connection::close`], and [`Interrupted`](crate::ErrorKind::Interrupted) after
    /// a second signal.
    pub async fn serve(self, connection: &Connection) -> Result<(), Error> {
        self.serve_on(connection).await
    }
}

impl<S: 'static, M: Mode<S>> App<S, M> {
    pub(crate) async fn serve_on(self, connection: &Connection) -> Result<(), Error> {
        let signals = if cfg!(unix) { Signals::new([Signal::Int, Signal::Term]) } else { Signals::new([Signal::Int]) };
        let mut signals = signals.map_err(Error::no_signals)?;
        let control = self.control();
        let work = async {
            let ran = self.run_with(connection, hopmq::IoTimer::new()).await;
            let closed = connection.close().await;
            ran.and(closed.map_err(Error::from))
        };
        let stop = async {
            next(&mut signals).await;
            control.stop();
            next(&mut signals).await;
            Err(Error::interrupted())
        };
        work.or(stop).await
    }
}

/// Waits for the next signal.
async fn next(signals: &mut Signals) {
    match signals.next().await {
        Some(Ok(signal)) => tracing::info!(?signal, "stopping; another signal ends the app at once"),
        Some(Err(error)) => {
            tracing::error!(%error, "signals can't be read any more");
            std::future::pending::<()>().await;
        }
        None => std::future::pending().await,
    }
}
