//! A small HTTP listener for probes: one request a connection, GET only.
//!
//! In come connections of a listener; out go the answers of [`Probes`]. It must never hold more than a few connections,
//! or any of them for long.

use std::future::pending;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use futures_util::stream::FuturesUnordered;

use super::probes::Probes;

/// How many connections are answered at once; further ones wait.
const MOST_CONNECTIONS: usize = 16;
/// How long a request and its answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The most bytes of a request's head.
const MOST_BYTES: usize = 8192;

impl Probes {
    /// Answers HTTP requests on a listener for ever, for programs without an HTTP server: run it beside the app, as
    /// with `app.run(&connection).or(…)`. Each connection has one request of at most 8 KiB and five seconds.
    ///
    /// ```no_run
    /// # use hopmq_app::{App, Metrics, Probes};
    /// use futures_lite::FutureExt;
    ///
    /// # async fn run(app: App<()>, connection: hopmq::Connection) -> Result<(), hopmq_app::Error> {
    /// let metrics = Metrics::new();
    /// let app = app.observe(metrics.clone());
    /// let probes = Probes::new(app.control(), metrics);
    /// let listener = std::net::TcpListener::bind("0.0.0.0:9100").expect("the port is free");
    /// let served = async {
    ///     probes.serve(listener).await.expect("the listener works");
    ///     Ok(())
    /// };
    /// app.run(&connection).or(served).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the system can't watch the listener. Errors of single connections are logged.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<()> {
        let listener = Async::new(listener)?;
        let mut open = FuturesUnordered::new();
        loop {
            let room = open.len() < MOST_CONNECTIONS;
            let accepted = async { if room { Some(listener.accept().await) } else { pending().await } };
            let answered = async { if open.next().await.is_some() { None } else { pending().await } };
            match accepted.or(answered).await {
                Some(Ok((stream, _))) => open.push(self.connection(stream)),
                Some(Err(error)) => {
                    tracing::warn!(%error, "a connection to the probes could not be accepted");
                    Timer::after(Duration::from_millis(100)).await;
                }
                None => {}
            }
        }
    }

    async fn connection(&self, stream: Async<TcpStream>) {
        let late = async {
            Timer::after(LIMIT).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        if let Err(error) = self.exchange(stream).or(late).await {
            tracing::debug!(%error, "a probe got no answer");
        }
    }

    async fn exchange(&self, mut stream: Async<TcpStream>) -> io::Result<()> {
        let mut head = Vec::new();
        let mut chunk = [0; 1024];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut chunk).await?;
            if read == 0 || head.len() + read > MOST_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            head.extend_from_slice(&chunk[..read]);
        }
        let line = String::from_utf8_lossy(&head);
        let mut words = line.split(' ');
        let (status, kind, body) = match (words.next(), words.next()) {
            (Some("GET"), Some(path)) => self.answer(path).unwrap_or((404, "text/plain", "not found\n".to_owned())),
            _ => (405, "text/plain", "only GET\n".to_owned()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.close().await
    }
}
